"""Random numbers keyed by (seed, step, purpose): nothing draws from a running generator.

So a fork has its parent's luck, and a run does not depend on what else is live.
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence, SeedSequence

Purpose = Literal["draw", "weights", "noise"]
_CODES: dict[Purpose, int] = {"draw": 1, "weights": 2, "noise": 3}


class _Key(ISeedSequence):
    """A key handed over as a seed: `Philox(key=…)` first asks the system for entropy that it then does not use."""

    def __init__(self, *words: int) -> None:
        self._words = np.array(words, np.uint64)

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> npt.NDArray[np.uint64]:
        """The key itself, which is what Philox asks for."""
        return self._words


def generator(seed: int, step: int, purpose: Purpose) -> np.random.Generator:
    """A fresh Philox generator that depends on nothing but its key (Salmon et al. 2011)."""
    key = _Key(seed, step << 8 | _CODES[purpose])
    return np.random.Generator(np.random.Philox(cast(SeedSequence, key)))


def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) with which the token of this step is drawn."""
    return float(generator(seed, step, "draw").random())


def normal(seed: int, step: int, width: int) -> npt.NDArray[np.float32]:
    """Standard normal noise for the embedding of this step, [width] float32."""
    return generator(seed, step, "noise").standard_normal(width, np.float32)
