"""Mixtures of the rows of a file's table of embeddings, unpacked as they are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from superpose.engine import EngineError, Near
from superpose.engines.blend import Units, combine, finish, nearest
from superpose.engines.host import free_memory
from superpose.engines.llamacpp_file import Rows
from superpose.types import FloatArray, IntArray, Mixture

_SPAN = 2048  # tokens that are unpacked together
_KNOWN = 4096  # rows of a large table that are kept
_LARGE = 256 * 2**20  # bytes of a table that is not unpacked at load, nor to look for neighbours: seconds, for all runs
_SHARE = 8  # of the vocabulary: a sum of one part in so many is large


class Blender:
    """Blends `vocab` tokens' embeddings in float32: rows of the table times `scale`."""

    def __init__(self, rows: Rows, vocab: int) -> None:
        self._rows, self._vocab, self.width, self.scale = rows, vocab, rows.width, 1.0
        self._table: FloatArray | None = None
        if not self._is_far():
            with suppress(MemoryError):  # then rows are unpacked as they are needed, as those of a large table
                self._unpacked()
        source = rows if self._table is None else self._table
        spans = [slice(at, min(at + _SPAN, vocab)) for at in range(0, vocab, _SPAN)]
        self._norms: FloatArray = np.concatenate([np.linalg.norm(source[span], axis=1) for span in spans])
        squares = self._norms.astype(np.float64) ** 2
        self._units = Units(float(self._norms.mean(dtype=np.float64)), float(np.sqrt(squares.mean() / self.width)))
        self._known: dict[int, FloatArray] = {}
        self._last: tuple[list[Mixture], FloatArray] = [], np.zeros((0, rows.width), np.float32)

    def held(self) -> int:
        """Bytes of the unpacked table: of a large one only once a product has made it."""
        return self._table.nbytes if self._table is not None else 0

    def fed(self, inputs: Sequence[Mixture]) -> FloatArray:
        """What llama.cpp is fed for mixtures, [n, width] float32. Raises EngineError where it is not finite."""
        mixed = self._mixtures(inputs)
        if not np.isfinite(mixed).all():
            raise EngineError("a mixture's weights are too large: its embedding is not of finite numbers")
        return mixed if self.scale == 1 else mixed * np.float32(self.scale)

    def norm_ratios(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Length of each blend over the mean length of a token's embedding, [n] float32."""
        lengths = [math.sqrt(mixed.dot(mixed)) for mixed in self._mixtures(inputs)]
        return np.array(lengths, np.float32) / np.float32(self._units.length)

    def nearest(self, mixture: Mixture, count: int) -> list[Near]:
        """The tokens at the smallest angles to a blend, nearest first; none of a table that is too large to unpack."""
        if self._is_far():
            return []
        return nearest(self._mixtures([mixture])[0], self._unpacked(), self._norms, count)

    def _mixtures(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Blends [n, width]. Those of the last call are kept: a mixture is first measured, then fed."""
        if list(map(id, inputs)) != list(map(id, self._last[0])):
            self._last = list(inputs), self._mixed(inputs)
        return self._last[1]

    def _mixed(self, inputs: Sequence[Mixture]) -> FloatArray:
        few = [mixture.ids for mixture in inputs if not self._is_large(mixture)]
        rows = self._gathered(np.concatenate(few)) if few else np.zeros((0, self.width), np.float32)
        mixed = np.empty((len(inputs), self.width), np.float32)
        at = 0
        for number, mixture in enumerate(inputs):
            if self._is_large(mixture):
                blended = self._large_sum(mixture)
            else:
                blended = combine(mixture, rows[at : at + len(mixture.ids)])
                at += len(mixture.ids)
            mixed[number] = finish(mixture, blended, self._norms[mixture.ids], self._units)
        return mixed

    def _gathered(self, ids: IntArray) -> FloatArray:
        """Rows [n, width] of token ids; those of late are kept: unpacking few takes as long as unpacking many."""
        if self._table is not None:
            return self._table[ids]
        wanted, known = ids.tolist(), self._known
        if missing := [token for token in set(wanted) if token not in known]:
            if len(known) + len(missing) > _KNOWN:
                known.clear()
                missing = list(set(wanted))
            known.update(zip(missing, self._rows[np.array(missing)], strict=True))
        return np.array([known[token] for token in wanted])

    def _is_far(self) -> bool:
        """Whether the table is still packed, and too large to unpack without need."""
        return self._table is None and 4 * self._vocab * self.width > _LARGE

    def _is_large(self, mixture: Mixture) -> bool:
        return mixture.combine == "sum" and len(mixture.ids) > max(_SPAN, self._vocab // _SHARE)

    def _large_sum(self, mixture: Mixture) -> FloatArray:
        """A sum of much of the vocabulary as one product with all of it."""
        weights = np.bincount(mixture.ids, mixture.weights, self._vocab).astype(np.float32)
        blended: FloatArray = weights @ self._unpacked()
        return blended

    def _unpacked(self) -> FloatArray:
        """All rows [vocab, width], kept: unpacking them takes a hundred times as long as a product with them.

        Raises MemoryError where the system would end the process rather than refuse the memory.
        """
        if self._table is None:
            free = free_memory()
            if free is not None and 8 * self._vocab * self.width > free:
                raise MemoryError
            self._table = self._rows[: self._vocab]
        return self._table
