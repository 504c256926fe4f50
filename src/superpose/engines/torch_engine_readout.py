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
from torch.nn.functional import pad

from superpose.engine import BadShape, EngineError, Readout
from superpose.types import Distribution, IntArray, Sampling

Float64Array = npt.NDArray[np.float64]

FEW, MANY = 256, 4096  # how many candidates are tried before a whole vocabulary is sorted
COLDEST, HOTTEST = 1e-6, 1e6  # below the coldest temperature a draw is greedy
_NEVER = -1e30  # stands for -inf: probability 0 at any temperature, and 0 times it is 0, not NaN
_BLOCK = 256  # tokens that a draw adds up together


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
        logits = logits.float()
        highest, likeliest = logits.max(-1, keepdim=True)  # [n, 1]; the first of equals
        self.scores = (logits - highest).clamp_(min=_NEVER)
        share, work = (
            torch.exp(self.scores),
            torch.empty_like(self.scores),
        )  # [n, vocab]; no more of that size
        entropy = entropy_raw = _entropy(share, torch.mul(share, self.scores, out=work))
        if any(ask.temperature != 1 for ask in asks):
            temperature = [[1.0 if ask.temperature < COLDEST else ask.temperature] for ask in asks]
            torch.div(self.scores, torch.tensor(temperature, dtype=torch.float32, device=device), out=work)
            if any(ask.temperature < COLDEST for ask in asks):
                cold = torch.tensor([[ask.temperature < COLDEST] for ask in asks], device=device)
                work.masked_fill_(cold, _NEVER).scatter_(1, likeliest, 0.0)  # 0 it is in the other rows too
            torch.exp(work, out=share)
            entropy = _entropy(share, work.mul_(share))
        drawn, total = _draw(share, [ask.u for ask in asks])
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
        scores, ids = _sorted(scores) if whole else scores.topk(count)
        # Bits of floats travel as integers, so that one copy carries everything.
        host = torch.cat([ids.int(), scores.view(torch.int32), numbers], 1).cpu().numpy()
        likeliest, values = host[:, :count], host[:, count : 2 * count].view(np.float32)
        if not whole:  # the device leaves equals in any order
            order = np.lexsort((likeliest, -values))
            likeliest, values = np.take_along_axis(likeliest, order, 1), np.take_along_axis(values, order, 1)
        exact = values.astype(np.float64)
        exact[:, 0] = 0.0  # the highest, which was raised
        return list(zip(likeliest, exact, host[:, 2 * count :], strict=True))


def _sorted(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [n, vocab], highest first, and their ids, the lowest of equals first."""
    if scores.device.type != "cpu":
        return scores.sort(dim=-1, descending=True, stable=True)
    # numpy sorts whole numbers five times as fast: the bits of what a score lacks, which ascend as it descends (those
    # of the one that was raised are negative), and the id behind them.
    lacks = (0 - scores).view(torch.int32).long()
    keys = (lacks << 32 | torch.arange(scores.shape[1])).numpy()
    keys.sort(axis=-1)
    ids = torch.from_numpy(keys) & 0xFFFFFFFF
    return scores.gather(1, ids), ids


def _entropy(share: Tensor, weighted: Tensor) -> Tensor:
    """Nats [n, 1] of the exponentials of scores whose highest is 0, and of those times the scores."""
    total = share.sum(-1, keepdim=True)
    return (total.log() - weighted.sum(-1, keepdim=True) / total).clamp_(min=0.0)


def _draw(share: Tensor, u: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Token ids [n, 1], the first whose cumulative share in token-id order exceeds `u` of the whole; the whole.

    Sums of blocks lead to the block; only its own shares are then added one by one.
    """
    exact = torch.float32 if share.device.type == "mps" else torch.float64  # there is no other on MPS
    n, vocabulary = share.shape
    odd = -vocabulary % _BLOCK
    blocks = (pad(share, (0, odd)) if odd else share).view(n, -1, _BLOCK)
    sums = blocks.sum(-1).cumsum(-1, dtype=exact)  # [n, blocks]
    wanted = _below(torch.tensor(u, dtype=exact, device=share.device)[:, None] * sums[:, -1:], sums[:, -1:])
    block = torch.searchsorted(sums, wanted, right=True).clamp_(max=sums.shape[1] - 1)  # the last for NaN
    before = pad(sums, (1, 0)).gather(1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, _BLOCK))[:, 0].cumsum(-1, dtype=exact)
    at = torch.searchsorted(inside, _below(wanted - before, inside[:, -1:]), right=True)
    return (block * _BLOCK + at).clamp_(max=vocabulary - 1), sums[:, -1:].float()


def _below(value: Tensor, end: Tensor) -> Tensor:
    """`value`, or what is just below `end`: however it was rounded, something of some probability is hit."""
    return torch.minimum(value, torch.nextafter(end, torch.zeros_like(end)))


def _first_count(ask: Readout, vocabulary: int) -> int:
    """How many candidates will probably do."""
    if ask.support == 0 or ask.mass >= 1:
        return vocabulary
    open_ended = ask.filters.top_p < 1 or ask.filters.min_p > 0 or ask.mass > 0
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
    if ask.mass > 0:
        keep = max(keep, min(int(np.searchsorted(cumulative, ask.mass)) + 1, vocabulary))
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
