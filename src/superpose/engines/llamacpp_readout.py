"""Rows of logits in numpy: without torch, and without its threads, which would take the cores from llama.cpp's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from superpose.engine import Readout
from superpose.engines.readout import BLOCK, COLDEST, NEVER, Float64Array, Sums, answers
from superpose.types import Distribution, FloatArray, IntArray

# How far below the highest logit the likeliest tokens are looked for, until enough are found.
_NEAR = np.float32(8), np.float32(16), np.float32(np.inf)


class Reader:
    """Reads logits of so many tokens; what it needs for that is made once, or it would cost as much as the work."""

    def __init__(self, vocab: int) -> None:
        self._scores, self._share = np.empty((2, vocab), np.float32)

    def read(self, logits: FloatArray, asks: Sequence[Readout]) -> list[Distribution]:
        """One Distribution a row of `logits` [n, vocab], at each lane's own temperature, filters and random number.

        A logit of -inf is probability 0. Raises EngineError for a row with NaN, with +inf, or with nothing finite.
        """
        sums = [self._sum(row, ask) for row, ask in zip(logits, asks, strict=True)]
        return answers(_Rows(logits, sums), asks, logits.shape[1])

    def _sum(self, row: FloatArray, ask: Readout) -> Sums:
        """Everything that needs all of a row's logits [vocab]."""
        highest = row.max()
        if not np.isfinite(highest):
            return Sums(float(highest), 0.0, 0.0, 0.0, 0, 0.0)
        lowest = NEVER if row.min() == -np.inf else None
        entropy = entropy_raw = self._entropy(row, highest, lowest, 1.0)
        if ask.temperature < COLDEST:
            return Sums(float(highest), 1.0, 0.0, entropy_raw, int(row.argmax()), 1.0)
        if ask.temperature != 1:
            entropy = self._entropy(row, highest, lowest, ask.temperature)
        drawn, total = _draw(self._share, ask.u)
        return Sums(float(highest), total, entropy, entropy_raw, drawn, float(self._share[drawn]) / total)

    def _entropy(self, row: FloatArray, highest: np.float32, lowest: float | None, temperature: float) -> float:
        """Nats of a row's scores at a temperature, whose exponentials are the shares afterwards."""
        scores, share = self._scores, self._share
        np.subtract(row, highest, out=scores)
        if lowest is not None:
            np.maximum(scores, np.float32(lowest), out=scores)
        if temperature != 1:
            np.divide(scores, np.float32(temperature), out=scores)
        total = float(np.exp(scores, out=share).sum())
        return max(0.0, float(np.log(total)) - float(np.multiply(scores, share, out=scores).sum()) / total)


class _Rows:
    """Rows of logits, and what each comes to."""

    def __init__(self, logits: FloatArray, sums: list[Sums]) -> None:
        self._logits, self._sums = logits, sums

    def fetch(self, rows: Sequence[int], count: int) -> list[tuple[IntArray, Float64Array, Sums]]:
        """For each row its `count` likeliest ids [count], the lowest of equals first, their scores and its sums."""
        found = []
        for row in rows:
            logits, sums = self._logits[row], self._sums[row]
            highest = np.float32(sums.highest)
            ids = _likeliest(logits, highest, count) if np.isfinite(highest) else np.zeros(0, np.int32)
            found.append((ids, np.maximum(logits[ids] - highest, NEVER).astype(np.float64), sums))
        return found


def _draw(share: FloatArray, u: float) -> tuple[int, float]:
    """The first token id whose cumulative share in token-id order exceeds `u` of the whole; the whole.

    Sums of blocks lead to the block; only its own shares are then added one by one.
    """
    sums = np.add.reduceat(share, np.arange(0, len(share), BLOCK)).cumsum(dtype=np.float64)
    wanted = min(u * sums[-1], np.nextafter(sums[-1], 0))  # however it was rounded, something of some share is hit
    block = int(np.searchsorted(sums, wanted, side="right"))
    inside = share[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
    wanted = min(wanted - (sums[block - 1] if block else 0.0), np.nextafter(inside[-1], 0))
    return block * BLOCK + int(np.searchsorted(inside, wanted, side="right")), float(sums[-1])


def _likeliest(row: FloatArray, highest: np.float32, count: int) -> IntArray:
    """Ids [count] of the highest logits [vocab], the lowest of equals first."""
    if count < len(row):
        tried = (np.flatnonzero(row >= highest - span) for span in _NEAR)
        near = next(ids for ids in tried if len(ids) >= count)
        values = row[near]
        edge = len(near) - count
        kept = values >= np.partition(values, edge)[edge]
        near, values = near[kept], values[kept]
        order = np.lexsort((near, -values))[:count]
        return np.asarray(near[order], np.int32)
    # Whole numbers are sorted several times as fast: the bits of what a logit lacks, and the id behind them.
    # Subtracted from 0, for -0 has the bits of the lowest whole number.
    lacks = (0 - (row - highest)).view(np.int32).astype(np.int64)
    keys = lacks << 32 | np.arange(len(row))
    keys.sort()
    return np.asarray(keys & 0xFFFFFFFF, np.int32)
