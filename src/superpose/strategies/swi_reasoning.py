"""SwiReasoning: blocks of mixtures and blocks of tokens, switched by entropy."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from pydantic import Field

from superpose.strategies.families import WeightedSum, WholeGeneration
from superpose.strategies.parts import anchored, blend, math_gate, retempered, vocabulary
from superpose.strategy import Memory, Mix, Setting, Step, Stop
from superpose.types import Distribution, Mixture


class SwiReasoning(WholeGeneration, WeightedSum, name="swi_reasoning"):
    """Alternates mixtures while the model is unsure with drawn tokens once it is surer than it was at the switch.

    Formula: latent steps feed softmax(z) E at temperature 1, explicit steps the drawn token. With the reference
    entropy H_ref (temperature 1) of the last switch: latent -> explicit when H < H_ref; explicit -> latent when
    H > H_ref after at least `window` steps, until `</think>` has been drawn. Switching steps are anchored: to `<think>`
    by 1 - alpha_t, to `</think>` by 1 - beta_t, both falling to 0 at T_total; step 0 to a line break by 0.1. With a
    switch cap N, the N-th to 2N-th switch to explicit force the convergence words, later ones the termination
    words, after which `termination_budget` steps are left.
    Source: arXiv 2510.05069; repo sdc17/SwiReasoning.
    Deviations: the official code looks up the two characters backslash and n for the line break of step 0; here
    it is the line break. Its list of mathematical tokens is ours. T_max is T_total.
    """

    remembers: ClassVar[Memory | None] = "facts"
    paper: ClassVar[str | None] = "2510.05069"

    alpha_0: float = Field(1.0, ge=0, le=1, description="share of the mixture at a switch to latent, at the start")
    beta_0: float = Field(0.7, ge=0, le=1, description="share of the mixture at a switch to explicit, at the start")
    window: int = Field(512, ge=0, le=100_000, description="explicit steps before a switch back (W)")
    max_switches: int = Field(0, ge=0, le=10_000, description="switch cap N; 0 = none")
    convergence_words: str = Field("</think>", description="forced from the N-th switch on")
    termination_words: str = Field("</think>\n\nThe final answer is", description="forced after 2N switches")
    termination_budget: int = Field(32, ge=1, le=10_000, description="steps left once terminating")
    math_override: bool = Field(True, description="feed digits, letters and operators as they were drawn")

    def support(self) -> int:
        """The whole vocabulary."""
        return 0

    def begin(self, run: Setting) -> Mix:
        """A controller with a mode, a reference entropy and a queue of forced words."""
        return _Controller(self, run)


class _Controller:
    """The state of one run."""

    def __init__(self, method: SwiReasoning, run: Setting) -> None:
        self.method, self.run = method, run
        self.overridden = math_gate(method.math_override, run.text)
        # Where the vocabulary cannot write one of these, its steps have no anchor, and without the end nothing locks.
        self.begins = run.encode("<think>")[0] if run.end_marker else None
        self.ends = run.end_marker[0] if run.end_marker else None
        self.line_break = next(iter(run.encode("\n")), None)
        self.latent, self.locked = True, False
        self.dwell = self.switches = 0
        self.reference = 0.0
        self.queue: deque[int] = deque()
        self.budget: int | None = None

    def __call__(self, d: Distribution, step: Step) -> Mixture | Stop:
        if self.budget is not None:
            if self.budget == 0:
                return Stop(f"terminated: more than {2 * self.method.max_switches} switches to tokens")
            self.budget -= 1
        self.locked = self.locked or d.drawn == self.ends
        forced = self.queue.popleft() if self.queue else None
        reason, anchor = self._switch(d.entropy_raw, step.index)
        if forced is not None:
            return Mixture.token(forced, "injected", reason)
        if self.overridden(d.drawn) or not (self.latent or anchor):
            return Mixture.token(d.drawn, "sampled", reason)
        soft = retempered(vocabulary(d), self.run.temperature, 1.0)
        if anchor and anchor[1] is not None:
            soft = anchored(soft, anchor[0], anchor[1])
        return blend(soft.ids, soft.p, rescale=self.method.length, shown=d.drawn, reason=reason)

    def _switch(self, nats: float, index: int) -> tuple[str | None, tuple[float, int | None] | None]:
        """Moves the controller on by one step: a reason for people, and (mixture's share, anchor token)."""
        if index == 0:
            self.reference = nats
            return None, (0.9, self.line_break)
        self.dwell += 1
        grown = index / self.run.T_total
        if self.latent and nats < self.reference:
            self._turn(nats)
            self.switches += 1
            self._cap()
            share = self.method.beta_0 + (1 - self.method.beta_0) * grown
            cap = f" of {self.method.max_switches}" if self.method.max_switches else ""
            return f"to tokens, switch {self.switches}{cap}: entropy {nats:.2f} fell", (share, self.ends)
        if not self.latent and not self.locked and nats > self.reference and self.dwell >= self.method.window:
            self._turn(nats)
            share = self.method.alpha_0 + (1 - self.method.alpha_0) * grown
            return f"to mixtures: entropy {nats:.2f} rose", (share, self.begins)
        return None, None

    def _turn(self, nats: float) -> None:
        self.latent, self.dwell, self.reference = not self.latent, 0, nats

    def _cap(self) -> None:
        """Forces words once too many switches were made; they are fed from the next step on."""
        most = self.method.max_switches
        if not most or self.budget is not None:
            return
        if self.switches > 2 * most:
            self.queue = deque(self.run.encode(self.method.termination_words))
            self.budget = self.method.termination_budget - 1  # the triggering step is one of them
        elif self.switches >= most:
            self.queue = deque(self.run.encode(self.method.convergence_words))
