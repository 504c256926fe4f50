"""Mixture of Inputs, and the direct mixture it is compared with."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from superpose.strategies.families import WeightedSum, WholeGeneration
from superpose.strategies.parts import (
    Candidates,
    blend,
    candidates,
    entropy,
    posterior,
    retempered,
    top_k,
    with_token,
)
from superpose.strategy import Memory, Mix, Setting, Step
from superpose.types import Distribution, Mixture


class DirectMixture(WholeGeneration, WeightedSum, name="direct_mixture"):
    """Feeds the mean of the N likeliest tokens at every step of the whole generation; drawn tokens are its text.

    Formula: p = softmax over the N largest logits at temperature 1; the input is sum_i p_i e_i. The text, and the
    end, are the tokens drawn at the run's temperature.
    Source: the "Direct Mixture" arm of arXiv 2505.14827; repo EvanZhuang/mixinputs (beta <= -99).
    Deviations: at temperature 0 nothing is left to mix, since the belief is then one token.
    """

    remembers: ClassVar[Memory | None] = "nothing"
    paper: ClassVar[str | None] = "2505.14827"

    n: int = Field(20, ge=1, le=256, description="candidates mixed at each step (N)")

    def support(self) -> int:
        """The N likeliest."""
        return self.n

    def begin(self, run: Setting) -> Mix:
        """A callable that knows the run's temperature."""

        def mix(d: Distribution, step: Step) -> Mixture:
            prior = retempered(top_k(candidates(d), self.n), run.temperature, 1.0)
            return self.feed(d, prior)

        return mix

    def feed(self, d: Distribution, prior: Candidates) -> Mixture:
        """The prior's mean; the drawn token stands for it."""
        return blend(prior.ids, prior.p, rescale=self.length, shown=d.drawn)


class MixtureOfInputs(DirectMixture, name="mixture_of_inputs"):
    """Feeds the posterior mean of the belief after seeing the drawn token, at every step of the generation.

    Formula: w = alpha p + (1 - alpha) onehot(y), alpha = H / (beta + 1); p over the N likeliest at temperature 1,
    H its entropy over ln N, y the drawn token, which is always in the set. Sure steps are nearly ordinary tokens.
    Source: arXiv 2505.14827; repo EvanZhuang/mixinputs.
    Deviations: where y is outside the N likeliest the official weights sum to less than 1; here they sum to 1. At
    temperature 0 the belief is one token and so is the input.
    """

    beta: float = Field(1.0, ge=0, le=1e6, description="how much the drawn token counts against the belief")

    def feed(self, d: Distribution, prior: Candidates) -> Mixture:
        """The posterior mean; the drawn token stands for it."""
        certainty = entropy(prior.p) / math.log(self.n) / (self.beta + 1) if self.n > 1 else 0.0
        (ids, p), drawn = with_token(prior, d.drawn)
        return blend(ids, posterior(p, drawn, certainty), rescale=self.length, shown=d.drawn)
