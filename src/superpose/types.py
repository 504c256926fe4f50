"""Values of one step: what the model believed, what it is fed, how a token is drawn.

Only numpy. Every value checks its own invariants, so a wrong number stops where it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
Combine = Literal["sum", "max"]


class Sampling(NamedTuple):
    """Filters of the draw, applied in the order top-k, top-p, min-p to the tempered distribution.

    `top_k` 0, `top_p` 1 and `min_p` 0 switch a filter off. `top_p` keeps the smallest set of likeliest
    tokens whose probability reaches it; `min_p` keeps tokens of at least `min_p` times the likeliest one.
    """

    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """One lane's belief about its next token at the temperature that was asked for.

    `probs` are normalised over the whole vocabulary; temperature 0 is the limit: all mass on the likeliest
    token. `entropy_raw` is always at temperature 1.
    """

    ids: IntArray  # [K] int32, likeliest first
    probs: FloatArray  # [K] float32
    tail: float  # probability outside `ids`
    entropy: float  # nats, whole vocabulary, at the asked temperature
    entropy_raw: float  # nats, whole vocabulary, temperature 1
    drawn: int  # token drawn through the filters with the step's random number
    drawn_prob: float  # its probability in the whole (unfiltered) distribution


@dataclass(frozen=True, slots=True)
class Mixture:
    """What one lane is fed: token ids, weights that sum to 1, and how their embeddings combine.

    `combine="sum"` feeds the weighted sum; `"max"` the element-wise maximum over the ids (weights then only
    describe). `sampled` is true when the one id was drawn as an ordinary token and is no blend.
    Raises ValueError for arrays that are empty, unequal, not finite, repeat an id or do not sum to 1.
    """

    ids: IntArray  # [K] int32
    weights: FloatArray  # [K] float32
    combine: Combine = "sum"
    sampled: bool = False

    def __post_init__(self) -> None:
        ids, weights = np.asarray(self.ids), np.asarray(self.weights, np.float32)
        if ids.ndim != 1 or ids.shape != weights.shape or ids.size == 0:
            raise ValueError(
                f"a mixture needs as many weights as ids, at least one; got {weights.shape} and {ids.shape}"
            )
        if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0:
            raise ValueError("a mixture's ids must be token ids, integers of at least 0")
        if not np.isfinite(weights).all():
            raise ValueError("a mixture's weights must be finite numbers")
        total = float(weights.sum(dtype=np.float64))
        if abs(total - 1.0) > 1e-3:
            raise ValueError(f"a mixture's weights must sum to 1; they sum to {total:.6g}")
        if ids.size > 1 and np.unique(ids).size != ids.size:
            raise ValueError("a mixture names each token once; some id is repeated")
        if self.combine not in ("sum", "max"):
            raise ValueError(f'a mixture combines by "sum" or "max", not {self.combine!r}')
        object.__setattr__(self, "ids", ids.astype(np.int32, copy=False))
        object.__setattr__(self, "weights", weights)

    @classmethod
    def token(cls, token: int, *, sampled: bool = False) -> Mixture:
        """One ordinary token: a single id of weight 1."""
        return cls(np.array([token], np.int32), np.ones(1, np.float32), sampled=sampled)
