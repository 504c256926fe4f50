"""Probability-weighted mean."""

from superpose.strategies.families import TopKSum
from superpose.strategies.parts import blend, normalised
from superpose.strategy import Step
from superpose.types import Distribution, Mixture


class NonUniform(TopKSum, name="non_uniform"):
    """Feeds the probability-weighted mean of the k likeliest tokens' embeddings.

    Formula: w_i = p_i / sum_j p_j over the top-k; the input is sum_i w_i e_i.
    Source: the "concept token" of Soft Thinking (arXiv 2505.15778), without its filters and stop rule.
    """

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The renormalised top-k, summed."""
        ids, p = self.select(d)
        return blend(ids, normalised(p), rescale=self.length)
