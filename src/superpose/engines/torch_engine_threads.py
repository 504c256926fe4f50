"""How many threads torch uses on a CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from superpose.engines.host import physical_cores

_RARITY = 20.0  # how much longer passes go on before one is spent on trying the other number of threads


def use_physical_cores() -> None:
    """At most one thread a physical core that this process may use: a second one only slows the products."""
    cores = physical_cores()
    if "OMP_NUM_THREADS" not in os.environ and cores is not None and cores < torch.get_num_threads():
        torch.set_num_threads(cores)


class Pace:
    """All threads or one for each pass, whichever was faster lately.

    Threads wait for each other hundreds of times a pass. Measured on 2 cores with a 135M model: with two threads
    48 tokens/s, but 9 once another program (a browser, say) wants a core; with one thread 36 in both cases.
    """

    def __init__(self, adapt: bool) -> None:
        self._all = torch.get_num_threads()
        self._choices = (self._all, 1) if adapt and self._all > 1 else ()
        self._seconds: dict[tuple[tuple[int, int], int], float] = {}  # of a pass of some shape, by threads
        self._since = 0.0  # seconds of passes since the slower choice was tried

    @contextmanager
    def keep(self, lanes: int, positions: int = 1) -> Iterator[None]:
        """Runs what feeds so many lanes so many positions each."""
        if not self._choices:
            yield
            return
        shape = lanes, positions.bit_length()
        faster, slower = sorted(self._choices, key=lambda threads: self._seconds.get((shape, threads), 0.0))
        trying = self._since > _RARITY * self._seconds.get((shape, slower), 0.0)
        threads = slower if trying else faster
        torch.set_num_threads(threads)
        began = time.perf_counter()
        try:
            yield
        finally:
            torch.set_num_threads(self._all)  # the process's own setting, for whatever else it runs
        took = time.perf_counter() - began
        # From 0 on: a choice is believed to be slow only after some passes, for the first ones warm things up.
        before = took if trying else self._seconds.get((shape, threads), 0.0)
        self._seconds[shape, threads] = (before + took) / 2
        self._since = 0.0 if trying else self._since + took
