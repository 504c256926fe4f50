"""Dirichlet-perturbed weights."""

import numpy as np
from pydantic import Field

from superpose.strategies.parts import dirichlet, normalised, top_k
from superpose.strategy import Step, Strategy
from superpose.types import Distribution, Mixture


class Dirichlet(Strategy, name="dirichlet"):
    """Feeds the k likeliest tokens' embeddings with weights drawn from a Dirichlet around their probabilities.

    Formula: w ~ Dirichlet(concentration x p_i / sum_j p_j) over the top-k; the input is sum_i w_i e_i.
    Its mean is the non_uniform mixture; a small concentration gives nearly one token, a large one little noise.
    Source: the Dirichlet resampling of Soft Thinking's code and of arXiv 2508.03440, restricted to its support.
    """

    k: int = Field(5, ge=1, le=256, description="candidates mixed at each step")
    concentration: float = Field(1.0, gt=0, le=1e6, description="sum of the Dirichlet's parameters")

    def support(self) -> int:
        """The k likeliest."""
        return self.k

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The top-k with drawn weights, summed."""
        ids, p = top_k(d, self.k)
        weights = dirichlet(normalised(p), self.concentration, step.generator())
        return Mixture(ids, weights.astype(np.float32))
