"""Inverse-probability weighting."""

import numpy as np
from pydantic import Field

from superpose.strategies.parts import inverse, top_k
from superpose.strategy import Step, Strategy
from superpose.types import Distribution, Mixture


class InverseP(Strategy, name="inverse_p"):
    """Feeds the k likeliest tokens' embeddings weighted by 1/p: the least likely of them dominates.

    Formula: w_i = (1/p_i) / sum_j (1/p_j) over the top-k; the input is sum_i w_i e_i.
    Source: no published one is known to us; an experiment, and a probe of how much weights matter.
    """

    k: int = Field(5, ge=1, le=256, description="candidates mixed at each step")

    def support(self) -> int:
        """The k likeliest."""
        return self.k

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The top-k by inverse probability, summed."""
        ids, p = top_k(d, self.k)
        return Mixture(ids, inverse(p).astype(np.float32))
