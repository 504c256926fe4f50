"""The baseline: ordinary sampling."""

from superpose.strategy import Step, Strategy
from superpose.types import Distribution, Mixture


class Sample(Strategy, name="sample"):
    """Feeds the drawn token at every step: plain chain of thought, the baseline.

    Formula: y ~ p through the run's filters; the input is e_y. The transition is empty, so that thinking and
    answer are one seamless ordinary generation.
    """

    transition = ""
    deterministic = False

    def support(self) -> int:
        """The drawn token is enough."""
        return 1

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The drawn token."""
        return Mixture.token(d.drawn, "sampled")
