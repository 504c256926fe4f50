"""Any transformers model as an engine: lanes in a slot cache, fed by outputs of its own embedding module."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from superpose.engine import (
    BadShape,
    EngineError,
    EngineInfo,
    EngineOptions,
    LanesFull,
    LaneTooLong,
    OutOfMemory,
    Progress,
    Readout,
    Tokenizer,
    UnknownLane,
    UnsupportedModel,
)
from superpose.engines.torch_engine_cache import ATTENTION, BUCKET, Slots
from superpose.engines.torch_engine_check import LANES, POSITIONS, Trial, longest, refuse
from superpose.engines.torch_engine_linear import pack
from superpose.engines.torch_engine_load import load_model, ran_out
from superpose.engines.torch_engine_readout import check_ask, read
from superpose.models import ModelFiles, cache_dir
from superpose.types import Distribution, FloatArray, IntArray, Mixture

CHUNK = 512  # positions of one pass of a prefill, and candidates blended at once; fixed: results hang on it
_BLEND_BYTES = 64 << 20  # of embeddings in memory while blending


class TorchEngine:
    """Lanes of one transformers model, which the engine takes over: it exchanges attention and linear layers.

    Raises UnsupportedModel for a model that cannot be driven by embeddings or fails its self-check.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        label: str,
        *,
        max_lanes: int = 16,
        context: int = 8192,
        progress: Progress | None = None,
    ) -> None:
        report = progress or (lambda stage, done, total: None)
        refuse(model.config, label)
        self.tokenizer = tokenizer
        self._model = model.eval().requires_grad_(False)
        self._embed = model.get_input_embeddings()
        self._device, self._dtype = model.device, model.dtype
        vocab, context = _vocabulary(model, label), longest(model.config, context)
        self._opened = 0
        self._last: tuple[Tensor, list[int]] | None = None  # logits [n, vocab] of a pass, and whose row is where
        report("self-check", 0, 2)
        with self._guard([]):
            trial = Trial(model, label, vocab)
            weights = _weights_hash(model)
            model.set_attn_implementation(ATTENTION)
            packed = pack(model)
            norms = self._row_norms(vocab)
        self._mean_norm = float(norms.mean())
        report("self-check", 1, 2)
        # The trial may need more lanes and positions than were asked for.
        lanes, columns = max(max_lanes, LANES), max(context, POSITIONS)
        self._slots = Slots(model.config.get_text_config(decoder=True), lanes, columns)
        self.info = EngineInfo(
            name="torch",
            model=label,
            vocab=vocab,
            width=int(self._rows(np.zeros(1, np.int32)).shape[-1]),
            max_lanes=lanes,
            context=columns,
            device=str(self._device),
            dtype=str(self._dtype).removeprefix("torch."),
            eog_ids=_end_ids(model, tokenizer),
            end_marker=tuple(tokenizer.encode_template("</think>")),
            invariance="none",
            fingerprint=_fingerprint(weights, self._device, self._dtype, packed, tokenizer),
            checks=(),
        )
        found = trial.run(self)
        self.info = replace(
            self.info, max_lanes=max_lanes, context=context, invariance=found.invariance, checks=found.checks
        )
        report("self-check", 2, 2)

    def open(self) -> int:
        """A new, empty lane. Raises LanesFull."""
        if len(self._slots.row) >= self.info.max_lanes:
            raise LanesFull(f"all {self.info.max_lanes} lanes are taken")
        self._opened += 1
        self._slots.open(self._opened)
        return self._opened

    def close(self, lane: int) -> None:
        """Frees a lane. Raises UnknownLane."""
        self.length(lane)
        self._slots.close(lane)

    def length(self, lane: int) -> int:
        """How many positions a lane holds. Raises UnknownLane."""
        if lane not in self._slots.length:
            raise UnknownLane(f"there is no open lane {lane}")
        return self._slots.length[lane]

    @torch.inference_mode()
    def prefill(self, lane: int, inputs: Sequence[Mixture] | IntArray, ask: Readout) -> Distribution:
        """The belief after token ids [T] or mixtures that are appended to a lane.

        Raises UnknownLane, BadShape, LaneTooLong, OutOfMemory.
        """
        self._admit(lane, inputs, ask)
        start = self.length(lane)
        with self._guard([lane]):
            for at in range(0, len(inputs), CHUNK):
                part = inputs[at : at + CHUNK]
                fed = self._rows(part) if isinstance(part, np.ndarray) else self._blended(part)
                logits = self._forward([lane], fed[None], start + at)
            answer = read(logits, [ask])[0]
        self._slots.length[lane] = start + len(inputs)
        self._last = logits, [0]
        return answer

    @torch.inference_mode()
    def step(
        self, lanes: Sequence[int], inputs: Sequence[Mixture], asks: Sequence[Readout]
    ) -> list[Distribution]:
        """A belief per lane, in their order, after one mixture was appended to each in one forward pass.

        Raises UnknownLane, BadShape, LaneTooLong, OutOfMemory.
        """
        if not len(lanes) == len(inputs) == len(asks) or len(set(lanes)) != len(lanes):
            raise BadShape("a step takes one mixture and one readout for each of some distinct lanes")
        for lane, mixture, ask in zip(lanes, inputs, asks, strict=True):
            self._admit(lane, [mixture], ask)
        if not lanes:
            return []
        with self._guard(lanes):
            order = self._slots.arrange(lanes)
            given = [lanes.index(lane) for lane in order]  # where the lane of each row is in what was given
            fed = self._blended([inputs[i] for i in given])
            logits = self._forward(order, fed[:, None], None)
            answers = read(logits, [asks[i] for i in given])
        for lane in lanes:
            self._slots.length[lane] += 1
        rows = sorted(range(len(given)), key=given.__getitem__)
        self._last = logits, rows
        return [answers[row] for row in rows]

    @torch.inference_mode()
    def fork(self, src: int, upto: int) -> int:
        """A new lane that holds positions [0, upto) of `src`. Raises UnknownLane, BadShape, LanesFull, OutOfMemory."""
        self._within(src, upto)
        lane = self.open()
        try:
            with self._guard([]):
                self._slots.copy(src, lane, upto)
        except EngineError:
            self._slots.close(lane)
            raise
        return lane

    def rollback(self, lane: int, upto: int) -> None:
        """Cuts a lane back to its first `upto` positions. Raises UnknownLane, BadShape."""
        self._within(lane, upto)
        self._slots.length[lane] = upto

    @torch.inference_mode()
    def norm_ratios(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Length of each mixed embedding over the mean token's, [n] float32. Raises BadShape, OutOfMemory."""
        self._check_ids(inputs)
        if not inputs:
            return np.zeros(0, np.float32)
        with self._guard([]):
            norms: FloatArray = self._blended(inputs, cast=False).norm(dim=-1).cpu().numpy()
        return norms / np.float32(self._mean_norm)

    def logits(self) -> FloatArray:
        """Logits of the last prefill (one row) or step (a row a lane, in its order), [n, vocab] float32."""
        if self._last is None:
            return np.zeros((0, self.info.vocab), np.float32)
        logits, rows = self._last
        found: FloatArray = logits.float().cpu().numpy()[rows]
        return found

    def release(self) -> None:
        """Lets go of the weights and caches; the engine is of no use afterwards."""
        self._last = None
        del self._model, self._embed, self._slots
        gc.collect()
        _empty_cache(self._device)

    def _within(self, lane: int, upto: int) -> None:
        if not 0 <= upto <= self.length(lane):
            raise BadShape(f"lane {lane} holds {self.length(lane)} positions; {upto} of them cannot be kept")

    def _admit(self, lane: int, inputs: Sequence[Mixture] | IntArray, ask: Readout) -> None:
        """Everything that may be wrong with a call, before anything is touched."""
        length = self.length(lane)
        self._check_ids(inputs)
        check_ask(ask)
        if len(inputs) == 0:
            raise BadShape("there is nothing to feed")
        if length + len(inputs) > self.info.context:
            raise LaneTooLong(
                f"lane {lane} holds {length} tokens and would exceed the context of {self.info.context} by taking "
                f"{len(inputs)} more"
            )

    def _check_ids(self, inputs: Sequence[Mixture] | IntArray) -> None:
        given = [inputs] if isinstance(inputs, np.ndarray) else [mixture.ids for mixture in inputs]
        for ids in given:
            if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
                raise BadShape(f"token ids are a list of integers, not {ids.dtype} of shape {ids.shape}")
            if ids.size and not 0 <= ids.min() <= ids.max() < self.info.vocab:
                raise BadShape(f"token ids must be from 0 to {self.info.vocab - 1}")

    @contextmanager
    def _guard(self, lanes: Sequence[int]) -> Iterator[None]:
        """Leaves the engine usable when a pass over `lanes` fails, and says in words that memory ran out."""
        try:
            yield
        except EngineError:  # the pass may have left numbers that are not finite
            self._slots.clean(lanes)
            raise
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            if hasattr(self, "_slots"):
                self._slots.settle()
            _empty_cache(self._device)
            raise OutOfMemory(f"the memory of {self._device} is used up; close some lanes or shorten them") from error

    def _forward(self, lanes: Sequence[int], fed: Tensor, start: int | None) -> Tensor:
        """Logits [n, vocab] after `fed` [n, T, width] at the end of each lane, or in one lane from `start` on."""
        positions = self._slots.plan(lanes, start, fed.shape[1], self._device)
        logits: Tensor = self._model(
            inputs_embeds=fed,
            position_ids=positions,
            attention_mask=self._slots.masks(positions, self._dtype),
            past_key_values=self._slots.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    def _rows(self, ids: IntArray) -> Tensor:
        """What the embedding module makes of ids [...]: [..., width] in the model's dtype.

        The module, never rows of its table: Gemma scales inside it.
        """
        rows: Tensor = self._embed(torch.from_numpy(ids.astype(np.int64)).to(self._device))
        return rows

    def _blended(self, inputs: Sequence[Mixture], *, cast: bool = True) -> Tensor:
        """Mixed embeddings [n, width], in float32 or cast once to the model's dtype."""
        groups: dict[tuple[str, int], list[int]] = {}
        for at, mixture in enumerate(inputs):
            groups.setdefault((mixture.combine, _padded(len(mixture.ids))), []).append(at)
        parts, order = [], []
        for (combine, size), members in groups.items():
            block = max(1, _BLEND_BYTES // (4 * self.info.width * min(size, CHUNK)))
            for i in range(0, len(members), block):
                parts.append(self._blend([inputs[at] for at in members[i : i + block]], combine, size))
                order += members[i : i + block]
        mixed = torch.cat(parts) if len(parts) > 1 else parts[0]
        if order != sorted(order):
            mixed = mixed[torch.tensor(np.argsort(order), device=self._device)]
        return mixed.to(self._dtype) if cast else mixed

    def _blend(self, inputs: Sequence[Mixture], combine: str, size: int) -> Tensor:
        """[m, width] float32 of mixtures padded to `size` candidates.

        Halves are added to halves: an order that depends on a lane's own candidates alone, on any device.
        """
        ids, weights = np.empty((len(inputs), size), np.int32), np.zeros((len(inputs), size, 1), np.float32)
        for row, mixture in enumerate(inputs):
            count = len(mixture.ids)
            ids[row, :count], ids[row, count:] = mixture.ids, mixture.ids[0]  # a repeated id changes no maximum
            weights[row, :count, 0] = mixture.weights
        shares = torch.from_numpy(weights).to(self._device)
        total: Tensor | None = None
        for at in range(0, size, CHUNK):
            part = self._rows(ids[:, at : at + CHUNK]).float()  # [m, a power of two, width]
            if combine == "max":
                part = part.amax(1)
                total = part if total is None else torch.maximum(total, part)
                continue
            part = part * shares[:, at : at + CHUNK]
            while part.shape[1] > 1:
                half = part.shape[1] // 2
                part = part[:, :half] + part[:, half:]
            total = part[:, 0] if total is None else total + part[:, 0]
        assert total is not None
        return total

    @torch.inference_mode()
    def _row_norms(self, vocab: int) -> Tensor:
        """Length of every token's embedding, [vocab] float64."""
        chunks = np.split(np.arange(vocab, dtype=np.int32), range(4096, vocab, 4096))
        return torch.cat([self._rows(ids).float().norm(dim=-1) for ids in chunks]).cpu().double()


def load(files: ModelFiles, options: EngineOptions, progress: Progress | None = None) -> TorchEngine:
    """A checked engine of a model folder or a .gguf file. Raises UnsupportedModel, OutOfMemory."""
    from superpose.engines.torch_engine_gguf import to_folder
    from superpose.engines.torch_engine_tokenizer import load_tokenizer

    report = progress or (lambda stage, done, total: None)
    if files.path is None:
        raise UnsupportedModel(f"{files.name} has no weights for the torch engine")
    folder = to_folder(files.path, cache_dir(), progress) if files.kind == "gguf" else files.path
    tokenizer = load_tokenizer(folder)
    engine = TorchEngine(load_model(folder, files.name, options, report), tokenizer, files.name, progress=progress)
    report("warm-up", 0, 1)
    lane = engine.open()
    engine.prefill(lane, np.zeros(64, np.int32), Readout())
    engine.close(lane)
    report("warm-up", 1, 1)
    return engine


def _vocabulary(model: PreTrainedModel, label: str) -> int:
    """Rows of the output, each of which has an input."""
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModel(f"{label} has no language-model head")
    rows, inputs = (module.weight.shape[0] for module in (head, model.get_input_embeddings()))
    if rows > inputs:
        raise UnsupportedModel(f"{label} answers with {rows} tokens but has embeddings for {inputs} only")
    return int(rows)


def _end_ids(model: PreTrainedModel, tokenizer: Tokenizer) -> frozenset[int]:
    """Every end-of-text id that the model's files name."""
    found: set[int] = set()
    for source in (model.generation_config, model.config, model.config.get_text_config(decoder=True), tokenizer):
        named = getattr(source, "eos_token_id", None)
        found.update(named if isinstance(named, list) else [] if named is None else [named])
    return frozenset(found)


def _padded(count: int) -> int:
    """The power of two, or beyond CHUNK the multiple of it, that holds so many candidates."""
    return 1 << (count - 1).bit_length() if count <= CHUNK else -(-count // CHUNK) * CHUNK


@torch.inference_mode()
def _weights_hash(model: PreTrainedModel) -> bytes:
    """A hash of some thousand numbers of each weight: any training or quantisation changes it."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in model.named_parameters():
        sample = weight.flatten()[:: max(1, weight.numel() // 4096)].float().cpu().numpy()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.tobytes())
    return digest.digest()


def _fingerprint(
    weights: bytes, device: torch.device, dtype: torch.dtype, packed: bool, tokenizer: Tokenizer
) -> str:
    """The replay key: whatever may change a number."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} {torch.get_num_threads()}"
    versions = [f"{package} {version(package)}" for package in ("torch", "transformers")]
    ids = tokenizer.encode("Ein Test: 12345 + 0.5  \n\n  naïve ½ 日本 🙂 <|im_end|></s>")
    facts = [weights.hex(), where, str(dtype), str(packed), *versions, CHUNK, BUCKET, os.environ.get("MKL_CBWR"), ids]
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def _empty_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
