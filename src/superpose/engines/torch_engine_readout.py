"""From logits to what each lane asked for: the model's device does the vocabulary, one small copy the rest.

The host receives the likeliest ids with their scores, and per lane the normaliser, the entropies and the token
drawn. The filters of a draw keep a prefix of the likeliest ids, so a filtered draw needs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from superpose.engine import BadShape, EngineError, Readout
from superpose.types import Distribution, IntArray, Sampling

Float64Array = npt.NDArray[np.float64]

FEW, MANY = 256, 4096  # how many candidates are tried before a whole vocabulary is sorted
COLDEST, HOTTEST = 1e-6, 1e6  # below the coldest temperature a draw is greedy
_NEVER = -1e30  # stands for -inf: probability 0 at any temperature, and 0 times it is 0, not NaN


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


def read(logits: Tensor, asks: Sequence[Readout]) -> list[Distribution]:
    """One Distribution a row of `logits` [n, vocab], at each lane's own temperature, filters and random number.

    A logit of -inf is probability 0. Raises EngineError for a row with NaN, with +inf, or with nothing finite.
    """
    vocabulary = logits.shape[1]
    rows = _Rows(logits, asks)
    found: dict[int, Distribution] = {}
    wanted = {row: _first_count(ask, vocabulary) for row, ask in enumerate(asks)}
    while wanted:  # one round, unless a lane's mass or filter reaches further than was tried
        count = max((k for k in wanted.values() if k <= MANY), default=vocabulary)
        batch = [row for row, k in wanted.items() if k <= count]
        for row, (ids, scores, numbers) in zip(batch, rows.fetch(batch, count), strict=True):
            distribution = _finish(asks[row], ids, scores, numbers, vocabulary)
            if distribution is None:
                wanted[row] = MANY if count < MANY < vocabulary else vocabulary
            else:
                found[row] = distribution
                del wanted[row]
    return [found[row] for row in range(len(asks))]


class _Rows:
    """What stays on the device: scores [n, vocab] (logits less the highest), and six numbers a lane."""

    def __init__(self, logits: Tensor, asks: Sequence[Readout]) -> None:
        device = logits.device
        exact = torch.float32 if device.type == "mps" else torch.float64  # there is no other on MPS
        logits = logits.float()
        highest, likeliest = logits.max(-1, keepdim=True)  # [n, 1]; the first of equals
        self.scores = (logits - highest).clamp_(min=_NEVER)
        share, total, entropy_raw = _moments(self.scores)
        entropy = entropy_raw
        if any(ask.temperature != 1 for ask in asks):
            cold = [[ask.temperature < COLDEST] for ask in asks]
            temperature = torch.tensor([[1.0 if ask.temperature < COLDEST else ask.temperature] for ask in asks])
            tempered = (self.scores / temperature.to(device)).clamp_(min=_NEVER)
            if any(ask.temperature < COLDEST for ask in asks):
                tempered.masked_fill_(torch.tensor(cold, device=device), _NEVER)
                tempered.scatter_(1, likeliest, 0.0)  # which it is in the other rows: the score of the highest
            share, total, entropy = _moments(tempered)
        cumulative = share.cumsum(-1, dtype=exact)  # in token-id order
        end = cumulative[:, -1:]
        u = torch.tensor([[ask.u] for ask in asks], dtype=exact, device=device)
        # Kept below the end, however u rounds, so that a token with some probability is always hit.
        target = torch.minimum(u * end, torch.nextafter(end, torch.zeros_like(end)))
        drawn = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[1] - 1)  # NaN: the end
        numbers = torch.cat([highest, total, entropy, entropy_raw, share.gather(1, drawn) / total], 1)
        self.numbers = torch.cat([numbers.view(torch.int32), drawn.int()], 1)  # [n, 6]
        self.scores.scatter_(1, likeliest, 1.0)  # so that the lowest of equal ids comes first everywhere

    def fetch(self, rows: Sequence[int], count: int) -> list[tuple[IntArray, Float64Array, IntArray]]:
        """For each row its `count` likeliest ids [count], their scores [count] and its numbers [6]; one copy."""
        scores, numbers = self.scores, self.numbers
        if len(rows) < len(scores):
            index = torch.tensor(rows, device=scores.device)
            scores, numbers = scores[index], numbers[index]
        whole = count == scores.shape[1]
        scores, ids = scores.sort(-1, descending=True, stable=True) if whole else scores.topk(count)
        # Bits of floats travel as integers, so that one copy carries everything.
        host = torch.cat([ids.int(), scores.view(torch.int32), numbers], 1).cpu().numpy()
        likeliest, values = host[:, :count], host[:, count : 2 * count].view(np.float32)
        if not whole:  # the device leaves equals in any order
            order = np.lexsort((likeliest, -values))
            likeliest, values = np.take_along_axis(likeliest, order, 1), np.take_along_axis(values, order, 1)
        exact = values.astype(np.float64)
        exact[:, 0] = 0.0  # the highest, which was raised
        return list(zip(likeliest, exact, host[:, 2 * count :], strict=True))


def _moments(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of scores [n, vocab] whose highest is 0: exponentials [n, vocab], their sum [n, 1], the entropy [n, 1]."""
    share = scores.exp()
    total = share.sum(-1, keepdim=True)
    entropy = total.log() - (share * scores).sum(-1, keepdim=True) / total
    return share, total, entropy.clamp_(min=0.0)


def _first_count(ask: Readout, vocabulary: int) -> int:
    """How many candidates will probably do."""
    if ask.support == 0 and ask.mass >= 1:
        return vocabulary
    open_ended = ask.filters.top_p < 1 or ask.filters.min_p > 0 or ask.support == 0
    count = max(FEW if open_ended else 1, ask.support, ask.filters.top_k)
    return count if count <= min(MANY, vocabulary) else vocabulary


def _finish(
    ask: Readout, ids: IntArray, scores: Float64Array, numbers: IntArray, vocabulary: int
) -> Distribution | None:
    """The Distribution of one lane from its likeliest ids [K] and their scores; None if K is too few."""
    highest, total, entropy, entropy_raw, drawn_prob = (float(x) for x in numbers[:5].view(np.float32))
    if not math.isfinite(highest):
        raise EngineError("the model's logits are not finite numbers; a wider dtype such as float32 may help")
    cold = ask.temperature < COLDEST
    probs = np.eye(1, len(ids))[0] if cold else np.exp(scores / ask.temperature) / total
    cumulative = probs.cumsum()
    keep = min(ask.support or vocabulary, vocabulary)
    if ask.mass < 1:
        keep = min(keep, int(np.searchsorted(cumulative, ask.mass)) + 1)
    filtered = ask.filters != Sampling()
    prefix = _prefix(ask.filters, probs, cumulative, vocabulary) if filtered else 0
    if len(ids) < min(max(keep, prefix), vocabulary):
        return None
    keep, drawn = min(keep, len(ids)), int(numbers[5])
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
        entropy=entropy,
        entropy_raw=entropy_raw,
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
