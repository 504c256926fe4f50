"""Multiplex Thinking: the mean of several draws."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from superpose.strategies.families import WeightedSum
from superpose.strategies.parts import blend, candidates, counted, drawn, filtered, normalised
from superpose.strategy import Memory, Mix, Setting, Step, Stop
from superpose.types import Distribution, Mixture


class Multiplex(WeightedSum, name="multiplex"):
    """Feeds the mean of K tokens drawn independently: varied where the model is unsure, one token where it is sure.

    Formula: k_1 .. k_K ~ p after top-k and top-p; weights in proportion to p(k_j) over the draws (duplicates add), or
    1/K each; the input is sum_j w_j e_{k_j}. Thinking ends when the first draw is `</think>` or the end of text.
    Source: arXiv 2601.08808, its training-free arm "Multiplex-I"; repo GMLR-Penn/Multiplex-Thinking.
    Deviations: the paper says "one of" the draws ends thinking, its code the first one; here the first one. Its Cold
    Stop computes no entropy on the fast path and never fires; there is none here.
    """

    transition = "</think>"
    end_probability: ClassVar[float | None] = None
    deterministic = False
    remembers: ClassVar[Memory | None] = "nothing"
    paper: ClassVar[str | None] = "2601.08808"

    draws: int = Field(3, ge=1, le=64, description="tokens drawn at each step (K)")
    replacement: bool = Field(True, description="draws may repeat a token; otherwise all differ")
    by_probability: bool = Field(True, description="weigh draws by their probability; otherwise equally")
    top_k: int = Field(0, ge=0, le=256, description="filter: this many likeliest tokens; 0 = off")
    top_p: float = Field(0.95, gt=0, le=1, description="filter: smallest set that reaches this; 1 = off")

    def support(self) -> int:
        """What the first filter leaves, or as many as top_p needs."""
        return self.top_k

    def mass(self) -> float:
        """Without top-k, candidates beyond top_p are not needed."""
        return self.top_p

    def begin(self, run: Setting) -> Mix:
        """A callable that knows the end tokens."""
        ends = {*run.end_marker[:1], *run.end_of_text}

        def mix(d: Distribution, step: Step) -> Mixture | Stop:
            ids, p = filtered(candidates(d), self.top_k, self.top_p, 0.0)
            p = normalised(p)
            draws = drawn(p, self.draws, self.replacement, step.generator())
            if int(ids[draws[0]]) in ends:
                return Stop(f"the first draw was `{run.text(int(ids[draws[0]]))}`")
            places, weights = counted(p, draws, self.by_probability)
            return blend(ids[places], weights, rescale=self.length)

        return mix
