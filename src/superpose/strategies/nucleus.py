"""Nucleus mixture."""

from pydantic import Field

from superpose.strategies.families import WeightedSum
from superpose.strategies.parts import blend, candidates, normalised, top_p
from superpose.strategy import Step
from superpose.types import Distribution, Mixture


class Nucleus(WeightedSum, name="nucleus"):
    """Feeds the probability-weighted mean over the smallest set of likeliest tokens that reaches top_p.

    Formula: S = smallest top set with sum_S p >= top_p; w_i = p_i / sum_S p; the input is sum_S w_i e_i.
    A sure step is nearly one token, an unsure one mixes many.
    Source: the candidate set of nucleus sampling (Holtzman et al., arXiv 1904.09751), here mixed, not sampled.
    """

    top_p: float = Field(0.95, gt=0, le=1, description="cumulative probability the candidates reach")

    def support(self) -> int:
        """As many as top_p needs."""
        return 0

    def mass(self) -> float:
        """Candidates beyond top_p are not needed."""
        return self.top_p

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The renormalised nucleus, summed."""
        ids, p = top_p(candidates(d), self.top_p)
        return blend(ids, normalised(p), rescale=self.length)
