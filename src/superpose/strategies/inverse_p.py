"""Inverse-probability weighting."""

from superpose.strategies.families import TopKSum
from superpose.strategies.parts import blend, inverse
from superpose.strategy import Step
from superpose.types import Distribution, Mixture


class InverseP(TopKSum, name="inverse_p"):
    """Feeds the k likeliest tokens' embeddings weighted by 1/p: the least likely of them dominates.

    Formula: w_i = (1/p_i) / sum_j (1/p_j) over the top-k; the input is sum_i w_i e_i.
    Source: no published one is known to us; an experiment, and a probe of how much weights matter.
    """

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The top-k by inverse probability, summed."""
        ids, p = self.select(d)
        return blend(ids, inverse(p), rescale=self.length)
