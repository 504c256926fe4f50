"""Element-wise maximum, and the variant that answers at once."""

import numpy as np
from pydantic import Field

from superpose.strategies.parts import normalised, top_k
from superpose.strategy import Step, Strategy
from superpose.types import Distribution, Mixture


class ElementWiseMax(Strategy, name="element_wise_max"):
    """Feeds the element-wise maximum of the k likeliest tokens' embeddings.

    Formula: the input's coordinate c is max_i e_i[c] over the top-k. The weights p_i / sum_j p_j only
    describe the candidates; they do not enter the input.
    Source: no published one is known to us; an experiment.
    """

    k: int = Field(5, ge=1, le=256, description="candidates whose embeddings the maximum is taken over")

    def support(self) -> int:
        """The k likeliest."""
        return self.k

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The top-k, combined by maximum."""
        ids, p = top_k(d, self.k)
        return Mixture(ids, normalised(p).astype(np.float32), combine="max")


class AnswerDirectlyElementWiseMax(ElementWiseMax, name="answer_directly_element_wise_max"):
    """Thinks as element_wise_max does, then is told to answer at once: `</think><answer>`.

    Formula: as element_wise_max; only the transition differs.
    Source: no published one is known to us; an experiment.
    """

    transition = "</think><answer>"
