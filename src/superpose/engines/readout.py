"""From the likeliest tokens of a row of logits to what its lane asked for; the vocabulary's part is an engine's.

The filters of a draw keep a prefix of the likeliest ids, so a filtered draw needs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from superpose.engine import BadShape, EngineError, Readout
from superpose.types import Distribution, IntArray, Sampling

Float64Array = npt.NDArray[np.float64]

FEW, MANY = 256, 4096  # how many candidates are tried before a whole vocabulary is sorted
COLDEST, HOTTEST = 1e-6, 1e6  # below the coldest temperature a draw is greedy
NEVER = -1e30  # stands for -inf: probability 0 at any temperature, and 0 times it is 0, not NaN
BLOCK = 256  # tokens that a draw adds up together
_PLAIN = Sampling()


class Sums(NamedTuple):
    """What the whole vocabulary of a row comes to."""

    highest: float  # logit; not finite where the logits are of no use
    total: float  # of the exponentials of scores (logits less the highest) at the asked temperature
    entropy: float
    entropy_raw: float
    drawn: int
    drawn_prob: float


class Rows(Protocol):
    """Rows of logits, wherever they are."""

    def fetch(self, rows: Sequence[int], count: int) -> list[tuple[IntArray, Float64Array, Sums]]:
        """For each row its `count` likeliest ids [count], the lowest of equals first, their scores and its sums."""
        ...


def check_ask(ask: Readout) -> None:
    """Nothing, for a readout that can be; otherwise raises BadShape with a sentence."""
    if not 0 <= ask.temperature <= HOTTEST:
        raise BadShape(f"temperature must be a number from 0 to {HOTTEST:g}, not {ask.temperature}")
    if not 0 <= ask.u < 1:
        raise BadShape(f"the random number of a draw must be in [0, 1), not {ask.u}")
    if ask.support < 0 or ask.filters.top_k < 0 or not ask.mass >= 0:
        raise BadShape("support, mass and top_k must be at least 0")
    if not (0 <= ask.filters.top_p <= 1 and 0 <= ask.filters.min_p <= 1):
        raise BadShape("top_p and min_p must be numbers from 0 to 1")


def answers(rows: Rows, asks: Sequence[Readout], vocabulary: int) -> list[Distribution]:
    """One Distribution a row, as each lane asked. Raises EngineError for a row with NaN, +inf, or nothing finite."""
    found: dict[int, Distribution] = {}
    wanted = {row: _first_count(ask, vocabulary) for row, ask in enumerate(asks)}
    while wanted:  # one round, unless a lane's mass or filter reaches further than was tried
        count = max((k for k in wanted.values() if k <= MANY), default=vocabulary)
        batch = [row for row, k in wanted.items() if k <= count]
        for row, (ids, scores, sums) in zip(batch, rows.fetch(batch, count), strict=True):
            distribution = _finish(asks[row], ids, scores, sums, vocabulary)
            if distribution is None:
                wanted[row] = MANY if count < MANY < vocabulary else vocabulary
            else:
                found[row] = distribution
                del wanted[row]
    return [found[row] for row in range(len(asks))]


def _first_count(ask: Readout, vocabulary: int) -> int:
    """How many candidates will probably do."""
    if ask.support == 0 or ask.mass >= 1:
        return vocabulary
    open_ended = ask.filters.top_p < 1 or ask.filters.min_p > 0 or ask.mass > 0
    count = max(FEW if open_ended else 1, ask.support, ask.filters.top_k)
    return count if count <= min(MANY, vocabulary) else vocabulary


def _finish(ask: Readout, ids: IntArray, scores: Float64Array, sums: Sums, vocabulary: int) -> Distribution | None:
    """The Distribution of one lane from its likeliest ids [K] and their scores; None if K is too few."""
    if not math.isfinite(sums.highest):
        raise EngineError("the model's logits are not finite numbers; a wider dtype such as float32 may help")
    cold = ask.temperature < COLDEST
    probs = np.eye(1, len(ids))[0] if cold else np.exp(scores / ask.temperature) / sums.total
    cumulative = probs.cumsum()
    keep = min(ask.support or vocabulary, vocabulary)
    if ask.mass > 0:
        keep = max(keep, min(int(np.searchsorted(cumulative, ask.mass)) + 1, vocabulary))
    filtered = ask.filters != _PLAIN
    prefix = _prefix(ask.filters, probs, cumulative, vocabulary) if filtered else 0
    if len(ids) < min(max(keep, prefix), vocabulary):
        return None
    keep, drawn, drawn_prob = min(keep, len(ids)), sums.drawn, sums.drawn_prob
    if filtered:
        order = np.argsort(ids[:prefix])
        chances = probs[:prefix][order]
        steps = chances.cumsum()
        at = int(np.searchsorted(steps, min(ask.u * steps[-1], np.nextafter(steps[-1], 0)), side="right"))
        drawn, drawn_prob = int(ids[order[at]]), float(chances[at])
    return Distribution(
        ids=ids[:keep].astype(np.int32),
        probs=probs[:keep].astype(np.float32),
        tail=0.0 if keep == vocabulary else max(0.0, 1.0 - float(cumulative[keep - 1])),
        entropy=sums.entropy,
        entropy_raw=sums.entropy_raw,
        drawn=drawn,
        drawn_prob=drawn_prob,
    )


def _prefix(filters: Sampling, probs: Float64Array, cumulative: Float64Array, vocabulary: int) -> int:
    """How many of the likeliest the filters keep; more than `probs` [K] holds if K is too few to tell.

    Each filter sees what the one before it kept, renormalised.
    """
    kept = limit = min(filters.top_k or vocabulary, vocabulary)
    if filters.top_p < 1:
        mass = cumulative[limit - 1] if limit <= len(probs) else 1.0
        kept = min(kept, int(np.searchsorted(cumulative, filters.top_p * mass)) + 1)
    if filters.min_p > 0:
        above = int(np.count_nonzero(probs >= filters.min_p * probs[0]))
        kept = min(kept, above if above < len(probs) else vocabulary)
    return kept
