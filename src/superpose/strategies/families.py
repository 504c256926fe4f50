"""Two families that most strategies belong to: they hold the fields and the support that these share."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from superpose.strategies.parts import Candidates, candidates, top_k
from superpose.strategy import Strategy
from superpose.types import Distribution, Rescale

RescaleChoice = Literal["none", "mean_norm", "inv_l2", "expected_norm"]


class WeightedSum(Strategy):
    """Strategies that feed a weighted sum, whose length may be restored afterwards."""

    rescale: RescaleChoice = Field(
        "none",
        description="length of the sum: left as it is, the mean token's, divided by sqrt(sum w^2), or the "
        "weighted mean of the candidates'",
    )

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """As of every strategy, with the rescaling as the last parameter."""
        about = super().describe()
        about["schema"]["properties"]["rescale"] = about["schema"]["properties"].pop("rescale")
        return about

    @property
    def length(self) -> Rescale | None:
        """The rescaling for a Mixture."""
        return None if self.rescale == "none" else self.rescale


class TopK(Strategy):
    """Strategies over the k likeliest tokens."""

    k: int = Field(5, ge=1, le=256, description="candidates mixed at each step")

    def support(self) -> int:
        """The k likeliest."""
        return self.k

    def select(self, d: Distribution) -> Candidates:
        """The k likeliest, without those of probability 0."""
        return top_k(candidates(d), self.k)


class TopKSum(TopK, WeightedSum):
    """Weighted sums over the k likeliest tokens."""

    k: int = Field(5, ge=1, le=256, description="candidates mixed at each step")


class WholeGeneration(Strategy):
    """Strategies that rule every step up to the end of text; what they draw is the text."""

    thinks: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    transition: ClassVar[str] = ""
