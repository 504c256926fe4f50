"""Pure parts that strategies are written from: select candidates, then weigh them.

A selection is (ids [K] int32, p [K] float64), likeliest first, without candidates of probability 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from superpose.types import Distribution, IntArray

Weights = npt.NDArray[np.float64]


class Candidates(NamedTuple):
    """Selected candidates, likeliest first, with their whole-vocabulary probabilities."""

    ids: IntArray  # [K] int32
    p: Weights  # [K] float64, above 0


def top_k(d: Distribution, k: int) -> Candidates:
    """The k likeliest tokens; fewer when the others have probability 0."""
    return _possible(d, k)


def nucleus(d: Distribution, top_p: float) -> Candidates:
    """The smallest set of likeliest tokens whose cumulative probability reaches `top_p` (Holtzman 2020)."""
    # float32 probabilities sum with errors near 1e-8: a set that reaches top_p exactly must count as reaching it
    reached = np.cumsum(d.probs, dtype=np.float64) >= top_p - 1e-7
    return _possible(d, int(np.argmax(reached)) + 1 if reached.any() else len(d.ids))


def normalised(weights: Weights) -> Weights:
    """The weights divided by their sum."""
    shares: Weights = weights / weights.sum()
    return shares


def inverse(p: Weights) -> Weights:
    """Weights in proportion to 1/p."""
    return normalised(p.min() / p)  # scaled by the smallest first: 1/p overflows for subnormal p


def dirichlet(p: Weights, concentration: float, random: Generator) -> Weights:
    """A draw from Dirichlet(concentration x p), as normalised Gamma draws."""
    draws = random.standard_gamma(concentration * p)
    if draws.sum() <= 0.0:  # every tiny-shape Gamma underflowed; the limit is one vertex
        draws[np.argmax(p)] = 1.0
    return normalised(draws)


def _possible(d: Distribution, count: int) -> Candidates:
    ids, p = d.ids[:count], d.probs[:count].astype(np.float64)
    return Candidates(ids[p > 0], p[p > 0])
