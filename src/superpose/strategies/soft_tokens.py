"""Soft tokens: noise on the mixed embedding."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from superpose.strategies.families import WeightedSum
from superpose.strategies.parts import blend, retempered, vocabulary
from superpose.strategy import Memory, Mix, Setting, Step
from superpose.types import Distribution, GaussianNoise, Mixture


class SoftTokens(WeightedSum, name="soft_tokens"):
    """Feeds the mean of a sharpened distribution plus Gaussian noise.

    Formula: sum_i p_i e_i + N(0, sigma^2 I), p at temperature tau over the whole vocabulary, sigma = gamma x root mean
    square of the embeddings' coordinates. tau 0.5 is the paper's "soft", 1e-4 its "fuzzy", nearly one token.
    Source: arXiv 2509.19170 (no code is published that we know of), its inference on an untrained model.
    Deviations: the paper trains with it and finds no gain without training.
    """

    deterministic = False
    remembers: ClassVar[Memory | None] = "nothing"
    paper: ClassVar[str | None] = "2509.19170"

    tau: float = Field(0.5, ge=1e-4, le=10, description="temperature of the mixed distribution")
    gamma: float = Field(0.33, ge=0, le=10, description="noise against the size of a coordinate; 3 collapses")

    def support(self) -> int:
        """The whole vocabulary."""
        return 0

    def begin(self, run: Setting) -> Mix:
        """A callable that knows the run's temperature."""

        def mix(d: Distribution, step: Step) -> Mixture:
            ids, p = retempered(vocabulary(d), run.temperature, self.tau)
            noise = GaussianNoise(self.gamma, step.seed, step.index) if self.gamma else None
            # Its likeliest token stands for it; named, so that nobody looks for it in a whole vocabulary.
            return blend(ids, p, rescale=self.length, noise=noise, shown=int(ids[0]))

        return mix
