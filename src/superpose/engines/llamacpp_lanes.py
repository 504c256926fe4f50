"""Lanes in the streams of llama.cpp's cache, which grows with the longest of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from superpose.engine import EngineError, OutOfMemory
from superpose.engines.host import free_memory
from superpose.engines.llamacpp_library import Context, Model
from superpose.types import FloatArray, IntArray

CHUNK = 128  # positions of one pass of a prefill, for which live lanes wait; fixed: no result depends on load
FIRST = 512  # positions of a lane's room at first: llama.cpp takes it all at once, and a fork copies all of it
FULL = "the memory of cpu is used up; close some lanes or shorten them"


class Lanes:
    """At most `count` open lanes of at most `limit` positions, `size` bytes each. Raises OutOfMemory.

    Streams are filled without gaps: llama.cpp decodes together only those whose numbers follow each other.
    """

    def __init__(self, model: Model, count: int, limit: int, size: int, exact: bool, threads: int) -> None:
        self._model, self._count, self._limit, self._size = model, count, limit, size
        self._exact, self._threads = exact, threads
        self.length: dict[int, int] = {}  # of each open lane
        self._stream: dict[int, int] = {}
        self._opened = 0
        self._due = False  # whether copies from stream to stream wait for a decode
        self._context = self._made(min(FIRST, limit))

    def open(self) -> int:
        """A new, empty lane."""
        self._opened += 1
        self._stream[self._opened], self.length[self._opened] = len(self._stream), 0
        return self._opened

    def close(self, lane: int) -> None:
        """Frees a lane; the one in the last stream takes its place."""
        stream, last = self._stream[lane], len(self._stream) - 1
        if stream != last:
            moved = next(lane for lane, place in self._stream.items() if place == last)
            self._context.copy(last, stream, self.length[moved])
            self._stream[moved], self._due = stream, True
        del self._stream[lane], self.length[lane]
        self._context.cut(last, 0)

    def fork(self, source: int, upto: int) -> int:
        """A new lane that holds positions [0, upto) of another. Raises EngineError where they are gone."""
        lane = self.open()
        try:
            self._context.copy(self._stream[source], self._stream[lane], upto)
        except EngineError:
            self.close(lane)
            raise
        self.length[lane], self._due = upto, True
        return lane

    def cut(self, lane: int, upto: int) -> None:
        """Leaves a lane its first `upto` positions, whatever a pass may have put behind them."""
        self._context.cut(self._stream[lane], upto)
        self.length[lane] = upto

    def held(self) -> int:
        """Bytes of keys and values: the room of all lanes, open or not."""
        return self._count * self._context.length * self._size

    def fits(self, length: int) -> bool:
        """Whether memory holds the room that all lanes get once one needs so many positions. Any thread may ask."""
        free, needed = free_memory(), self._doubled(length)
        return free is None or needed <= self._context.length or self._count * needed * self._size <= free

    def use_threads(self, count: int) -> None:
        """Decodes with so many threads from now on."""
        self._context.use_threads(count)

    def release(self) -> None:
        """Lets go of the cache."""
        self._context.close()

    def append(self, lane: int, start: int, fed: IntArray | FloatArray, outputs: int = 1) -> FloatArray:
        """Logits [outputs, vocab] after the last of `fed`, token ids [m] or embeddings [m, width], from `start` on.

        What was fed counts only once the lane's length says so. The next decode writes over them. Raises EngineError.
        """
        logits = self._context.decode([self._stream[lane]], [start], fed, outputs)
        self._due = False
        return logits

    def step(self, lanes: Sequence[int], fed: FloatArray) -> FloatArray:
        """Logits [n, vocab] after one embedding [n, width] at the end of each lane; for the rest as `append`."""
        starts = [self.length[lane] for lane in lanes]
        streams = [self._stream[lane] for lane in lanes]
        order = sorted(range(len(lanes)), key=streams.__getitem__)
        if order == list(range(len(lanes))):
            logits = self._context.decode(streams, starts, fed)
        else:  # in another order they would be decoded apart
            rows = [streams[i] for i in order], [starts[i] for i in order], fed[order]
            logits = self._context.decode(*rows)[np.argsort(order)]
        self._due = False
        return logits

    def reach(self, length: int) -> None:
        """Sees to it that lanes have room for `length` positions, and for one more until they can have all.

        Raises OutOfMemory, with nothing changed.
        """
        context = self._context
        if length < context.length or context.length >= self._limit:
            return
        if self._due:  # a lane's state would be read without the copies that wait for a decode
            lane, held = next((lane, held) for lane, held in self.length.items() if held < context.length)
            self.append(lane, held, np.zeros(1, np.int32))
            self.cut(lane, held)
        larger = self._made(self._doubled(length))
        for lane, stream in self._stream.items():
            if self.length[lane]:
                context.move(stream, larger)
        context.close()
        self._context = larger

    def _doubled(self, length: int) -> int:
        """The first doubling of a lane's room that holds a length and one position more, or all that it can have."""
        room = self._context.length
        while room <= length:
            room *= 2
        return min(room, self._limit)

    def _made(self, length: int) -> Context:
        free = free_memory()
        if free is not None and self._count * length * self._size > free:
            raise OutOfMemory(FULL)
        return Context(self._model, self._count, length, CHUNK, self._exact, self._threads)
