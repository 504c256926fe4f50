"""Soft Thinking, and the two methods that change one of its parts: its weights, or where it mixes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from superpose.strategies.families import WeightedSum
from superpose.strategies.parts import (
    Candidates,
    ColdStop,
    Weights,
    blend,
    candidates,
    dirichlet,
    filtered,
    gumbel_softmax,
    top_k,
)
from superpose.strategy import Memory, Mix, Setting, Step, Stop
from superpose.types import Distribution, Mixture


class SoftThinking(WeightedSum, name="soft_thinking"):
    """Feeds the mean of the filtered, renormalised likeliest tokens' embeddings; stops when sure for long.

    Formula: p = softmax(z/T) -> top-k -> top-p -> min-p -> the n likeliest, renormalised after each; the input is
    sum_i w_i e_i. Thinking ends when `</think>` has the top weight, or by Cold Stop: the entropy of the whole
    distribution (nats, at T, before any filter) was below the threshold for `patience` steps on end.
    Source: arXiv 2505.15778; repo eric-ai-lab/Soft-Thinking.
    Deviations: the official code parses an answer temperature but never applies it, and its Cold Stop counter keeps
    running in the answer, where it aborts the request; here the answer's temperature applies and the counter ends
    with thinking.
    """

    transition = "</think>"
    end_probability: ClassVar[float | None] = None
    remembers: ClassVar[Memory | None] = "facts"
    paper: ClassVar[str | None] = "2505.15778"
    least_parameters: ClassVar[int] = 14_000_000_000

    n: int = Field(15, ge=1, le=256, description="most candidates mixed at each step (max_topk)")
    top_k: int = Field(30, ge=0, le=256, description="filter: this many likeliest tokens; 0 = off")
    top_p: float = Field(0.95, gt=0, le=1, description="filter: smallest set that reaches this; 1 = off")
    min_p: float = Field(0.001, ge=0, le=1, description="filter: at least this share of the likeliest; 0 = off")
    entropy_threshold: float = Field(0.01, ge=0, le=20, description="Cold Stop below this many nats; 0 = never")
    patience: int = Field(256, ge=1, le=100_000, description="Cold Stop after this many such steps on end")

    def support(self) -> int:
        """What the first filter leaves, or as many as top_p needs."""
        return self.top_k

    def mass(self) -> float:
        """Without top-k, candidates beyond top_p are not needed."""
        return self.top_p

    def begin(self, run: Setting) -> Mix:
        """A callable with a Cold Stop counter of its own."""
        cold = ColdStop(self.entropy_threshold, self.patience)
        marker = run.end_marker[:1]

        def mix(d: Distribution, step: Step) -> Mixture | Stop:
            chosen = self.select(d)
            weights = self.weigh(chosen.p, step)
            top = int(chosen.ids[weights.argmax()])
            if top in marker or top in run.end_of_text:
                return Stop(f"the top weight was `{run.text(top)}`")
            if cold.fires(d.entropy):
                return Stop(f"Cold Stop: entropy < {self.entropy_threshold:g} for {self.patience} steps")
            return self.feed(d, chosen, weights)

        return mix

    def select(self, d: Distribution) -> Candidates:
        """The filters in the order of the paper's code, then the n likeliest."""
        return top_k(filtered(candidates(d), self.top_k, self.top_p, self.min_p), self.n).renormalised()

    def weigh(self, p: Weights, step: Step) -> Weights:
        """The probabilities as they are."""
        return p

    def feed(self, d: Distribution, chosen: Candidates, weights: Weights) -> Mixture:
        """The weighted sum."""
        return blend(chosen.ids, weights, rescale=self.length)

    def warnings(self, run: Setting) -> list[str]:
        """Also: Cold Stop that cannot fire."""
        said = super().warnings(run)
        if self.entropy_threshold and self.patience >= run.T_e > 0:
            said.append(f"Cold Stop cannot fire: its patience ({self.patience}) is not below T_e ({run.T_e}).")
        elif self.entropy_threshold and run.temperature > 0.8:
            said.append(
                f"Cold Stop rarely fires at temperature {run.temperature:g}: entropy is seldom below "
                f"{self.entropy_threshold:g} for {self.patience} steps on end (the paper runs at 0.6)."
            )
        return said


class StochasticSoftThinking(SoftThinking, name="stochastic_soft_thinking"):
    """Soft Thinking with perturbed weights, so that not always the likeliest token dominates.

    Formula: Gumbel: w = softmax((ln p + g) / tau), g ~ Gumbel(0, 1) per candidate; the heaviest is then a draw from p.
    Dirichlet: w ~ Dirichlet(gamma x p) on the support. Selection and stop rules are Soft Thinking's.
    Source: arXiv 2508.03440; repo WJMacro/Randomized-Soft-Thinking (Cold Stop is in effect off there, and here).
    Deviations: the official Dirichlet is over the whole vector, zeros included, and masked after the draw.
    """

    deterministic = False
    paper: ClassVar[str | None] = "2508.03440"

    noise: Literal["gumbel", "dirichlet"] = Field("gumbel", description="how the weights are perturbed")
    tau: float = Field(0.5, gt=0, le=100, description="temperature of the Gumbel-Softmax")
    gamma: float = Field(4.0, gt=0, le=1e6, description="concentration of the Dirichlet")
    entropy_threshold: float = Field(0.0, ge=0, le=20, description="Cold Stop below this many nats; 0 = never")

    def weigh(self, p: Weights, step: Step) -> Weights:
        """Weights around p, keyed by (seed, step)."""
        random = step.generator()
        if self.noise == "dirichlet":
            return dirichlet(p, self.gamma, random)
        return gumbel_softmax(p, self.tau, random.gumbel(size=len(p)))


class ThinkRouter(SoftThinking, name="think_router"):
    """Feeds the drawn token where the model is unsure, and Soft Thinking's mixture where it is sure.

    Formula: p_max < tau: e_y with the drawn token y; p_max >= tau: Soft Thinking's sum_i w_i e_i. Cold Stop is kept.
    Source: arXiv 2602.11683 (abstract; no code is published that we know of).
    Deviations: the paper picks tau on a validation set and its value is not known to us; 0.5 is our choice.
    """

    deterministic = False
    paper: ClassVar[str | None] = "2602.11683"

    tau: float = Field(0.5, ge=0, le=1, description="largest probability from which on a mixture is fed")

    def feed(self, d: Distribution, chosen: Candidates, weights: Weights) -> Mixture:
        """The gate, by the unfiltered distribution's largest probability."""
        largest = float(d.probs[0])
        if largest < self.tau:
            return Mixture.token(d.drawn, "sampled", f"gate: p_max {largest:.2f} < {self.tau:g}")
        return super().feed(d, chosen, weights)
