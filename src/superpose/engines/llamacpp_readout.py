"""Rows of logits in numpy: without torch, and without its threads, which would take the cores from llama.cpp's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from superpose.engine import Readout
from superpose.engines.readout import BLOCK, COLDEST, NEVER, Float64Array, Sums, answers
from superpose.types import Distribution, FloatArray, IntArray


def read(logits: FloatArray, asks: Sequence[Readout]) -> list[Distribution]:
    """One Distribution a row of `logits` [n, vocab], at each lane's own temperature, filters and random number.

    A logit of -inf is probability 0. Raises EngineError for a row with NaN, with +inf, or with nothing finite.
    """
    return answers(_Rows(logits, asks), asks, logits.shape[1])


class _Rows:
    """Scores [vocab] of each row, logits less the highest, and what they come to."""

    def __init__(self, logits: FloatArray, asks: Sequence[Readout]) -> None:
        self._scores: list[FloatArray] = []
        self._sums: list[Sums] = []
        for row, ask in zip(logits, asks, strict=True):
            highest = row.max()
            self._scores.append(row if not np.isfinite(highest) else np.maximum(row - highest, np.float32(NEVER)))
            self._sums.append(_sums(self._scores[-1], float(highest), ask))

    def fetch(self, rows: Sequence[int], count: int) -> list[tuple[IntArray, Float64Array, Sums]]:
        """For each row its `count` likeliest ids [count], the lowest of equals first, their scores and its sums."""
        found = []
        for row in rows:
            scores = self._scores[row]
            ids = _likeliest(scores, count)
            found.append((ids, scores[ids].astype(np.float64), self._sums[row]))
        return found


def _sums(scores: FloatArray, highest: float, ask: Readout) -> Sums:
    """Everything that needs all of a row's scores [vocab], of which the highest is 0."""
    if not np.isfinite(highest):
        return Sums(highest, 0.0, 0.0, 0.0, 0, 0.0)
    share = np.exp(scores)
    entropy = entropy_raw = _entropy(share, scores)
    if ask.temperature < COLDEST:
        likeliest = int(scores.argmax())
        return Sums(highest, 1.0, 0.0, entropy_raw, likeliest, 1.0)
    if ask.temperature != 1:
        tempered = scores / np.float32(ask.temperature)
        share = np.exp(tempered, out=share)
        entropy = _entropy(share, tempered)
    starts = np.arange(0, len(share), BLOCK)
    sums = np.add.reduceat(share, starts).cumsum(dtype=np.float64)
    total = sums[-1]
    wanted = min(ask.u * total, np.nextafter(total, 0))  # however it was rounded, something is hit
    block = int(np.searchsorted(sums, wanted, side="right"))
    before = sums[block - 1] if block else 0.0
    inside = share[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
    wanted = min(wanted - before, np.nextafter(inside[-1], 0))
    drawn = block * BLOCK + int(np.searchsorted(inside, wanted, side="right"))
    return Sums(highest, float(total), entropy, entropy_raw, drawn, float(share[drawn] / total))


def _entropy(share: FloatArray, scores: FloatArray) -> float:
    """Nats of the exponentials `share` [vocab] of scores whose highest is 0."""
    total = float(share.sum())
    return max(0.0, float(np.log(total)) - float((share * scores).sum()) / total)


def _likeliest(scores: FloatArray, count: int) -> IntArray:
    """Ids [count] of the highest scores [vocab], none of which is above 0; the lowest of equals first."""
    if count < len(scores):
        edge = len(scores) - count
        least = np.partition(scores, edge)[edge]
        ids = np.flatnonzero(scores >= least)
        return ids[np.lexsort((ids, -scores[ids]))][:count].astype(np.int32)
    # Whole numbers are sorted several times as fast: the bits of what a score lacks, and the id behind them.
    lacks = (0 - scores).view(np.int32).astype(np.int64)
    keys = lacks << 32 | np.arange(len(scores))
    keys.sort()
    return (keys & 0xFFFFFFFF).astype(np.int32)
