"""SeLaR: a contrastive mixture on unsure steps."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from superpose.strategies.families import WeightedSum, WholeGeneration
from superpose.strategies.parts import affine_contrast, blend, candidates, entropy, filtered, math_gate, top_k
from superpose.strategy import Memory, Mix, Setting, Step
from superpose.types import Distribution, Mixture


class Selar(WholeGeneration, WeightedSum, name="selar"):
    """Feeds the drawn token, but where the model is unsure a mixture pushed away from the likeliest token.

    Formula: after top-k and top-p, the n likeliest renormalised to q; H = -sum q ln q / ln n. If H >= threshold:
    e = sum q_i e_i and the input is e + c H (e - e_1), that is w_1 = 1 - (1 + cH)(1 - q_1), w_i = (1 + cH) q_i, which
    sum to 1; w_1 may be negative. Otherwise, and for single digits, letters and operators: the drawn token.
    Source: arXiv 2604.08299; repo Parker-rfu/SeLaReasoning.
    Deviations: the official code makes every row of a batch soft when one is unsure; here each lane has its own
    gate. Its list of mathematical tokens is ours.
    """

    hull = False
    remembers: ClassVar[Memory | None] = "nothing"
    paper: ClassVar[str | None] = "2604.08299"

    n: int = Field(3, ge=2, le=256, description="candidates of the mixture (selar_topk)")
    threshold: float = Field(0.5, ge=0, le=1, description="normalised entropy from which on a mixture is fed")
    contrast: float = Field(1.0, ge=0, le=10, description="strength of the push away from the likeliest (c)")
    top_k: int = Field(20, ge=0, le=256, description="filter: this many likeliest tokens; 0 = off")
    top_p: float = Field(0.95, gt=0, le=1, description="filter: smallest set that reaches this; 1 = off")
    math_override: bool = Field(True, description="feed digits, letters and operators as they were drawn")

    def support(self) -> int:
        """What the first filter leaves, or as many as top_p needs."""
        return self.top_k

    def mass(self) -> float:
        """Without top-k, candidates beyond top_p are not needed."""
        return self.top_p

    def begin(self, run: Setting) -> Mix:
        """A callable that knows the tokens' texts; the gate has no state."""
        overridden = math_gate(self.math_override, run.text)

        def mix(d: Distribution, step: Step) -> Mixture:
            ids, q = top_k(filtered(candidates(d), self.top_k, self.top_p, 0.0), self.n).renormalised()
            unsure = entropy(q) / float(np.log(self.n))
            if unsure < self.threshold or overridden(d.drawn):
                return Mixture.token(d.drawn, "sampled")
            reason = f"gate: entropy {unsure:.2f} >= {self.threshold:g}"
            weights = affine_contrast(q, self.contrast * unsure)
            return blend(ids, weights, rescale=self.length, shown=d.drawn, reason=reason)

        return mix
