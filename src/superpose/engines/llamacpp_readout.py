"""Rows of logits in numpy: without torch, and without its threads, which would take the cores from llama.cpp's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from superpose.engine import Readout
from superpose.engines.readout import BLOCK, COLDEST, NEVER, Float64Array, Sums, answers
from superpose.types import Distribution, FloatArray, IntArray

# How far below the highest logit the likeliest tokens are looked for, until enough are found.
_NEAR = np.float32(8), np.float32(16), np.float32(np.inf)
_MANY = 512  # more than these are worth a pass that finds the likeliest, before they are sorted


class Reader:
    """Reads logits of so many tokens; what it needs for that is made once, or it would cost as much as the work."""

    def __init__(self, vocab: int) -> None:
        self._vocab, blocks = vocab, -(-vocab // BLOCK)
        # In blocks, the last of which is filled up with what has no share.
        self._scores = np.full((blocks, BLOCK), NEVER, np.float32)
        self._share = np.empty((blocks, BLOCK), np.float32)
        self._ones = np.ones(BLOCK, np.float32)

    def read(self, logits: FloatArray, asks: Sequence[Readout]) -> list[Distribution]:
        """One Distribution a row of `logits` [n, vocab], at each lane's own temperature, filters and random number.

        A logit of -inf is probability 0. Raises EngineError for a row with NaN, with +inf, or with nothing finite.
        """
        sums = [self._sum(row, ask) for row, ask in zip(logits, asks, strict=True)]
        return answers(_Rows(logits, sums), asks, self._vocab)

    def _sum(self, row: FloatArray, ask: Readout) -> Sums:
        """Everything that needs all of a row's logits [vocab]."""
        likeliest = int(row.argmax())
        highest = row.item(likeliest)
        if not math.isfinite(highest):
            return Sums(highest, 0.0, 0.0, 0.0, 0, 0.0)
        scores = self._scores.reshape(-1)[: self._vocab]
        np.subtract(row, np.float32(highest), out=scores)
        if scores.item(scores.argmin()) < NEVER:  # so that no temperature makes it infinite
            np.maximum(scores, np.float32(NEVER), out=scores)
        sums, entropy_raw = self._shared()
        if ask.temperature < COLDEST:
            return Sums(highest, 1.0, 0.0, entropy_raw, likeliest, 1.0)
        entropy = entropy_raw
        if ask.temperature != 1:
            np.divide(scores, np.float32(ask.temperature), out=scores)
            sums, entropy = self._shared()
        drawn, total = _draw(self._share, sums, ask.u)
        return Sums(highest, total, entropy, entropy_raw, drawn, float(self._share.item(drawn)) / total)

    def _shared(self) -> tuple[Float64Array, float]:
        """Sums [blocks] of the exponentials of the scores, which are the shares afterwards, and their entropy in nats.

        By products, twice as fast as other sums; a block each, for of long ones numpy makes several threads.
        """
        share = np.exp(self._scores, out=self._share)
        sums = np.vecdot(share, self._ones).astype(np.float64)
        total, mean = float(sums.sum()), float(np.vecdot(self._scores, share).sum(dtype=np.float64))
        return sums, max(0.0, math.log(total) - mean / total)


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
            ids = _likeliest(logits, highest, count) if math.isfinite(sums.highest) else np.zeros(0, np.int32)
            found.append((ids, np.maximum(logits[ids] - highest, NEVER).astype(np.float64), sums))
        return found


def _draw(share: FloatArray, sums: Float64Array, u: float) -> tuple[int, float]:
    """The first token id whose cumulative share in token-id order exceeds `u` of the whole; the whole.

    `sums` [blocks] of the shares [blocks, BLOCK] lead to the block; only its own shares are then added one by one.
    """
    ends = sums.cumsum()
    whole = float(ends[-1])
    wanted = min(u * whole, math.nextafter(whole, 0))  # however it was rounded, something of some share is hit
    block = int(ends.searchsorted(wanted, side="right"))
    inside = share[block].cumsum(dtype=np.float64)
    wanted = min(wanted - (float(ends[block - 1]) if block else 0.0), math.nextafter(float(inside[-1]), 0))
    return block * BLOCK + int(inside.searchsorted(wanted, side="right")), whole


def _likeliest(row: FloatArray, highest: np.float32, count: int) -> IntArray:
    """Ids [count] of the highest logits [vocab], the lowest of equals first."""
    if count < len(row):
        for span in _NEAR:
            (near,) = (row >= highest - span).nonzero()
            if len(near) >= count:
                break
        values = row[near]
        if len(near) > _MANY:
            edge = len(near) - count
            kept = values >= np.partition(values, edge)[edge]
            near, values = near[kept], values[kept]
        return near[(-values).argsort(kind="stable")[:count]].astype(np.int32)
    # Whole numbers are sorted several times as fast: the bits of what a logit lacks, and the id behind them.
    # Subtracted from 0, for -0 has the bits of the lowest whole number.
    lacks = (0 - (row - highest)).view(np.int32).astype(np.int64)
    keys = lacks << 32 | np.arange(len(row))
    keys.sort()
    return np.asarray(keys & 0xFFFFFFFF, np.int32)
