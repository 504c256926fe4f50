"""Random numbers keyed by (seed, step, purpose): nothing draws from a running generator.

So a fork has its parent's luck, and a run does not depend on what else is live.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Purpose = Literal["draw", "weights", "noise"]
_CODES: dict[Purpose, int] = {"draw": 1, "weights": 2, "noise": 3}


def generator(seed: int, step: int, purpose: Purpose) -> np.random.Generator:
    """A fresh Philox generator that depends on nothing but its key (Salmon et al. 2011)."""
    return np.random.Generator(np.random.Philox(key=[seed, step << 8 | _CODES[purpose]]))


def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) with which the token of this step is drawn."""
    return float(generator(seed, step, "draw").random())


def normal(seed: int, step: int, width: int) -> npt.NDArray[np.float32]:
    """Standard normal noise for the embedding of this step, [width] float32."""
    return generator(seed, step, "noise").standard_normal(width, np.float32)
