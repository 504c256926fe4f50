"""One run between submission and end: its plan, its lane and what that is still to be fed, its pauses, its clock."""

from __future__ import annotations

import math
import time
from itertools import takewhile

import numpy as np

from superpose.decoding import Decoder
from superpose.events import Event
from superpose.planning import Plan
from superpose.recorded import Recorded
from superpose.types import Distribution, IntArray, Mixture


class Live:
    """A run that is not over. The runner's thread changes it; `hold`, `credit` and `cancelled` are others' wishes."""

    def __init__(self, run: str, work: Plan, recorded: Recorded) -> None:
        self.run = run
        self.work = work
        self.decoder: Decoder | None = None
        self.lane: int | None = None
        self.recorded = recorded  # fed again, after the prompt, before the run goes on
        self.read = 0  # inputs of prompt and record that the lane holds
        self.belief: Distribution | None = None
        self.fed = Mixture.token(work.prompt.token_ids[-1])  # the last input
        self.cancelled = False
        self.stopped = False  # with the whole process: nobody asked for it
        self.hold = False  # somebody wants it to wait
        self.turns = 0  # how often that has changed since an event said so
        self.paused = False  # it waits, and an event says so
        self.credit = 0  # single steps that it makes all the same
        self.until = math.inf  # when a paused run gives its lane up
        self.submitted = time.perf_counter()
        self.started = self.prefilled = self.last = 0.0
        self.ready = math.inf  # since when its next step could be made
        self.decoded = 0.0  # seconds of its own steps, pauses left out
        self.steps = 0  # of its own

    def wait(self, hold: bool) -> None:
        """Wants it to wait, or to go on; then steps that were asked for are void."""
        self.turns += hold != self.hold
        self.hold = hold
        if not hold:
            self.credit = 0

    @property
    def active(self) -> bool:
        """Whether it wants to go on."""
        return not self.paused or self.credit > 0

    @property
    def restless(self) -> bool:
        """Whether it needs the runner's attention."""
        return self.active or self.cancelled or self.turns > 0

    @property
    def loaded(self) -> bool:
        """Whether its lane holds all that it begins with."""
        return self.ahead == 0

    @property
    def left(self) -> int:
        """Steps that it still makes at most."""
        return self.work.spec.T_total + len(self.work.transition) - (self.decoder.step if self.decoder else 0)

    @property
    def ahead(self) -> int:
        """Inputs of prompt and record that its lane still lacks."""
        return len(self.work.prompt.token_ids) + len(self.recorded) - self.read

    def is_twin(self, other: Live) -> bool:
        """Whether it has read nothing, and is to read the other's prompt and no more."""
        fresh = self.read == 0 and self.work.past is None and self.belief is None
        return fresh and self.work.prompt.token_ids == other.work.prompt.token_ids

    def shares(self, other: Live, chunk: int) -> int:
        """How many inputs of another's lane are to the bit those that it would read itself.

        That is whole chunks of the prompt, short of its last token (whose belief is its own), or before a record all
        of the same prompt.
        """
        mine, theirs = self.work.prompt.token_ids, other.work.prompt.token_ids
        if self.recorded and mine == theirs and other.read >= len(mine):
            return len(mine)
        pairs = zip(mine[:-1], theirs[: other.read], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) // chunk * chunk

    def unread(self, most: int) -> IntArray | list[Mixture]:
        """The next inputs of the prompt [n] int32, or of the record."""
        prompt = self.work.prompt.token_ids
        if self.read < len(prompt):
            return np.array(prompt[self.read : self.read + most], np.int32)
        part = self.recorded.part(self.read - len(prompt), most)
        self.fed = part[-1]
        return part

    def loads(self) -> list[Event]:
        """The event of a prompt that was read, the first time that it was."""
        if self.prefilled:
            return []
        self.prefilled = time.perf_counter()
        return [{"type": "prefilled", "prefill_s": self.timing()["prefill_s"]}]

    def believes(self, belief: Distribution) -> None:
        """Takes the first belief to go on with; its clock starts."""
        self.belief = belief
        self.last = self.ready = time.perf_counter()

    def give_up(self) -> int | None:
        """Forgets its lane, which is to be closed; what it holds must be fed anew."""
        lane, self.lane, self.read, self.until = self.lane, None, 0, math.inf
        return lane

    def awake(self) -> None:
        """Takes the wait that ends now out of the time of the next step, not the pass that came before it."""
        now = time.perf_counter()
        if self.ready < now:
            self.last, self.ready = self.last + now - self.ready, now

    def timing(self) -> dict[str, float]:
        """Seconds in queue, prompt and decoding, and steps a second without the first, which takes no pass."""
        return {
            "queue_s": round(max(0.0, (self.started or time.perf_counter()) - self.submitted), 4),
            "prefill_s": round(max(0.0, self.prefilled - self.started), 4),
            "decode_s": round(self.decoded, 4),
            "tokens_per_second": round((self.steps - 1) / self.decoded, 3) if self.steps > 1 and self.decoded else 0.0,
        }
