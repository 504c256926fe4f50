"""Mixtures of embeddings, always of what the model's embedding module gives: Gemma scales inside it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from superpose import rng
from superpose.engine import Near
from superpose.engines.blend import FLAT
from superpose.types import FloatArray, IntArray, Mixture

CANDIDATES = 512  # blended at once; fixed, because the order of a sum hangs on it
MIXED = 32  # candidates that a padded step blends itself
_BYTES = 64 << 20  # of embeddings in memory while blending
_ROWS, _TOKENS = 8, 2048  # of a product for large sums; fixed for the same reason
_SHARE = 8  # of the vocabulary, from one part in so many on, a sum is large; see docs/speed.md
_cuda: Any = torch.cuda  # its streams and events are not typed


class Kept(NamedTuple):
    """The mixtures that were blended last."""

    inputs: list[Mixture]
    mixed: Tensor  # [n, width] float32
    ready: Any  # event of a GPU after which they are there

    def places(self) -> dict[int, int]:
        """The row of each, by its identity."""
        return {id(mixture): row for row, mixture in enumerate(self.inputs)}


class Blender:
    """Blends on the model's device, in float32."""

    @torch.inference_mode()
    def __init__(self, embedding: nn.Module, vocab: int, device: torch.device) -> None:
        self._embedding, self._device = embedding, device
        self._spans = [slice(at, min(at + _TOKENS, vocab)) for at in range(0, vocab, _TOKENS)]
        norms = torch.cat([self._outputs(span).norm(dim=-1) for span in self._spans]).cpu().numpy()
        self._norms = norms  # [vocab] float32
        self._mean_norm = float(norms.mean(dtype=np.float64))
        first = self.tokens(np.zeros(1, np.int32))
        self.width, self.dtype = first.shape[-1], first.dtype
        # Root mean square of the coordinates of all embeddings, the unit of noise.
        self._rms = float(np.sqrt((norms.astype(np.float64) ** 2).mean() / self.width))
        # A weight of 0 takes nothing of a row in a product only if the row is finite.
        ends = self._spans[0], self._spans[-1]
        apart = bool(np.isfinite(norms).all()) and all(self._apart(span) for span in ends)
        self._large = max(CANDIDATES, vocab // _SHARE) if apart else vocab
        self._kept = Kept([], torch.zeros(0, self.width, device=device), None)
        self._beside: Any = None  # stream of a GPU

    @torch.inference_mode()
    def scale(self, table: Tensor) -> float:
        """What the embedding module multiplies the rows of its table by, from the first few that are not zero."""
        own, rows = self.tokens(np.arange(16, dtype=np.int32)).float().norm(), table[:16].float().norm()
        return float(own / rows) if rows > 0 else 1.0

    def tokens(self, ids: IntArray) -> Tensor:
        """Embeddings [..., width] of ids [...], in the model's dtype."""
        rows: Tensor = self._embedding(torch.from_numpy(ids.astype(np.int64)).to(self._device))
        return rows

    def _outputs(self, span: slice) -> Tensor:
        """Embeddings [m, width] float32 of neighbouring ids; a plain table's own rows, not copied."""
        if type(self._embedding) is nn.Embedding and self._embedding.max_norm is None:
            return self._embedding.weight[span].float()
        return self.tokens(np.arange(span.start, span.stop)).float()

    def mixtures(self, inputs: Sequence[Mixture]) -> Tensor:
        """Blended embeddings [n, width] float32; of a single token of weight 1, exactly its own.

        Those of the last call are kept: a mixture is measured and fed.
        """
        kept = self._kept.inputs
        if len(inputs) == len(kept) and all(map(is_, inputs, kept)):
            return self._kept.mixed
        places = self._kept.places()
        if all(id(mixture) in places for mixture in inputs):
            return self._kept.mixed[torch.tensor([places[id(mixture)] for mixture in inputs], device=self._device)]
        mixed, ready = self._mixed(inputs), None
        if self._device.type == "cuda":
            ready = _cuda.Event()
            ready.record(_cuda.current_stream(self._device))
        self._kept = Kept(list(inputs), mixed, ready)
        return mixed

    def fed(self, inputs: Sequence[Mixture]) -> Tensor:
        """The same as the model takes them, in the dtype of its embeddings: the one cast."""
        return self.mixtures(inputs).to(self.dtype)

    def norm_ratios(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Length of each blend over the mean length of a token's embedding, [n] float32."""
        if not inputs:
            return np.zeros(0, np.float32)
        lengths = self._lengths_beside(inputs) if self._device.type == "cuda" else self.mixtures(inputs).norm(dim=-1)
        ratios: FloatArray = (lengths / self._mean_norm).cpu().numpy()
        return ratios

    def _lengths_beside(self, inputs: Sequence[Mixture]) -> Tensor:
        """Lengths [n] on the host, not waiting for the step that a GPU makes: in a stream of its own.

        Of another priority than the streams that graphs are captured in, for there are few of each, and two that are
        one share the memory of products. What is not kept is blended anew, for the step has done that inside.
        """
        self._beside = self._beside or _cuda.Stream(self._device, priority=-1)
        kept = self._kept.places()
        others = [mixture for mixture in inputs if id(mixture) not in kept]
        places = kept | {id(mixture): len(kept) + at for at, mixture in enumerate(others)}
        with _cuda.stream(self._beside):
            if self._kept.ready is not None:
                self._beside.wait_event(self._kept.ready)
            mixed = torch.cat([self._kept.mixed, self._mixed(others)]) if others else self._kept.mixed
            lengths: Tensor = mixed.norm(dim=-1).cpu()
        return lengths[[places[id(mixture)] for mixture in inputs]]

    def _mixed(self, inputs: Sequence[Mixture]) -> Tensor:
        groups: dict[tuple[str, int], list[int]] = {}
        for at, mixture in enumerate(inputs):
            large = mixture.combine == "sum" and len(mixture.ids) > self._large
            groups.setdefault((mixture.combine, 0 if large else _padded(len(mixture.ids))), []).append(at)
        parts: list[Tensor] = []
        order: list[int] = []
        for (combine, size), members in groups.items():
            order += members
            if not size:
                parts.append(self._product([inputs[at] for at in members]))
                continue
            block = max(1, _BYTES // (4 * self.width * min(size, CANDIDATES)))
            for i in range(0, len(members), block):
                parts.append(self._blend([inputs[at] for at in members[i : i + block]], combine, size))
        mixed = torch.cat(parts) if len(parts) > 1 else parts[0]
        if order != sorted(order):
            mixed = mixed[torch.tensor(np.argsort(order), device=self._device)]
        return self._finish(mixed, inputs)

    def _finish(self, mixed: Tensor, inputs: Sequence[Mixture]) -> Tensor:
        """Rescaled and with noise, where mixtures say so."""
        if all(mixture.rescale is None and mixture.noise is None for mixture in inputs):
            return mixed
        factors = np.ones((len(inputs), 1), np.float32)  # of the length
        wanted = np.zeros((len(inputs), 1), np.float32)  # length; 0 = as it is
        noise = np.zeros((len(inputs), self.width), np.float32)
        for row, mixture in enumerate(inputs):
            match mixture.rescale:
                case "mean_norm":
                    wanted[row] = self._mean_norm
                case "expected_norm":
                    wanted[row] = abs(float(mixture.weights @ self._norms[mixture.ids]))
                case "inv_l2":
                    factors[row] = 1 / np.linalg.norm(mixture.weights)
                case float(factor):
                    factors[row] = factor
            if mixture.noise is not None:
                unit = rng.normal(mixture.noise.seed, mixture.noise.step, self.width)
                noise[row] = mixture.noise.gamma * self._rms * unit
        scale, length, added = (torch.from_numpy(given).to(self._device) for given in (factors, wanted, noise))
        own = mixed.norm(dim=-1, keepdim=True)  # [n, 1]
        return mixed * torch.where(length > 0, length / own, scale) + added

    def nearest(self, mixture: Mixture, count: int) -> list[Near]:
        """The tokens at the smallest angles to a blend, nearest first; a row without a direction is near to nothing."""
        mixed = self.mixtures([mixture])[0]
        length = mixed.norm()
        if not 0 < length < torch.inf:
            return []
        products = torch.cat([self._outputs(span) @ (mixed / length) for span in self._spans]).cpu().numpy()
        pointing = np.isfinite(self._norms) & (self._norms > 0)
        cosines = np.full(len(products), -np.inf, np.float32)
        np.divide(products, self._norms, out=cosines, where=pointing)
        order = np.argsort(-cosines, kind="stable")[: min(count, int(pointing.sum()))]
        return [Near(int(token), float(cosines[token])) for token in order]

    def _blend(self, inputs: Sequence[Mixture], combine: str, size: int) -> Tensor:
        """[m, width] of mixtures padded to `size` candidates."""
        sent = torch.from_numpy(candidates(inputs, size)).to(self._device).transpose(0, 1).contiguous()
        tokens, shares = sent[0], sent[1].view(torch.float32)[..., None]
        found: list[Tensor] = []  # of each chunk of candidates
        for at in range(0, size, CANDIDATES):
            part = self._embedding(tokens[:, at : at + CANDIDATES]).float()  # [m, a power of two, width]
            if combine == "max":
                found = [torch.stack([*found, part.amax(1)]).amax(0)]
                continue
            if combine == "slerp" and size == 2:
                return _slerp(part, shares[:, 1])
            added = _added(part * shares[:, at : at + CANDIDATES])
            found = [found[0] + added if found else added]
        return found[0]

    def blend_few(self, given: Tensor, highest: Tensor) -> Tensor:
        """Blends [n, width] float32 of `candidates` [n, 2, MIXED], or, in rows that are `highest` [n, 1], their maxima.

        Tensors only; the bits of a sum are those of `mixtures`, whose padding only adds zeros.
        """
        found = self._embedding(given[:, 0]).float()  # [n, MIXED, width]
        added = _added(found * given[:, 1].view(torch.float32)[..., None])
        return torch.where(highest, found.amax(1), added)

    def _product(self, inputs: Sequence[Mixture]) -> Tensor:
        """[m, width] of large sums: their weights, by token, times all embeddings, which are read once for all.

        Added up span by span in products of one shape, the missing rows being 0: see `_apart`.
        """
        rows = -(-len(inputs) // _ROWS) * _ROWS
        weights = torch.zeros(rows, self._spans[-1].stop, device=self._device)
        for row, mixture in zip(weights, inputs, strict=False):
            ids, shares = (torch.tensor(given, device=self._device) for given in (mixture.ids, mixture.weights))
            row.index_add_(0, ids, shares)
        mixed = torch.zeros(rows, self.width, device=self._device)
        for span in self._spans:
            outputs = self._outputs(span)
            for at in range(0, rows, _ROWS):
                mixed[at : at + _ROWS] += weights[at : at + _ROWS, span] @ outputs
        return mixed[: len(inputs)]

    def _apart(self, span: slice) -> bool:
        """Whether in a product a row has the same bits at any place, beside any others, by any number of threads."""
        outputs, threads = self._outputs(span), torch.get_num_threads()
        different = torch.linspace(0, 1e4, _ROWS * len(outputs), device=self._device).view(_ROWS, -1).sin()
        everywhere = different[:1].repeat(_ROWS, 1)
        alone = torch.zeros_like(different)
        alone[-1] = different[0]
        found: list[Tensor] = []
        try:
            for count in {threads, 1}:
                torch.set_num_threads(count)
                found += [(different @ outputs)[:1], everywhere @ outputs, (alone @ outputs)[-1:]]
        finally:
            torch.set_num_threads(threads)
        rows = torch.cat(found)
        return torch.equal(rows, rows[:1].expand_as(rows))


def are_few(mixture: Mixture) -> bool:
    """Whether `blend_few` blends it."""
    whole = mixture.rescale is None and mixture.noise is None and mixture.combine != "slerp"
    return whole and len(mixture.ids) <= MIXED


def candidates(inputs: Sequence[Mixture], size: int) -> IntArray:
    """Ids of mixtures and the bits of their weights, [m, 2, size] int32 in one piece: a copy to a device takes long.

    Of a mixture of more, the first.
    """
    told = np.zeros((len(inputs), 2, size), np.int32)
    weights = told.view(np.float32)
    for row, mixture in enumerate(inputs):
        count = min(len(mixture.ids), size)
        told[row, 0, :count], weights[row, 1, :count] = mixture.ids[:count], mixture.weights[:count]
        told[row, 0, count:] = mixture.ids[0]  # of weight 0, and repeated it changes no maximum
    return told


def _added(part: Tensor) -> Tensor:
    """[m, width], the sums of `part` [m, a power of two, width].

    Halves are added to halves, in an order that only a mixture's own candidates decide: a batched product
    or sum may take another for another batch, and a lane must not feel its neighbours.
    """
    while part.shape[1] > 1:
        half = part.shape[1] // 2
        part = part[:, :half] + part[:, half:]
    return part[:, 0]


def _slerp(pair: Tensor, turn: Tensor) -> Tensor:
    """[m, width] on the arcs between `pair` [m, 2, width], `turn` [m, 1] of the way; the length goes linearly."""
    lengths = pair.norm(dim=-1, keepdim=True)  # [m, 2, 1]
    one, two = (pair / lengths).unbind(1)
    angle = (one * two).sum(-1, keepdim=True).clamp(-1, 1).acos().clamp(min=FLAT)
    along = (torch.sin((1 - turn) * angle) * one + torch.sin(turn * angle) * two) / torch.sin(angle)
    arc: Tensor = along * ((1 - turn) * lengths[:, 0] + turn * lengths[:, 1])
    return arc


def _padded(count: int) -> int:
    """The power of two, or beyond CANDIDATES the multiple of it, that holds so many."""
    return 1 << (count - 1).bit_length() if count <= CANDIDATES else -(-count // CANDIDATES) * CANDIDATES
