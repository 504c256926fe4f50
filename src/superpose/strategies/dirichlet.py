"""Dirichlet-perturbed weights."""

from pydantic import Field

from superpose.strategies.families import TopKSum
from superpose.strategies.parts import blend, dirichlet
from superpose.strategy import Step
from superpose.types import Distribution, Mixture


class Dirichlet(TopKSum, name="dirichlet"):
    """Feeds the k likeliest tokens' embeddings with weights drawn from a Dirichlet around their probabilities.

    Formula: w ~ Dirichlet(concentration x p_i / sum_j p_j) over the top-k; the input is sum_i w_i e_i.
    Its mean is the non_uniform mixture; a small concentration gives nearly one token, a large one little noise.
    Source: the Dirichlet resampling of Soft Thinking's code and of arXiv 2508.03440, restricted to its support.
    """

    deterministic = False

    concentration: float = Field(1.0, gt=0, le=1e6, description="sum of the Dirichlet's parameters")

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The top-k with drawn weights, summed."""
        ids, p = self.select(d)
        weights = dirichlet(p, self.concentration / float(p.sum()), step.generator())
        return blend(ids, weights, rescale=self.length)
