"""From logits to what each lane asked for: the model's device does the vocabulary, one small copy the rest.

The host receives the likeliest ids with their scores, and per lane the normaliser, the entropies and the token
drawn. The filters of a draw keep a prefix of the likeliest ids, so a filtered draw needs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from superpose.engine import Readout
from superpose.engines.readout import BLOCK, COLDEST, NEVER, Float64Array, Sums, answers
from superpose.types import Distribution, IntArray


def read(logits: Tensor, asks: Sequence[Readout]) -> list[Distribution]:
    """One Distribution a row of `logits` [n, vocab], at each lane's own temperature, filters and random number.

    A logit of -inf is probability 0. Raises EngineError for a row with NaN, with +inf, or with nothing finite.
    """
    return answers(_Rows(logits, asks), asks, logits.shape[1])


class _Rows:
    """What stays on the device: scores [n, vocab] (logits less the highest), and six numbers a lane."""

    def __init__(self, logits: Tensor, asks: Sequence[Readout]) -> None:
        device = logits.device
        logits = logits.float()
        highest, likeliest = logits.max(-1, keepdim=True)  # [n, 1]; the first of equals
        self.scores = (logits - highest).clamp_(min=NEVER)
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
                work.masked_fill_(cold, NEVER).scatter_(1, likeliest, 0.0)  # 0 it is in the other rows too
            torch.exp(work, out=share)
            entropy = _entropy(share, work.mul_(share))
        drawn, total = _draw(share, [ask.u for ask in asks])
        numbers = torch.cat([highest, total, entropy, entropy_raw, share.gather(1, drawn) / total], 1)
        self.numbers = torch.cat([numbers.view(torch.int32), drawn.int()], 1)  # [n, 6]
        self.scores.scatter_(1, likeliest, 1.0)  # so that the lowest of equal ids comes first everywhere

    def fetch(self, rows: Sequence[int], count: int) -> list[tuple[IntArray, Float64Array, Sums]]:
        """For each row its `count` likeliest ids [count], their scores [count] and its sums; one copy."""
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
        sums = [_sums(numbers) for numbers in host[:, 2 * count :]]
        return list(zip(likeliest, exact, sums, strict=True))


def _sums(numbers: IntArray) -> Sums:
    """The six numbers of a row, five of which are the bits of floats."""
    highest, total, entropy, entropy_raw, drawn_prob = numbers[:5].view(np.float32).tolist()
    return Sums(highest, total, entropy, entropy_raw, int(numbers[5]), drawn_prob)


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
    odd = -vocabulary % BLOCK
    blocks = (pad(share, (0, odd)) if odd else share).view(n, -1, BLOCK)
    sums = blocks.sum(-1).cumsum(-1, dtype=exact)  # [n, blocks]
    wanted = _below(torch.tensor(u, dtype=exact, device=share.device)[:, None] * sums[:, -1:], sums[:, -1:])
    block = torch.searchsorted(sums, wanted, right=True).clamp_(max=sums.shape[1] - 1)  # the last for NaN
    before = pad(sums, (1, 0)).gather(1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1, dtype=exact)
    at = torch.searchsorted(inside, _below(wanted - before, inside[:, -1:]), right=True)
    return (block * BLOCK + at).clamp_(max=vocabulary - 1), sums[:, -1:].float()


def _below(value: Tensor, end: Tensor) -> Tensor:
    """`value`, or what is just below `end`: however it was rounded, something of some probability is hit."""
    return torch.minimum(value, torch.nextafter(end, torch.zeros_like(end)))
