"""Element-wise maximum, and the variant that answers at once."""

from superpose.strategies.families import TopK
from superpose.strategies.parts import blend, normalised
from superpose.strategy import Step
from superpose.types import Distribution, Mixture


class ElementWiseMax(TopK, name="element_wise_max"):
    """Feeds the element-wise maximum of the k likeliest tokens' embeddings.

    Formula: the input's coordinate c is max_i e_i[c] over the top-k. The weights p_i / sum_j p_j only
    describe the candidates; they do not enter the input.
    Source: no published one is known to us; an experiment.
    """

    def mix(self, d: Distribution, step: Step) -> Mixture:
        """The top-k, combined by maximum."""
        ids, p = self.select(d)
        return blend(ids, normalised(p), combine="max")


class AnswerDirectlyElementWiseMax(ElementWiseMax, name="answer_directly_element_wise_max"):
    """Thinks as element_wise_max does, then is told to answer at once: `</think><answer>`.

    Formula: as element_wise_max; only the transition differs.
    Source: no published one is known to us; an experiment.
    """

    transition = "</think><answer>"
