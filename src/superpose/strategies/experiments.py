"""Controls and experiments of our own: known-bad weightings, other candidate sets, spherical interpolation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from superpose.strategies.families import TopK, TopKSum, WeightedSum
from superpose.strategies.parts import (
    blend,
    min_p,
    normalised,
    power,
    random_subset,
    top_k,
    top_n_sigma,
    vocabulary,
)
from superpose.strategy import Memory, Mix, Setting, Step
from superpose.types import Distribution, Mixture


class Power(TopKSum, name="power"):
    """Feeds the k likeliest tokens weighted by a power of their probability; exponent 0 is the uniform control.

    Formula: w_i = p_i^exponent / sum_j p_j^exponent over the top-k; an exponent of 1/T tempers once more.
    Source: the uniform mean is the control that collapses in Soft Thinking's ablation (arXiv 2505.15778).
    """

    exponent: float = Field(0.0, ge=-10, le=100, description="of the probabilities; 0 = uniform, 1 = non_uniform")

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The top-k by a power of their probability."""
        ids, p = self.select(d)
        return blend(ids, power(p, self.exponent), rescale=self.length)


class RandomSubset(TopKSum, name="random_subset"):
    """Feeds the probability-weighted mean of a few tokens picked at random among the k likeliest.

    Formula: S = `subset` of the top-k, each subset equally likely, keyed by (seed, step); w_i = p_i / sum_S p.
    Source: no published one is known to us; an experiment of ours.
    """

    deterministic = False

    k: int = Field(10, ge=1, le=256, description="likeliest tokens to pick from")
    subset: int = Field(3, ge=1, le=256, description="how many are picked")

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The picked ones by probability."""
        ids, p = random_subset(self.select(d), self.subset, step.generator())
        return blend(ids, normalised(p), rescale=self.length)


class MinP(TopKSum, name="min_p"):
    """Feeds the probability-weighted mean of the tokens that are likely enough against the likeliest one.

    Formula: S = {i: p_i >= ratio x p_max}, at most k; w_i = p_i / sum_S p.
    Source: the candidate set of min-p sampling (arXiv 2407.01082), here mixed, not sampled.
    """

    paper: ClassVar[str | None] = "2407.01082"

    k: int = Field(64, ge=1, le=256, description="most candidates mixed at each step")
    ratio: float = Field(0.05, gt=0, le=1, description="least share of the likeliest token's probability")

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The likely enough ones by probability."""
        ids, p = min_p(self.select(d), self.ratio)
        return blend(ids, normalised(p), rescale=self.length)


class TopNSigma(WeightedSum, name="top_n_sigma"):
    """Feeds the probability-weighted mean of the tokens whose logits lie near the largest one.

    Formula: S = {i: z_i >= max z - n std(z)}, z the logits over the whole vocabulary; w_i = p_i / sum_S p.
    Source: the candidate set of top-n-sigma sampling (arXiv 2411.07641), here mixed, not sampled.
    Deviations: at temperature 0 the belief is one token and so is the input.
    """

    remembers: ClassVar[Memory | None] = "nothing"
    paper: ClassVar[str | None] = "2411.07641"

    n: float = Field(1.0, gt=0, le=20, description="how many standard deviations below the largest logit")

    def support(self) -> int:
        """The whole vocabulary: the deviation is over all logits."""
        return 0

    def begin(self, run: Setting) -> Mix:
        """A callable that knows the run's temperature."""

        def mix(d: Distribution, step: Step) -> Mixture:
            ids, p = top_n_sigma(vocabulary(d), self.n, run.temperature)
            return blend(ids, normalised(p), rescale=self.length)

        return mix


class Slerp(TopK, name="slerp"):
    """Feeds a point on the arc between the two likeliest tokens' embeddings.

    Formula: with t = p_2 / (p_1 + p_2) and W the angle between e_1 and e_2: direction sin((1-t)W)/sin W u_1 +
    sin(tW)/sin W u_2 of unit vectors u, length (1-t)|e_1| + t|e_2|.
    Source: our own experiment; spherical interpolation is Shoemake 1985.
    """

    k: int = Field(2, ge=2, le=2, description="always two")

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The two likeliest, turned by the second's share."""
        ids, p = top_k(self.select(d), 2)
        return blend(ids, normalised(p), combine="slerp")
