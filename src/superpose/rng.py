"""Random numbers keyed by (seed, step, purpose): nothing draws from a running generator.

So a fork has its parent's luck, and a run does not depend on what else is live.
"""

from __future__ import annotations

import threading
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Purpose = Literal["draw", "weights", "noise"]
_CODES: dict[Purpose, int] = {"draw": 1, "weights": 2, "noise": 3}


class _Local(threading.local):
    """A thread's generator, and a state that nothing has drawn from: making new ones takes three times as long."""

    def __init__(self) -> None:
        self.generator = np.random.Generator(np.random.Philox(0))
        self.fresh: dict[str, Any] = dict(np.random.Philox(0).state)  # its counter is 0 and its buffers are empty
        self.key: npt.NDArray[np.uint64] = self.fresh["state"]["key"]  # [2] uint64, written in place


_local = _Local()


def generator(seed: int, step: int, purpose: Purpose) -> np.random.Generator:
    """A Philox generator (Salmon et al. 2011) that depends on nothing but its key.

    It is this thread's only one: the next call starts it anew with another key.
    """
    key = _local.key
    key[0], key[1] = seed, step << 8 | _CODES[purpose]
    made = _local.generator
    made.bit_generator.state = _local.fresh
    return made


def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) with which the token of this step is drawn."""
    return float(generator(seed, step, "draw").random())


def normal(seed: int, step: int, width: int) -> npt.NDArray[np.float32]:
    """Standard normal noise for the embedding of this step, [width] float32."""
    return generator(seed, step, "noise").standard_normal(width, np.float32)
