"""From logits to what each lane asked for: the model's device does the vocabulary, one small copy the rest.

The host receives the likeliest ids with their scores, and per lane the normaliser, the entropies and the token
drawn. The filters of a draw keep a prefix of the likeliest ids, so a filtered draw needs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
    return answers(Rows(*measure(logits, Asked.of(asks).to(logits.device))), asks, logits.shape[1])


class Asked(NamedTuple):
    """What the rows of a pass are asked, as tensors [n, 1]; None where all rows ask for the usual."""

    u: Tensor  # float64, but float32 on MPS, which has no other
    temperature: Tensor | None  # where it is 1 in all rows
    cold: Tensor | None  # whether a row is to be greedy

    @staticmethod
    def table(asks: Sequence[Readout]) -> Float64Array:
        """What these ask, [n, 3]: u, temperature, and whether a row is to be greedy, whose temperature is 1 then."""
        given = np.array([[ask.u, ask.temperature, 0] for ask in asks], np.float64)
        given[:, 2] = given[:, 1] < COLDEST
        given[given[:, 2] > 0, 1] = 1
        return given

    @classmethod
    def of(cls, asks: Sequence[Readout]) -> Asked:
        """These asks on the host."""
        given = cls.table(asks)
        u, temperature, cold = given[:, :1], given[:, 1:2], given[:, 2:]
        told = bool(cold.any() or (temperature != 1).any())
        return cls(
            torch.from_numpy(u.copy()),
            torch.from_numpy(temperature.astype(np.float32)) if told else None,
            torch.from_numpy(cold > 0) if cold.any() else None,
        )

    def to(self, device: torch.device) -> Asked:
        """The same on a device."""
        if device.type == "cpu":
            return self
        u = self.u.float() if device.type == "mps" else self.u
        return Asked(u.to(device), *(None if part is None else part.to(device) for part in self[1:]))


def room(rows: int, vocabulary: int, device: torch.device) -> Tensor:
    """Where `measure` computes, [3, rows, vocabulary and more] float32: whole blocks, with nothing behind the end."""
    made = torch.empty(3, rows, -(-vocabulary // BLOCK) * BLOCK, device=device)
    made[0, :, vocabulary:] = NEVER
    return made


def measure(logits: Tensor, asked: Asked, held: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scores [n, vocab], which are logits less the highest, and six numbers a row, [n, 6]; tensors only.

    With a `room` that is `held` scores are in it until the next call. Memory that is new to a process costs a CPU up to
    ten times what is computed in it.
    """
    n, vocabulary = logits.shape
    scores, share, work = (room(n, vocabulary, logits.device) if held is None else held)[:, :n]
    own = scores[:, :vocabulary].copy_(logits)  # the rest has no share, now and below
    highest, likeliest = own.max(-1, keepdim=True)  # [n, 1]; the first of equals
    torch.exp(scores.sub_(highest).clamp_(min=NEVER), out=share)
    entropy = entropy_raw = _entropy(share, torch.mul(share, scores, out=work))
    if asked.temperature is not None:
        torch.div(scores, asked.temperature, out=work)
        if asked.cold is not None:
            work.masked_fill_(asked.cold, NEVER).scatter_(1, likeliest, 0.0)  # 0 it is in the other rows too
        torch.exp(work, out=share)
        entropy = _entropy(share, work.mul_(share))
    drawn, total = _draw(share, asked.u, vocabulary)
    numbers = torch.cat([highest, total, entropy, entropy_raw, share.gather(1, drawn) / total], 1)
    own.scatter_(1, likeliest, 1.0)  # so that the lowest of equal ids comes first everywhere
    return own, torch.cat([numbers.view(torch.int32), drawn.int()], 1)


def shortlist(scores: Tensor, numbers: Tensor, count: int) -> Tensor:
    """The `count` likeliest ids of each row, the bits of their scores and its numbers: all of what the host needs."""
    values, ids = _sorted(scores) if count == scores.shape[1] else scores.topk(count)
    return torch.cat([ids.int(), values.view(torch.int32), numbers], 1)  # [n, 2 count + 6]


class Rows:
    """Rows on a device, by their scores and numbers; `ready` is a shortlist that may be there already."""

    def __init__(self, scores: Tensor, numbers: Tensor, ready: Tensor | None = None) -> None:
        self._scores, self._numbers, self._ready = scores, numbers, ready

    def fetch(self, rows: Sequence[int], count: int) -> list[tuple[IntArray, Float64Array, Sums]]:
        """For each row its `count` likeliest ids [count], their scores [count] and its sums; one copy."""
        many = 0 if self._ready is None else (self._ready.shape[1] - self._numbers.shape[1]) // 2
        if self._ready is not None and count <= many:
            host = self._ready.cpu().numpy()[list(rows)]
        else:
            scores, numbers, many = self._scores, self._numbers, count
            if len(rows) < len(scores):
                index = torch.tensor(rows, device=scores.device)
                scores, numbers = scores[index], numbers[index]
            host = shortlist(scores, numbers, count).cpu().numpy()
        likeliest, values = host[:, :many], host[:, many : 2 * many].view(np.float32)
        if many < self._scores.shape[1]:  # the device leaves equals in any order
            order = np.lexsort((likeliest, -values))[:, :count]
            likeliest, values = np.take_along_axis(likeliest, order, 1), np.take_along_axis(values, order, 1)
        exact = values.astype(np.float64)
        exact[:, 0] = 0.0  # the highest, which was raised
        sums = [_sums(numbers) for numbers in host[:, 2 * many :]]
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
    total = _blocks(share).sum(-1).sum(-1, keepdim=True)
    mean = _blocks(weighted).sum(-1).sum(-1, keepdim=True) / total
    return (total.log() - mean).clamp_(min=0.0)


def _blocks(rows: Tensor) -> Tensor:
    """Rows [n, whole blocks] as blocks [n, blocks, BLOCK].

    Torch shares the sum of a long row out to threads, so that its last bits depend on them and on how many rows there
    are; a block is one thread's.
    """
    return rows.view(len(rows), -1, BLOCK)


def _draw(share: Tensor, u: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Token ids [n, 1], the first whose cumulative share in token-id order exceeds `u` of the whole; the whole.

    Sums of blocks lead to the block; only its own shares are then added one by one.
    """
    exact = u.dtype
    blocks = _blocks(share)
    sums = blocks.sum(-1).cumsum(-1, dtype=exact)  # [n, blocks]
    wanted = _below(u * sums[:, -1:], sums[:, -1:])
    block = torch.searchsorted(sums, wanted, right=True).clamp_(max=sums.shape[1] - 1)  # the last for NaN
    before = pad(sums, (1, 0)).gather(1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1, dtype=exact)
    at = torch.searchsorted(inside, _below(wanted - before, inside[:, -1:]), right=True)
    return (block * BLOCK + at).clamp_(max=vocabulary - 1), sums[:, -1:].float()


def _below(value: Tensor, end: Tensor) -> Tensor:
    """`value`, or what is just below `end`: however it was rounded, something of some probability is hit."""
    return torch.minimum(value, torch.nextafter(end, torch.zeros_like(end)))
