"""Drives many decoders over the lanes of one engine: queue, cancel, one forward pass for all.

One thread owns the engine. Each turn it admits queued runs, reads one chunk of one new prompt, writes the events
of all live lanes in one transaction and feeds all their mixtures in one step. A run's failure is its own.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from superpose.decoding import Advance, Decoder, Plan, StrategyFailed, TokenTexts, plan, setting
from superpose.engine import Engine, EngineError, LanesFull, OutOfMemory
from superpose.events import Event
from superpose.problems import BadInput
from superpose.spec import RunSpec
from superpose.store import Store
from superpose.types import Distribution, Mixture

CHUNK = 512  # prompt tokens read between two steps of the live lanes: bounds their stall
PACE = 0.1  # share of a new step in the pace
log = logging.getLogger("superpose")


class _Live:
    """One run between submission and end."""

    def __init__(self, run: str, work: Plan) -> None:
        self.run = run
        self.work = work
        self.submitted = time.perf_counter()
        self.started = self.prefilled = self.last = 0.0
        self.lane: int | None = None
        self.read = 0  # prompt tokens that the lane holds
        self.decoder: Decoder | None = None
        self.belief: Distribution | None = None
        self.fed = Mixture.token(work.prompt.token_ids[-1])  # the last input, for asking anew
        self.cancelled = False

    @property
    def left(self) -> int:
        """Steps that it still makes at most."""
        return self.work.spec.T_total + len(self.work.transition) - (self.decoder.step if self.decoder else 0)

    def timing(self) -> dict[str, float]:
        """Seconds in queue, prompt and decoding, and steps a second."""
        steps = self.decoder.step if self.decoder else 0
        decode = max(0.0, self.last - self.prefilled) if steps else 0.0
        return {
            "queue_s": round(max(0.0, (self.started or time.perf_counter()) - self.submitted), 4),
            "prefill_s": round(max(0.0, self.prefilled - self.started), 4),
            "decode_s": round(decode, 4),
            "tokens_per_second": round(steps / decode, 3) if decode else 0.0,
        }


class Ahead(NamedTuple):
    """A run that is not over, for people who wait."""

    run: str
    spec: RunSpec
    status: Literal["queued", "running", "paused"]
    left: int  # steps that it still makes at most


class Runner:
    """The runs of one engine. `submit` and `cancel` may be called from any thread."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self.engine = engine
        self.store = store
        self._texts = TokenTexts(engine.tokenizer)
        self._wake = threading.Condition()
        self._queue: deque[_Live] = deque()
        self._live: list[_Live] = []
        self._closing = False
        self._door = threading.Lock()  # a run comes in whole or not at all
        self.pace = 0.0  # seconds that a step takes of late; 0 before the first one
        self._thread = threading.Thread(target=self._work, name=f"superpose-{engine.info.name}", daemon=True)
        self._thread.start()

    def submit(self, spec: RunSpec) -> str:
        """The id of the queued run. Raises BadInput when this model cannot run the spec."""
        work = plan(spec.model_copy(update={"model": self.engine.info.model}), self.engine.info, self.engine.tokenizer)
        with self._door:
            if self._closing:
                raise BadInput("model", f"model {self.engine.info.model!r} is being unloaded; load it again")
            run = self.store.create(work.spec.model_dump(mode="json"))
            with self._wake:
                self._queue.append(_Live(run, work))
                self._wake.notify()
        return run

    def check(self, spec: RunSpec) -> list[str]:
        """What a careful colleague would say of the spec on this model. Raises BadInput as `submit` does."""
        info, tokenizer = self.engine.info, self.engine.tokenizer
        work = plan(spec, info, tokenizer)
        return spec.strategy.warnings(setting(work.spec, info, tokenizer, self._texts))

    def cancel(self, run: str) -> bool:
        """Asks for a run's end, which comes within one step; False when it is not queued or live here."""
        with self._wake:
            found = [live for live in [*self._queue, *self._live] if live.run == run]
            for live in found:
                live.cancelled = True
            self._wake.notify()
        return bool(found)

    def text(self, token: int) -> str:
        """A token's text for people."""
        return self._texts[token]

    def waiting(self) -> list[str]:
        """The queued runs, first to start first."""
        with self._wake:
            return [live.run for live in self._queue]

    def ahead(self) -> list[Ahead]:
        """The runs that are not over: live ones, then queued ones, first to start first."""
        with self._wake:
            return [
                *(Ahead(live.run, live.work.spec, "running", live.left) for live in self._live),
                *(Ahead(live.run, live.work.spec, "queued", live.left) for live in self._queue),
            ]

    def retire(self) -> bool:
        """Refuses new runs from now on; False, and nothing has changed, while there are any."""
        with self._door, self._wake:
            self._closing = not self._queue and not self._live
            self._wake.notify()
            return self._closing

    def close(self) -> None:
        """Cancels what is live, ends the thread and frees the engine."""
        with self._door, self._wake:
            self._closing = True
            for live in [*self._queue, *self._live]:
                live.cancelled = True
            self._wake.notify()
        self._thread.join()
        self.engine.release()

    # -- the engine's thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._live and not self._closing:
                    self._wake.wait()
                if self._closing and not self._queue and not self._live:
                    return
            try:
                self._turn()
            except Exception as error:  # a full disk, a bug: the runs end, the lab lives on
                log.exception("the runner failed")
                self._fail_all(f"{type(error).__name__}: {error}")

    def _turn(self) -> None:
        """One turn: admit, read a chunk of a prompt, one step for every lane that has a belief."""
        self._sweep()
        self._admit()
        reading = next((live for live in self._live if live.belief is None), None)
        if reading is not None:
            self._guard([reading], lambda: self._read(reading))
        self._step([live for live in self._live if live.belief is not None])

    def _sweep(self) -> None:
        """Ends cancelled runs."""
        with self._wake:
            queued = [live for live in self._queue if live.cancelled]
            for live in queued:
                self._queue.remove(live)
            stopped = queued + [live for live in self._live if live.cancelled]
        batch: list[tuple[str, Event]] = []
        for live in stopped:
            closing = live.decoder.cancel() if live.decoder else []
            batch += [(live.run, event) for event in [*closing, {"type": "run_cancelled", "timing": live.timing()}]]
        if batch:
            self.store.append(batch)
        for live in stopped:
            self._leave(live)

    def _admit(self) -> None:
        """Gives queued runs a lane, in order, while there are any."""
        while True:
            with self._wake:
                live = self._queue[0] if self._queue else None
            if live is None:
                return
            try:
                live.lane = self.engine.open()
            except LanesFull:
                return
            with self._wake:
                self._queue.popleft()
                self._live.append(live)
            info = self.engine.info
            live.started = time.perf_counter()
            started: Event = {
                "type": "run_started",
                "prompt": live.work.prompt._asdict(),
                "engine": {
                    "name": info.name,
                    "model": info.model,
                    "device": info.device,
                    "dtype": info.dtype,
                    "vocab": info.vocab,
                    "fingerprint": info.fingerprint,
                },
                "queue_s": live.timing()["queue_s"],
            }
            self.store.append([(live.run, started)])

    def _read(self, live: _Live) -> None:
        """Reads one chunk of the prompt; the last one gives the first belief."""
        if live.decoder is None:
            live.decoder = Decoder(live.work, self.engine.info, self.engine.tokenizer, self._texts)
        assert live.lane is not None
        ids = live.work.prompt.token_ids[live.read : live.read + CHUNK]
        belief = self.engine.prefill(live.lane, np.array(ids, np.int32), live.decoder.ask())
        live.read += len(ids)
        if live.read == len(live.work.prompt.token_ids):
            live.prefilled = live.last = time.perf_counter()
            self.store.append([(live.run, {"type": "prefilled", "prefill_s": live.timing()["prefill_s"]})])
            live.belief = belief

    def _step(self, ready: list[_Live]) -> None:
        """Decides for every lane, writes the events in one transaction, feeds all mixtures in one pass."""
        batch: list[tuple[str, Event]] = []
        stepped: list[tuple[_Live, Event, Mixture]] = []
        feeding: list[_Live] = []
        ended: list[_Live] = []
        for live in ready:
            try:
                move = self._decide(live)
            except (StrategyFailed, EngineError) as error:
                batch.append((live.run, self._failure(live, str(error))))
                ended.append(live)
                continue
            batch += [(live.run, event) for event in move.events]
            stepped += [(live, event, live.fed) for event in move.events if event["type"] == "step"]
            (ended if move.then == "end" else feeding).append(live)
        self._measure(stepped)
        for live in ended:
            if live.decoder is not None and live.decoder.finished:
                batch.append((live.run, {"type": "run_finished", "timing": live.timing()}))
        if batch:
            self.store.append(batch)
        for live in ended:
            self._leave(live)
        self._guard(feeding, lambda: self._feed(feeding))

    def _decide(self, live: _Live) -> Advance:
        """The run's next move; asks the engine anew where the question about the position has changed."""
        assert live.decoder is not None and live.belief is not None and live.lane is not None
        move = live.decoder.advance(live.belief)
        if move.then == "again":
            self.engine.rollback(live.lane, self.engine.length(live.lane) - 1)
            live.belief = self.engine.step([live.lane], [live.fed], [live.decoder.ask()])[0]
            again = live.decoder.advance(live.belief)
            move = again._replace(events=[*move.events, *again.events])
        if move.mixture is not None:
            live.fed = move.mixture
        return move

    def _measure(self, stepped: list[tuple[_Live, Event, Mixture]]) -> None:
        """Completes step events with what the engine and the clock know."""
        if not stepped:
            return
        try:
            ratios = self.engine.norm_ratios([fed for _, _, fed in stepped]).tolist()
        except EngineError:  # out of memory: the step itself will say so; a length is not worth a run
            ratios = [math.nan] * len(stepped)
        now = time.perf_counter()
        for (live, event, _), ratio in zip(stepped, ratios, strict=True):
            event["norm_ratio"] = float(f"{ratio:.6g}") if math.isfinite(ratio) else None
            took = now - live.last
            event["t_ms"] = round(1000 * took, 3)
            if live.last > live.prefilled:  # the first step takes no pass of its own
                self.pace += (took - self.pace) * (PACE if self.pace else 1)
            live.last = now

    def _feed(self, feeding: list[_Live]) -> None:
        decoders = [live.decoder for live in feeding if live.decoder is not None]
        beliefs = self.engine.step(
            [live.lane for live in feeding if live.lane is not None],
            [live.fed for live in feeding],
            [decoder.ask() for decoder in decoders],
        )
        for live, belief in zip(feeding, beliefs, strict=True):
            live.belief = belief

    # -- failures -----------------------------------------------------------------------------------------

    def _guard(self, lives: list[_Live], act: Callable[[], None]) -> None:
        """Does it. Without memory the longest run fails and the others go on; another error fails these."""
        while lives:
            try:
                return act()
            except OutOfMemory as error:
                longest = max(lives, key=lambda live: self.engine.length(live.lane) if live.lane is not None else 0)
                lives.remove(longest)
                step = longest.decoder.step if longest.decoder else 0
                log.warning("run %s: %s", longest.run, error)
                self._fail([longest], f"out of memory at step {step}: lower T_total or stop other runs")
            except (EngineError, StrategyFailed) as error:
                if len(lives) == 1:
                    return self._fail(lives, str(error))
                for live in lives:  # one of them is at fault; the engine has not moved any
                    self._guard([live], partial(self._feed, [live]))
                return None

    def _fail(self, lives: list[_Live], why: str) -> None:
        self.store.append([(live.run, self._failure(live, why)) for live in lives])
        for live in list(lives):
            self._leave(live)

    def _fail_all(self, why: str) -> None:
        """Ends every run after an error that is no run's own. Never raises."""
        with self._wake:
            lives = [*self._queue, *self._live]
        for live in lives:
            try:
                self._fail([live], why)
            except Exception:  # the store itself fails: recovery will mark the run at the next start
                log.exception("could not record that run %s failed (%s)", live.run, why)
                self.store.abandon(live.run)
                self._leave(live)

    def _failure(self, live: _Live, why: str) -> dict[str, Any]:
        return {"type": "run_failed", "error": why, "timing": live.timing()}

    def _leave(self, live: _Live) -> None:
        """Takes a run off the queue and its lane."""
        with self._wake:
            if live in self._queue:
                self._queue.remove(live)
            if live in self._live:
                self._live.remove(live)
        if live.lane is not None:
            self.engine.close(live.lane)
            live.lane = None
