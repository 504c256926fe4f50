"""How many threads a pass takes on a CPU that other programs want too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_RARITY = 20.0  # how much longer passes go on before one is spent on trying the other number of threads


class Pace:
    """All threads or one for each pass, whichever was faster lately.

    Threads wait for each other hundreds of times a pass. Measured on 2 cores with a 135M model: with two threads
    48 tokens/s, but 9 once another program (a browser, say) wants a core; with one thread 36 in both cases. llama.cpp,
    whose threads wait busily, makes 2 with two threads where it makes 32 with one.
    """

    def __init__(self, threads: int, use: Callable[[int], None], adapt: bool, first: int = 0) -> None:
        self._all, self._use = threads, use
        self._choices = (self._all, 1) if adapt and self._all > 1 else ()
        self._seconds: dict[tuple[tuple[int, int], int], float] = {}  # of a pass of some shape, by threads
        self._since = 0.0  # seconds of passes since the slower choice was tried
        self._lately = first or threads  # the faster choice of the last pass, where a new shape begins

    @contextmanager
    def keep(self, lanes: int, positions: int = 1) -> Iterator[Callable[[], None]]:
        """Runs what feeds so many lanes so many positions each; what it gives is called where that was not all."""
        counted = [True]
        if not self._choices:
            yield counted.clear
            return
        shape = lanes, positions.bit_length()
        known = {threads: self._seconds.get((shape, threads), 0.0) for threads in self._choices}
        faster, slower = sorted(known, key=lambda threads: (known[threads], threads != self._lately))
        trying = 0 < _RARITY * known[slower] < self._since
        threads = slower if trying else faster
        self._use(threads)
        began = time.perf_counter()
        try:
            yield counted.clear
        finally:
            self._use(self._all)  # the process's own setting, for whatever else it runs
        if not counted:
            return
        took = time.perf_counter() - began
        # From 0 on: a choice is believed to be slow only after some passes, for the first ones warm things up.
        before = took if trying else self._seconds.get((shape, threads), 0.0)
        self._seconds[shape, threads] = (before + took) / 2
        self._since = 0.0 if trying else self._since + took
        if all(known.values()):
            self._lately = faster
