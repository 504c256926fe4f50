"""A trial of the real weights: lanes compared with the model alone, and whether a lane's numbers depend on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from superpose.engine import Engine, EngineError, Invariance, Readout, UnsupportedModel
from superpose.problems import first_line
from superpose.types import FloatArray, IntArray, Mixture

T = TypeVar("T")

LANES = 4  # that a trial needs at once
POSITIONS = 96  # that each of them needs
_LENGTHS = (4, 9, 7)  # of the prompts of three lanes, each followed by
_STEPS = 3
_BESIDE = 64  # positions that another lane is longer by
_RELATIVE, _NATS = 1e-3, 0.02  # how far logits may be off in float32, and beliefs in narrower numbers


class Findings(NamedTuple):
    """What a trial measured, and the same in words."""

    invariance: Invariance
    checks: tuple[str, ...]


class Trial:
    """A comparison of lanes with the model alone.

    `alone(ids, embedded)` gives the model's own logits [T, V] for ids [T], fed as embeddings or as they are; `exact`
    says that it computes in float32. `narrow` names the numbers that go from layer to layer where they have fewer bits:
    rounding to them hides from all but one step in ten that another order of adding was taken. Raises UnsupportedModel
    where lanes and the model differ.
    """

    def __init__(
        self, name: str, vocab: int, exact: bool, alone: Callable[[IntArray, bool], FloatArray], narrow: str = ""
    ) -> None:
        self._name, self._exact, self._narrow = name, exact, narrow
        self._ids = [
            ((np.arange(length + _STEPS) * 7919 + 104729 * lane + 13) % vocab).astype(np.int32)
            for lane, length in enumerate(_LENGTHS)
        ]
        self._own = [alone(ids, False) for ids in self._ids]
        fed = alone(self._ids[0], True)
        self._words = [self._verdict("one-hot input equals token input", [self._own[0]], [fed])]

    def run(self, engine: Engine) -> Findings:
        """What was found. Raises UnsupportedModel where lanes and the model disagree."""
        return self._try(self._run, engine)

    def _try(self, part: Callable[[Engine], T], engine: Engine) -> T:
        try:
            return part(engine)
        except EngineError:
            raise
        except Exception as error:  # as above
            raise self._refusal(f"a forward pass over lanes failed ({first_line(error)})") from error

    def _run(self, engine: Engine) -> Findings:
        ask = Readout(support=1)
        a, b, c = lanes = [engine.open() for _ in _LENGTHS]

        def feed(tokens: dict[int, int]) -> dict[int, FloatArray]:
            """One step; the logits [V] of each lane."""
            engine.step(list(tokens), [Mixture.token(i) for i in tokens.values()], [ask] * len(tokens))
            return dict(zip(tokens, engine.logits(), strict=True))

        def replay(starts: dict[int, tuple[int, int]], steps: int) -> list[dict[int, FloatArray]]:
            """Feeds lanes their sequences from a position on: {lane: (sequence, position)}."""
            return [feed({lane: int(self._ids[k][at + i]) for lane, (k, at) in starts.items()}) for i in range(steps)]

        own: list[FloatArray] = []
        got: list[FloatArray] = []
        for k, (lane, length) in enumerate(zip(lanes, _LENGTHS, strict=True)):
            engine.prefill(lane, self._ids[k][:length], ask)
            own.append(self._own[k][length - 1])
            got.append(engine.logits()[0])
        starts = {lane: (k, length) for k, (lane, length) in enumerate(zip(lanes, _LENGTHS, strict=True))}
        first = replay(starts, _STEPS)
        for i, answers in enumerate(first):
            own += [self._own[k][at + i] for k, at in starts.values()]
            got += [answers[lane] for lane in lanes]
        words = [*self._words, self._verdict("lanes agree with the model alone", own, got)]

        for lane, (_, at) in starts.items():
            engine.rollback(lane, at)
        again = replay(starts, _STEPS)
        for lane in (b, c):
            engine.rollback(lane, starts[lane][1] + 1)
        d = engine.fork(a, _LENGTHS[0] + 1)
        forked = replay({d: (0, _LENGTHS[0] + 1), b: (1, _LENGTHS[1] + 1), c: (2, _LENGTHS[2] + 1)}, _STEPS - 1)
        own = [answers[lane] for answers in first for lane in lanes] + [answers[a] for answers in first[1:]]
        got = [answers[lane] for answers in again for lane in lanes] + [answers[d] for answers in forked]
        words.append(self._verdict("rollback and fork repeat the same numbers", own, got))

        engine.rollback(a, _LENGTHS[0])
        engine.prefill(c, np.full(_BESIDE, 3, np.int32), ask)  # so that a sees more columns than it has
        beside = feed({b: 1, a: int(self._ids[0][_LENGTHS[0]]), c: 2})[a]
        for lane in (b, c, d):
            engine.close(lane)
        alike, difference = self._copies(engine, a) if np.array_equal(beside, first[0][a]) else (False, "")
        engine.close(a)
        asked, every = "a lane's numbers depend on its neighbours", f"the same bits for 1 to {engine.info.max_lanes}"
        if not alike:
            return Findings("none", (*words, f"{asked}: yes, in the last bits"))
        if self._narrow and not difference:
            difference = f"if at all: {every} here, but rounding to {self._narrow} hides most differences"
        if difference:
            return Findings("fixed_n", (*words, f"{asked}: only on how many there are ({difference})"))
        return Findings("any_n", (*words, f"{asked}: no, {every}"))

    def _copies(self, engine: Engine, lane: int) -> tuple[bool, str]:
        """Whether copies of a lane answer the same bits in one step; where these depend on how many there are."""
        length, ask = _LENGTHS[0], Readout(support=1)
        lanes = [lane, *(engine.fork(lane, length) for _ in range(engine.info.max_lanes - 1))]
        alike, difference, seen = True, "", None
        for n in range(1, len(lanes) + 1):
            for each in lanes[:n]:
                engine.rollback(each, length)
            engine.step(lanes[:n], [Mixture.token(int(self._ids[0][length]))] * n, [ask] * n)
            answers = engine.logits()
            if not (alike := bool((answers == answers[0]).all())):
                break
            if seen is not None and not difference and not np.array_equal(seen, answers[0]):
                difference = f"{n - 1} and {n} differ by {np.abs(seen - answers[0]).max():.1e}"
            seen = answers[0]
        for each in lanes[1:]:
            engine.close(each)
        return alike, difference

    def _verdict(self, what: str, own: list[FloatArray], got: list[FloatArray]) -> str:
        """`what` in words with its measure. Raises UnsupportedModel beyond the tolerance."""
        expected, found = np.vstack(own), np.vstack(got)  # [m, V]
        off = float(np.abs(expected - found).max())
        if self._exact:
            good, measure = off <= _RELATIVE * float(np.abs(expected).max()), f"max difference {off:.2g}"
        else:
            p, q = (_log_softmax(x) for x in (expected, found))
            nats = float((np.exp(p) * (p - q)).sum(-1).mean())
            good, measure = nats < _NATS, f"max difference {off:.2g}, {nats:.1e} nats"
        if not good:  # so also for NaN
            raise self._refusal(f"it failed its self-check; {what}: no ({measure})")
        return f"{what}: yes ({measure})"

    def _refusal(self, reason: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self._name} cannot be driven by embeddings: {reason}")


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(-1, keepdims=True)
    logs: FloatArray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logs
