"""Drives many decoders over the lanes of one engine: queue, pause, cancel, forks, one forward pass for all.

One thread owns the engine. Each turn it admits queued runs, reads one chunk of one new prompt (or of what a fork
begins with), writes the events of all live lanes in one transaction and feeds all their mixtures in one step. So live
lanes wait for one chunk at most, and what several prompts begin with is read once. A run's failure is its own. A paused
run keeps its lane for a while; then it goes on by feeding what it recorded again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from superpose.decoding import Advance
from superpose.engine import Engine, EngineError, OutOfMemory
from superpose.events import Event
from superpose.live import Live
from superpose.planning import Plan, StrategyFailed, branch, plan, repetition, setting
from superpose.problems import BadInput, clip
from superpose.questions import Measure, Questions
from superpose.reading import Reader
from superpose.recorded import Recorded, feed
from superpose.replay import copies, cut
from superpose.spec import RunSpec
from superpose.store import Store
from superpose.store_events import UnknownRun
from superpose.texts import TokenTexts
from superpose.types import Mixture

PACE = 0.1  # share of a new step in the pace
HOLD_S = 300.0  # for which a paused run keeps its lane, unless another run needs it
STOPPED = "superpose was stopped while this run was live; what it had is kept"
log = logging.getLogger("superpose")


class Ahead(NamedTuple):
    """A run that is not over, for people who wait."""

    run: str
    spec: RunSpec
    status: Literal["queued", "running", "paused"]
    left: int  # steps that it still makes at most
    unread: int  # tokens, and steps of a record, that it reads before


class Runner:
    """The runs of one engine. What comes before `close`, and `close`, may be called from any thread."""

    def __init__(self, engine: Engine, store: Store, *, hold_s: float = HOLD_S) -> None:
        self.engine = engine
        self.store = store
        self._hold_s = hold_s
        self._texts = TokenTexts(engine.tokenizer)
        self._wake = threading.Condition()
        self._queue: deque[Live] = deque()
        self._live: list[Live] = []
        self._questions = Questions(engine, self._wake)
        self._reader = Reader(engine, store, self._texts, self._live)
        self._closing = False
        self._door = threading.Lock()  # a run comes in whole or not at all
        self.pace = 0.0  # seconds that a step takes of late; 0 before the first one
        self._thread = threading.Thread(target=self._work, name=f"superpose-{engine.info.name}", daemon=True)
        self._thread.start()

    def submit(self, spec: RunSpec) -> str:
        """The id of the queued run. Raises BadInput when this model cannot run the spec."""
        info = self.engine.info
        work = plan(spec.model_copy(update={"model": info.model}), info, self.engine.tokenizer)
        events: list[Event] = []
        if spec.fork is not None:
            try:
                parent = self.store.spec(spec.fork.run)
            except UnknownRun as error:
                raise BadInput("fork.run", f"there is no run {clip(spec.fork.run)!r} to branch from") from error
            past = cut(self.store.past(spec.fork.run), spec.fork.step)
            work = branch(work, past, parent, info)
            events = copies(work.past or past, parent["seed"])
        if not self._live and not self.engine.fits([work.positions]):  # beside live lanes it may have to wait for them
            raise BadInput("T_total", self._too_long(work))
        with self._door:
            if self._closing:
                raise BadInput("model", f"model {info.model!r} is being unloaded; load it again")
            run = self.store.create(work.spec.model_dump(mode="json"), events)
            live = Live(run, work, Recorded(self.store, run, work.spec.seed, spec.fork.step if spec.fork else 0))
            with self._wake:
                self._queue.append(live)
                self._wake.notify()
        return run

    def check(self, spec: RunSpec, repeats: int = 1) -> list[str]:
        """What a careful colleague would say of the spec, run with so many seeds on this model.

        Raises BadInput as `submit` does.
        """
        info, tokenizer = self.engine.info, self.engine.tokenizer
        work = plan(spec, info, tokenizer)
        said = spec.strategy.warnings(setting(work.spec, info, tokenizer, self._texts))
        return [*said, *repetition(spec, repeats)]

    def measure(self, mixture: Mixture) -> Measure:
        """Length and nearest tokens of a mixture, between two steps of the runs. Raises BadInput, Unanswered."""
        if int(mixture.ids.max()) >= self.engine.info.vocab:
            raise BadInput("mixture.ids", f"token ids must be below {self.engine.info.vocab}; got {mixture.ids.max()}")
        return self._questions.ask(mixture)

    def cancel(self, run: str) -> bool:
        """Asks for a run's end, which comes within one step; False when it is not queued or live here."""
        return self._ask(run, lambda live: setattr(live, "cancelled", True))

    def pause(self, run: str) -> bool:
        """Asks a run to wait, which it does within one step; False when it is not queued or live here."""
        return self._ask(run, lambda live: live.wait(True))

    def resume(self, run: str) -> bool:
        """Asks a paused run to go on; False when it is not queued or live here."""
        return self._ask(run, lambda live: live.wait(False))

    def advance(self, run: str, steps: int) -> bool:
        """Asks a paused run for single steps; False when it is not paused here."""

        def credit(live: Live) -> bool:
            if live.hold and not live.cancelled:
                if live.paused and not live.credit:
                    live.awake()
                live.credit = min(live.credit + steps, live.work.spec.T_total)
            return live.hold and not live.cancelled

        return self._ask(run, credit)

    def _ask(self, run: str, wish: Callable[[Live], object]) -> bool:
        """Whether the run is queued or live here and its wish was taken (a wish may answer False)."""
        with self._wake:
            found = [live for live in [*self._queue, *self._live] if live.run == run]
            taken = [wish(live) is not False for live in found]
            self._wake.notify()
        return any(taken)

    def text(self, token: int) -> str:
        """A token's text for people."""
        return self._texts[token]

    def ahead(self) -> list[Ahead]:
        """The runs that are not over: live ones, then queued ones, first to start first."""
        with self._wake:
            return [_ahead(live) for live in [*self._live, *self._queue]]

    def retire(self) -> bool:
        """Refuses new runs from now on; False, and nothing has changed, while there are any."""
        with self._door, self._wake:
            self._closing = not self._queue and not self._live
            self._wake.notify()
            return self._closing

    def close(self) -> None:
        """Cancels what is live, with that reason, ends the thread and frees the engine."""
        with self._door, self._wake:
            self._closing = True
            for live in [*self._queue, *self._live]:
                live.stopped = not live.cancelled
                live.cancelled = True
            self._wake.notify()
        self._thread.join()
        self.engine.release()

    # -- the engine's thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._closing and not self._restless():
                    self._wake.wait(self._patience())
                if self._closing and not self._queue and not self._live:
                    return self._questions.close()
            try:
                self._turn()
            except Exception as error:  # a full disk, a bug: the runs end, the lab lives on
                log.exception("the runner failed")
                self._fail_all(f"{type(error).__name__}: {error}")

    def _restless(self) -> bool:
        """Whether any run or question needs attention, or a pause has outlived its lane."""
        lives = [*self._queue, *self._live]
        return len(self._questions) > 0 or any(live.restless or live.until <= time.monotonic() for live in lives)

    def _patience(self) -> float | None:
        """Seconds until the next pause outlives its lane; None when there is none."""
        next_end = min((live.until for live in self._live), default=math.inf)
        return None if next_end == math.inf else max(0.0, next_end - time.monotonic())

    def _turn(self) -> None:
        """One turn: a question, admit, read a chunk of a prompt, one step for every lane that has a belief."""
        self._questions.answer()
        self._sweep()
        self._settle()
        self._admit()
        active = [live for live in self._live if live.active]
        if unread := [live for live in active if not live.loaded]:
            self._guard([self._reader.choose(unread)], lambda lives: self._reader.read(*lives))
        self._step([live for live in active if live.loaded and live.lane is not None])

    def _settle(self) -> None:
        """Says who waits and who goes on again, and takes the lanes of those who have waited for long."""
        batch: list[tuple[str, Event]] = []
        with self._wake:
            lives = [*self._queue, *self._live]
            for live in [live for live in lives if live.turns]:
                live.turns = 0
                # A wish that was taken back within a step is told as well: who asked waits for an event.
                for held in [live.hold] if live.hold != live.paused else [not live.hold, live.hold]:
                    live.paused = held
                    batch.append((live.run, self._pause(live) if held else self._resume(live)))
        if batch:
            self.store.append(batch)
        for live in [live for live in self._live if live.until <= time.monotonic() and not live.credit]:
            self._park(live)

    def _park(self, live: Live) -> None:
        """Takes a paused run's lane; it goes back to the queue's head and later feeds what it recorded again."""
        lane = live.give_up()
        if lane is not None:
            self.engine.close(lane)
        if live.belief is not None and live.decoder is not None:
            live.recorded = Recorded(self.store, live.run, live.work.spec.seed, live.decoder.step)
        with self._wake:
            self._live.remove(live)
            self._queue.appendleft(live)
        self.store.append([(live.run, {"type": "lane_released"})])

    def _sweep(self) -> None:
        """Ends cancelled runs."""
        with self._wake:
            queued = [live for live in self._queue if live.cancelled]
            for live in queued:
                self._queue.remove(live)
            stopped = queued + [live for live in self._live if live.cancelled]
        batch: list[tuple[str, Event]] = []
        for live in stopped:
            closing = (
                live.decoder.cancel("superpose was stopped" if live.stopped else "stopped") if live.decoder else []
            )
            end: Event = {"type": "run_cancelled", "timing": live.timing()}
            if live.stopped:
                end["error"] = STOPPED
            batch += [(live.run, event) for event in [*closing, end]]
        if batch:
            self.store.append(batch)
        for live in stopped:
            self._leave(live)

    def _admit(self) -> None:
        """Gives queued runs a lane, in order, while there are any and memory for all that their lanes may hold."""
        while True:
            with self._wake:
                live = next((live for live in self._queue if live.active), None)
            if live is None:
                return
            if not self._fit([live, *self._live]):
                active = [other for other in self._live if other.active]
                if not self._live:
                    self._fail([live], self._too_long(live.work))
                elif len(active) < len(self._live) and self._fit([live, *active]):
                    self._park(min((other for other in self._live if not other.active), key=lambda other: other.until))
                else:
                    return
                continue
            live.lane = self.engine.open()
            with self._wake:
                self._queue.remove(live)
                self._live.append(live)
            batch: list[Event] = []
            if not live.started:  # else it was paused, and had a lane before
                live.started = time.perf_counter()
                batch.append(self._started(live))
            if live.paused:  # it has a lane for single steps, and waits with it
                batch.append(self._pause(live))
            if batch:
                self.store.append([(live.run, event) for event in batch])

    def _fit(self, lives: list[Live]) -> bool:
        """Whether there are lanes for all of these, and memory for all that they may hold."""
        few = len(lives) <= self.engine.info.max_lanes
        return few and self.engine.fits([live.work.positions for live in lives])

    def _too_long(self, work: Plan) -> str:
        info = self.engine.info
        return f"the memory of {info.device} cannot hold {work.positions} tokens of {info.model}; lower T_total"

    def _started(self, live: Live) -> Event:
        info = self.engine.info
        return {
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

    def _pause(self, live: Live) -> Event:
        live.until = time.monotonic() + self._hold_s if live.lane is not None else math.inf
        step = live.decoder.step if live.decoder else 0
        return {"type": "run_paused", "step": step, "held_s": self._hold_s if live.lane is not None else 0}

    def _resume(self, live: Live) -> Event:
        live.until = math.inf
        live.awake()
        return {"type": "run_resumed", "status": "running" if live.started else "queued"}

    def _step(self, ready: list[Live]) -> None:
        """Decides for every lane, feeds all mixtures in one pass, meanwhile writes the events in one transaction."""
        batch: list[tuple[str, Event]] = []
        stepped: list[tuple[Live, Event, Mixture]] = []
        feeding: list[Live] = []
        ended: list[Live] = []
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
        now = time.perf_counter()

        @_once
        def write() -> None:
            self._measure(stepped, now)
            for live in ended:
                if live.decoder is not None and live.decoder.finished:
                    batch.append((live.run, {"type": "run_finished", "timing": live.timing()}))
            if batch:
                large = [feed(live.run, event, fed) for live, event, fed in stepped if "fed_rest" in event]
                self.store.append(batch, large)
            # Let go of while they are in the processor's caches: behind the pass that takes several times as long.
            batch.clear()
            stepped.clear()

        def feed_and_write(lives: list[Live]) -> None:
            try:
                self._feed(lives, write)
            except Exception:
                write()  # before anybody says that it failed
                raise

        if ended:  # their lanes are not to be in the way of the others
            write()
            for live in ended:
                self._leave(live)
        self._guard(feeding, feed_and_write)
        write()

    def _decide(self, live: Live) -> Advance:
        """The run's next move; asks the engine anew where the question about the position has changed."""
        assert live.decoder is not None and live.belief is not None
        move = live.decoder.advance(live.belief)
        if move.then == "again":
            live.belief = self._reader.anew(live)
            again = live.decoder.advance(live.belief)
            move = again._replace(events=[*move.events, *again.events])
        if move.mixture is not None:
            live.fed = move.mixture
        return move

    def _measure(self, stepped: list[tuple[Live, Event, Mixture]], now: float) -> None:
        """Completes step events with what the engine knows, and the clock knew when they were decided."""
        if not stepped:
            return
        try:
            ratios = self.engine.norm_ratios([fed for _, _, fed in stepped]).tolist()
        except RuntimeError as error:  # no memory, or no device: a length is not worth a run
            if isinstance(error, OutOfMemory) or not isinstance(error, EngineError):  # else the step itself will say so
                log.warning("lengths of mixtures could not be told: %s", error)
            ratios = [math.nan] * len(stepped)
        for (live, event, _), ratio in zip(stepped, ratios, strict=True):
            event["norm_ratio"] = float(f"{ratio:.6g}") if math.isfinite(ratio) else None
            took = now - live.last
            event["t_ms"] = round(1000 * took, 3)
            if live.steps and not live.paused:  # the first step takes no pass of its own, a single one waited
                self.pace += (took - self.pace) * (PACE if self.pace else 1)
            live.decoded += took
            live.steps += 1
        with self._wake:
            for live, _, _ in stepped:
                live.last, live.ready = now, math.inf
                if live.paused:  # a single step; one that was asked for before the pause began is still due
                    live.credit -= 1
                    live.until = time.monotonic() + self._hold_s

    def _feed(self, feeding: list[Live], meanwhile: Callable[[], None]) -> None:
        lanes = [live.lane for live in feeding if live.lane is not None]
        asks = [live.decoder.ask() for live in feeding if live.decoder is not None]
        self.engine.meanwhile(meanwhile)
        beliefs = self.engine.step(lanes, [live.fed for live in feeding], asks)
        now = time.perf_counter()
        for live, belief in zip(feeding, beliefs, strict=True):
            live.belief, live.ready = belief, now

    # -- failures -----------------------------------------------------------------------------------------

    def _guard(self, lives: list[Live], act: Callable[[list[Live]], None]) -> None:
        """Does it with them. Without memory the longest run fails and the others go on; another error fails these."""
        while lives:
            try:
                return act(lives)
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
                    self._guard([live], act)
                return None

    def _fail(self, lives: list[Live], why: str) -> None:
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

    def _failure(self, live: Live, why: str) -> dict[str, Any]:
        return {"type": "run_failed", "error": why, "timing": live.timing()}

    def _leave(self, live: Live) -> None:
        """Takes a run off the queue and its lane."""
        with self._wake:
            if live in self._queue:
                self._queue.remove(live)
            if live in self._live:
                self._live.remove(live)
        if live.lane is not None:
            self.engine.close(live.lane)
            live.lane = None


def _once(act: Callable[[], None]) -> Callable[[], None]:
    """Does it the first time; what it raised then is raised every time."""
    tried, failure = False, None

    def attempt() -> None:
        nonlocal tried, failure
        if failure is not None:
            raise failure
        if not tried:
            tried = True
            try:
                act()
            except Exception as error:
                failure = error
                raise

    return attempt


def _ahead(live: Live) -> Ahead:
    status: Literal["queued", "running", "paused"] = "running" if live.lane is not None else "queued"
    return Ahead(live.run, live.work.spec, "paused" if live.paused else status, live.left, live.ahead)
