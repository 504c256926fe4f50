"""Questions to a model beside its runs: any thread asks, the engine's own thread answers between two steps."""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import NamedTuple

from superpose.engine import Engine, Near
from superpose.types import Mixture

MOST = 8  # that wait: each of them keeps the thread of who asks
PATIENCE_S = 10.0
_NEAREST = 3


class Unanswered(RuntimeError):
    """The engine's thread did not come to it; the message is one sentence."""


class Measure(NamedTuple):
    """What a mixture is, whether or not anybody feeds it; no ratio where its length is not a finite number."""

    norm_ratio: float | None
    nearest: list[Near]


class Questions:
    """Mixtures that wait to be measured. `wake` is the lock and the bell of the engine's thread."""

    def __init__(self, engine: Engine, wake: threading.Condition) -> None:
        self._engine, self._wake = engine, wake
        self._waiting: deque[tuple[Mixture, Future[Measure]]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, mixture: Mixture) -> Measure:
        """Length and nearest tokens of a mixture. Raises Unanswered, and what the engine raises."""
        answer: Future[Measure] = Future()
        with self._wake:
            if self._closed:
                raise Unanswered("the model is being unloaded; load it again")
            if len(self._waiting) >= MOST:
                raise Unanswered(f"{MOST} others wait for an answer of the model; try again")
            self._waiting.append((mixture, answer))
            self._wake.notify()
        try:
            return answer.result(PATIENCE_S)
        except TimeoutError as error:
            answer.cancel()
            with self._wake:  # else it would count as waiting
                self._waiting = deque(each for each in self._waiting if each[1] is not answer)
            raise Unanswered(f"the model was busy for {PATIENCE_S:g} s; try again") from error
        except CancelledError as error:
            raise Unanswered("the model is being unloaded; load it again") from error

    def answer(self) -> None:
        """Answers one question, if any waits: runs are held up by no more. Of the engine's thread."""
        with self._wake:
            if not self._waiting:
                return
            mixture, answer = self._waiting.popleft()
        if not answer.set_running_or_notify_cancel():
            return
        try:
            ratio = float(self._engine.norm_ratios([mixture])[0])
            nearest = self._engine.nearest(mixture, _NEAREST)
        except Exception as error:  # it is told to who asked; no run is at fault
            answer.set_exception(error)
        else:
            answer.set_result(Measure(ratio if math.isfinite(ratio) else None, nearest))

    def close(self) -> None:
        """Answers nothing any more."""
        with self._wake:
            self._closed = True
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()
