"""Values of one step: what the model believed, what it is fed, how a token is drawn.

Only numpy. A mixture checks its own invariants, so that a wrong number stops where it was made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
Kind = Literal["mixture", "sampled", "injected"]
Combine = Literal["sum", "max", "slerp"]
Rescale = Literal["mean_norm", "inv_l2", "expected_norm"]
_COMBINES = get_args(Combine)
_LOOKED_AT = 2048  # ids; looking for repeats among 152,000 would take a third of the time of a strategy's step


class Sampling(NamedTuple):
    """Filters of the draw, in the order top-k, top-p, min-p, each on the renormalised rest of the one before.

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


class GaussianNoise(NamedTuple):
    """Normal noise on a mixed embedding, drawn by the engine from (seed, step).

    Its standard deviation is `gamma` times the root mean square of the coordinates of all tokens' embeddings.
    """

    gamma: float
    seed: int
    step: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """What one lane is fed: token ids, weights that sum to 1 (some may be negative), and how they combine.

    - `combine`: "sum" is the weighted sum of the embeddings; "max" their element-wise maximum (the weights then
      only describe); "slerp" turns from the first of two ids towards the second by the second's weight.
    - `kind`: whether this is a blend, a token that was drawn, or one that was forced.
    - `rescale`: length of a sum afterwards: "mean_norm" the mean length of a token's embedding, "inv_l2" divided by
      sqrt(sum w^2), "expected_norm" the weighted mean of the candidates' lengths, a number multiplied by it.
    - `noise`: added at the end.
    - `shown`: the token that stands for the step where it is not the most probable one fed.
    - `reason`: a gate's or switch's few words for people.

    Raises ValueError for arrays that are empty, unequal, not finite, repeat an id or do not sum to 1. Among more than
    2,048 ids no repeated one is looked for; in a sum its weights add up.
    """

    ids: IntArray  # [K] int32
    weights: FloatArray  # [K] float32
    combine: Combine = "sum"
    kind: Kind = "mixture"
    rescale: Rescale | float | None = None
    noise: GaussianNoise | None = None
    shown: int | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        ids, weights = np.asarray(self.ids), np.asarray(self.weights, np.float32)
        if ids.ndim != 1 or ids.shape != weights.shape or ids.size == 0:
            raise ValueError(
                f"a mixture needs as many weights as ids, at least one; got {weights.shape} and {ids.shape}"
            )
        if ids.dtype.kind not in "iu":
            raise ValueError("a mixture's ids must be token ids, integers of at least 0")
        few = ids.size <= _LOOKED_AT
        if few:  # Python's own are the faster ones
            named = set(ids.tolist())
            least, total = min(named), sum(weights.tolist())
        else:
            least, total = ids.min(), float(weights.sum())
        if least < 0:
            raise ValueError("a mixture's ids must be token ids, integers of at least 0")
        if not math.isfinite(total):
            raise ValueError("a mixture's weights must be finite numbers")
        if abs(total - 1.0) > 1e-3:
            raise ValueError(f"a mixture's weights must sum to 1; they sum to {total:.6g}")
        if few and len(named) != ids.size:
            raise ValueError("a mixture names each token once; some id is repeated")
        if self.combine not in _COMBINES or (self.combine == "slerp" and ids.size > 2):
            raise ValueError(f'a mixture combines by "sum", "max" or (two ids) "slerp", not {self.combine!r}')
        if self.kind != "mixture" and ids.size > 1:
            raise ValueError(f"a {self.kind} step feeds one token; got {ids.size}")
        if isinstance(self.rescale, float) and not 0 < self.rescale < np.inf:
            raise ValueError(f"a mixture is rescaled by a positive finite number; got {self.rescale}")
        if ids is not self.ids or ids.dtype != np.int32:
            object.__setattr__(self, "ids", ids.astype(np.int32, copy=False))
        if weights is not self.weights:
            object.__setattr__(self, "weights", weights)

    @classmethod
    def token(cls, token: int, kind: Kind = "mixture", reason: str | None = None) -> Mixture:
        """One ordinary token: a single id of weight 1."""
        return cls(np.array([token], np.int32), np.ones(1, np.float32), kind=kind, reason=reason)

    def heaviest(self, count: int) -> npt.NDArray[np.intp]:
        """Places [at most `count`] of the largest weights, signs aside, heaviest first, the earlier of equals first."""
        lightness = -np.abs(self.weights)
        if len(lightness) <= count:
            return lightness.argsort(kind="stable")
        # No more than the count-th largest; near it, for the likeliest mostly come first.
        most = np.partition(lightness[: 16 * count], count - 1)[count - 1]
        places = np.flatnonzero(lightness <= most)
        return places[lightness[places].argsort(kind="stable")[:count]]
