"""Any transformers model as an engine: lanes in a slot cache, fed by outputs of its own embedding module."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from typing import Any

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
    Memory,
    Near,
    OutOfMemory,
    Progress,
    Readout,
    Tokenizer,
    UnknownLane,
    UnsupportedModel,
)
from superpose.engines.chat import marker
from superpose.engines.checked import Checked
from superpose.engines.pace import Pace
from superpose.engines.readout import answers, check_ask
from superpose.engines.torch_engine_blend import Blender
from superpose.engines.torch_engine_cache import BUCKET, Masks, Slots
from superpose.engines.torch_engine_check import TorchTrial, longest, refuse, vocabulary
from superpose.engines.torch_engine_fused import Fused
from superpose.engines.torch_engine_gguf import to_folder
from superpose.engines.torch_engine_linear import lay_out, packed, undivided
from superpose.engines.torch_engine_load import end_ids, fingerprint, load_model
from superpose.engines.torch_engine_memory import empty_cache, held, ran_out
from superpose.engines.torch_engine_quantize import quantize
from superpose.engines.torch_engine_readout import read
from superpose.engines.torch_engine_step import Steps
from superpose.engines.torch_engine_threads import aside
from superpose.engines.torch_engine_tokenizer import load_tokenizer
from superpose.engines.trial import LANES, POSITIONS, Findings
from superpose.types import Distribution, FloatArray, IntArray, Mixture

CHUNKS = {"cpu": 128}  # positions of one pass of a prefill, for which live lanes wait; elsewhere 512 are as quick


class TorchEngine(Checked):
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
        context: int = 32768,
        quantized: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        report = progress or _silent
        refuse(model.config, label)
        self.tokenizer = tokenizer
        self._model = model.eval().requires_grad_(False)
        self._device, self._dtype = model.device, model.dtype
        vocab, context = vocabulary(model, label), longest(model.config, context)
        # The trial may need more lanes and positions than were asked for.
        lanes, columns = max(max_lanes, LANES), max(context, POSITIONS)
        # transformers is renaming it, and warns where the old word is used
        self._cache_word = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._slots = Slots(model.config.get_text_config(decoder=True), lanes, columns)
        self._opened = 0
        self._meanwhile: Callable[[], object] = _nothing
        self._last: tuple[Tensor, list[int]] | None = None  # logits [n, vocab] of a pass, and whose row is where
        report("self-check", 0, 2)
        with self._guard([]):
            facts, parameters = fingerprint(model, tokenizer), model.num_parameters()  # before they are laid out anew
            lost = (quantize(model, quantized, tokenizer),) if quantized else ()
            trial = TorchTrial(model, label, vocab)
            layout = quantized or lay_out(model)
            fused = Fused(model) if self._device.type == "cuda" and undivided(model) else None
            self._blender = Blender(model.get_input_embeddings(), vocab, self._device)
            self._steps = Steps(self._forward, self._blender, self._slots, self._device, lanes, packed(model), fused)
            empty_cache(self._device)  # of the weights as they were
            self._slots.attend(model)
            self._weights = held(model)
        threads = torch.get_num_threads()
        self._pace = Pace(threads, torch.set_num_threads, adapt=False)
        chunk = CHUNKS.get(self._device.type, 512)
        report("self-check", 1, 2)
        self.info = EngineInfo(
            name="torch",
            model=label,
            vocab=vocab,
            width=self._blender.width,
            max_lanes=lanes,
            context=columns,
            device=str(self._device),
            dtype=str(self._dtype).removeprefix("torch.") + (f", {quantized} weights" if quantized else ""),
            eog_ids=end_ids(model, tokenizer),
            end_marker=marker(tokenizer),
            invariance="none",
            fingerprint=f"{facts}-{layout}-{chunk}-{BUCKET}",
            checks=(),
            parameters=parameters,
            chunk=chunk,
            embedding_scale=self._blender.scale(model.get_input_embeddings().weight),
        )
        self._pace = Pace(threads, torch.set_num_threads, adapt=trial.any_threads(self))
        found = self._tried(trial)
        self.info = replace(
            self.info,
            max_lanes=max_lanes,
            context=context,
            invariance=found.invariance,
            fingerprint=self.info.fingerprint + ("-compiled" if self._steps.fused else ""),
            checks=(*lost, *found.checks, *self._steps.words()),
        )
        report("self-check", 2, 2)

    def _tried(self, trial: TorchTrial) -> Findings:
        """What the trial finds, without compiled layers if it does not pass with them."""
        if self._steps.fused:
            try:
                return trial.run(self)
            except OutOfMemory:
                raise
            except EngineError as error:
                self._steps.give_up(str(error).partition("self-check; ")[2] or str(error))
                for lane in list(self._slots.row):
                    self._slots.close(lane)  # with all that was written, which may be no numbers
        return trial.run(self)

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
        self._slots.close(lane, keep=self._steps.padded)

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
        with self._guard([lane]), self._pace.keep(1, len(inputs)):
            for at in range(0, len(inputs), self.info.chunk):
                part = inputs[at : at + self.info.chunk]
                fed = self._blender.tokens(part) if isinstance(part, np.ndarray) else self._blender.fed(part)
                self._slots.plan(lane, start + at, len(part))
                positions = torch.arange(start + at, start + at + len(part), device=self._device)
                logits = self._forward(fed[None], positions[None], self._slots.masks(positions[None], self._dtype))
            answer = read(logits, [ask])[0]
        self._slots.length[lane] = start + len(inputs)
        self._last = logits, [0]
        return answer

    @torch.inference_mode()
    def beliefs(self, asks: Sequence[Readout]) -> list[Distribution]:
        """The belief after the last prefill as other lanes ask for it, one each. Raises BadShape."""
        for ask in asks:
            check_ask(ask)
        if self._last is None or len(self._last[0]) != 1:
            raise BadShape("there is no prefill to read out again")
        with self._guard([]):
            return read(self._last[0].expand(len(asks), -1), asks)

    @torch.inference_mode()
    def step(self, lanes: Sequence[int], inputs: Sequence[Mixture], asks: Sequence[Readout]) -> list[Distribution]:
        """A belief per lane, in their order, after one mixture was appended to each in one forward pass.

        Raises UnknownLane, BadShape, LaneTooLong, OutOfMemory.
        """
        act, self._meanwhile = self._meanwhile, _nothing
        if not len(lanes) == len(inputs) == len(asks) or len(set(lanes)) != len(lanes):
            raise BadShape("a step takes one mixture and one readout for each of some distinct lanes")
        for lane, mixture, ask in zip(lanes, inputs, asks, strict=True):
            self._admit(lane, [mixture], ask)
        failed: Exception | None = None
        if not lanes:
            act()
            return []
        with self._guard(lanes), self._pace.keep(len(lanes)) as leave_out:
            order = self._slots.arrange(lanes, first=self._steps.padded)
            given = [lanes.index(lane) for lane in order]  # where the lane of each row is in what was given
            logits, told = self._steps.run(order, [inputs[i] for i in given], [asks[i] for i in given])
            try:
                act()
            except Exception as error:  # no fault of the step, which is awaited all the same
                failed = error
            beliefs = answers(told, [asks[i] for i in given], self.info.vocab)
            if self._steps.proved():
                leave_out()
        if failed is not None:
            raise failed
        for lane in lanes:
            self._slots.length[lane] += 1
        rows = sorted(range(len(given)), key=given.__getitem__)
        self._last = logits, rows
        return [beliefs[row] for row in rows]

    def meanwhile(self, act: Callable[[], object]) -> None:
        """Does this while a GPU makes the next step, which nobody has waited for yet; on a CPU at once."""
        if self._steps.padded:
            self._meanwhile = act
        else:
            act()

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

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether the device's memory holds the keys and values of lanes that grow to these lengths."""
        return self._slots.fits(len(lengths), max(lengths))

    def rollback(self, lane: int, upto: int) -> None:
        """Cuts a lane back to its first `upto` positions. Raises UnknownLane, BadShape."""
        self._within(lane, upto)
        self._slots.length[lane] = upto

    @torch.inference_mode()
    def norm_ratios(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Length of each mixed embedding over the mean token's, [n] float32. Raises BadShape, OutOfMemory."""
        self._check_ids(inputs)
        with self._guard([]):
            return self._blender.norm_ratios(inputs)

    @torch.inference_mode()
    def nearest(self, mixture: Mixture, count: int) -> list[Near]:
        """The tokens at the smallest angles to a mixed embedding, nearest first. Raises BadShape, OutOfMemory."""
        self._check_ids([mixture])
        with self._guard([]):
            return self._blender.nearest(mixture, count)

    def logits(self) -> FloatArray:
        """Logits of the last prefill (one row) or step (a row a lane, in its order), [n, vocab] float32."""
        if self._last is None:
            return np.zeros((0, self.info.vocab), np.float32)
        logits, rows = self._last
        found: FloatArray = logits.float().cpu().numpy()[rows]
        return found

    def memory(self) -> Memory:
        """Bytes of the weights, packed ones as they are, and of the cache's rows. Any thread may ask."""
        return Memory(self._weights, self._slots.held())

    def release(self) -> None:
        """Lets go of the weights and caches; the engine is of no use afterwards."""
        self._last = None
        del self._model, self._blender, self._slots, self._steps
        gc.collect()
        empty_cache(self._device)

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
            self._slots.settle()
            empty_cache(self._device)
            raise OutOfMemory(f"the memory of {self._device} is used up; close some lanes or shorten them") from error

    def _forward(self, fed: Tensor, positions: Tensor, masks: Masks) -> Tensor:
        """Logits [n, vocab] after `fed` [n, T, width] at `positions` [n, T] of the rows that were planned."""
        logits: Tensor = self._model(
            inputs_embeds=fed.clone(),  # some models write into it, and it may be fed again
            position_ids=positions,
            attention_mask=masks,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_word: self._slots.cache},
        ).logits[:, -1]
        return logits


def load(files: Any, options: EngineOptions, progress: Progress | None = None) -> TorchEngine:
    """A checked engine of the folder or .gguf file of a `superpose.models.ModelFiles`.

    Raises UnsupportedModel, OutOfMemory.
    """
    return aside(lambda: _load(files, options, progress or _silent))


def _load(files: Any, options: EngineOptions, report: Progress) -> TorchEngine:
    if files.path is None:
        raise UnsupportedModel(f"{files.name} has no weights for the torch engine")
    folder = files.path
    if files.kind == "gguf":
        # Models are of the same level as engines, which therefore ask for them by name, like engine.py.
        folder = to_folder(files.path, importlib.import_module("superpose.models").cache_dir(), report)
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, files.name, options, report)
    engine = TorchEngine(model, tokenizer, files.name, quantized=options.quantize, progress=report)
    report("warm-up", 0, 1)
    lane = engine.open()
    engine.prefill(lane, np.zeros(BUCKET, np.int32), Readout())
    engine.close(lane)
    report("warm-up", 1, 1)
    return engine


def _nothing() -> None:
    """What is done beside a step of which nobody said more."""


def _silent(stage: str, done: float, total: float) -> None:
    """Progress that nobody asked for."""
