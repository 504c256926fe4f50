"""An untrained analogue of HRPO's gated input."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from superpose.strategies.families import WholeGeneration
from superpose.strategies.parts import blend, retempered, vocabulary, with_token
from superpose.strategy import Memory, Mix, Setting, Step
from superpose.types import Distribution, Mixture


class HrpoLike(WholeGeneration, name="hrpo_like"):
    """Feeds the drawn token blended with the norm-restored mean, at every step of the generation.

    Formula: s = sum_i p_i e_i / sqrt(sum p_i^2); the input is a e_y + sqrt(1 - a^2) s with the drawn token y. As the
    squares of the two shares sum to 1 the length stays a token's where embeddings are nearly orthogonal.
    Source: the input of HRPO (arXiv 2505.18454; repo Yueeeeeeee/HRPO) with a constant in place of its trained gate.
    Deviations: HRPO proper is trained and does not fit here; this analogue is untested by its authors.
    """

    remembers: ClassVar[Memory | None] = "nothing"
    paper: ClassVar[str | None] = "2505.18454"

    a: float = Field(0.95, ge=0, le=1, description="share of the drawn token")

    def support(self) -> int:
        """The whole vocabulary."""
        return 0

    def begin(self, run: Setting) -> Mix:
        """A callable that knows the run's temperature."""

        def mix(d: Distribution, step: Step) -> Mixture:
            (ids, p), drawn = with_token(retempered(vocabulary(d), run.temperature, 1.0), d.drawn)
            share = math.sqrt((1 - self.a**2) / float(p @ p))
            # A mixture's weights sum to 1; the sum that they had, for p's is 1, becomes the length's factor.
            length = share + self.a
            weights = share / length * p
            weights[drawn] += self.a / length
            return blend(ids, weights, rescale=length, shown=d.drawn)

        return mix
