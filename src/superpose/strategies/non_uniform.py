"""Probability-weighted mean."""

import numpy as np
from pydantic import Field

from superpose.strategies.parts import normalised, top_k
from superpose.strategy import Step, Strategy
from superpose.types import Distribution, Mixture


class NonUniform(Strategy, name="non_uniform"):
    """Feeds the probability-weighted mean of the k likeliest tokens' embeddings.

    Formula: w_i = p_i / sum_j p_j over the top-k; the input is sum_i w_i e_i.
    Source: the "concept token" of Soft Thinking (arXiv 2505.15778), without its filters and stop rule.
    """

    k: int = Field(5, ge=1, le=256, description="candidates mixed at each step")

    def support(self) -> int:
        """The k likeliest."""
        return self.k

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The renormalised top-k, summed."""
        ids, p = top_k(d, self.k)
        return Mixture(ids, normalised(p).astype(np.float32))
