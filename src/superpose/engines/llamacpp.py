"""A .gguf file as an engine: llama.cpp with a stream of its cache a lane, fed by rows of the file's own table."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

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
from superpose.engines.host import free_memory, physical_cores
from superpose.engines.llamacpp_blend import Blender
from superpose.engines.llamacpp_child import attempt
from superpose.engines.llamacpp_file import GgufFile, cache_bytes, check, longest, own_scale
from superpose.engines.llamacpp_lanes import CHUNK, FIRST, FULL, Lanes
from superpose.engines.llamacpp_library import VERSION, Model, lays_out, system
from superpose.engines.llamacpp_readout import Reader
from superpose.engines.llamacpp_tokenizer import LlamaTokenizer
from superpose.engines.pace import Pace
from superpose.engines.readout import check_ask
from superpose.engines.trial import LANES, POSITIONS, Trial
from superpose.types import Distribution, FloatArray, IntArray, Mixture

LANES_AT_MOST = 16
ROOM = 4096  # tokens that each lane should be able to have, if need be fewer lanes


class LlamaEngine(Checked):
    """Lanes of one .gguf file in llama.cpp.

    Raises UnsupportedModel for a model that cannot be driven by embeddings or fails its self-check, OutOfMemory.
    """

    def __init__(
        self,
        file: GgufFile,
        label: str,
        *,
        max_lanes: int = LANES_AT_MOST,
        context: int = 32768,
        progress: Progress | None = None,
    ) -> None:
        report = progress or _silent
        check(file, label)
        self._threads = physical_cores() or os.cpu_count() or 1
        # The trial may need more lanes and positions than were asked for.
        lanes, context = max(max_lanes, LANES), min(context, longest(file))
        report("weights", 0, 0)
        tokenizer = LlamaTokenizer(file.path, file.meta["tokenizer.chat_template"])
        self.tokenizer: Tokenizer = tokenizer
        anew = lays_out(file.kind)
        self._model = Model(file.path, anew=anew)
        if reason := self._model.reason():
            raise UnsupportedModel(f"{label} ({file.arch}) cannot be driven by embeddings: {reason}")
        vocab = self._model.vocab
        report("embeddings", 0, 0)
        self._blender = Blender(file.rows("token_embd.weight"), vocab)
        self._reader = Reader(vocab)
        self._none: FloatArray = np.zeros((0, vocab), np.float32)
        self._last = self._none  # logits in llama.cpp's memory, which the next pass may free
        exact, size, columns = file.exact, cache_bytes(file), max(context, POSITIONS)
        self._lanes = Lanes(self._model, lanes, columns, size, exact, self._threads)
        self._pace = self._find_pace()
        report("self-check", 0, 2)
        self._blender.scale = self._find_scale(label, vocab)
        self.info = EngineInfo(
            name="llamacpp",
            model=label,
            vocab=vocab,
            width=self._blender.width,
            max_lanes=lanes,
            context=columns,
            device="cpu",
            dtype=file.kind,
            eog_ids=tokenizer.eog_ids,
            end_marker=marker(tokenizer),
            invariance="none",
            fingerprint=_digest(file.fingerprint(), VERSION, system(), anew, self._threads, CHUNK),
            checks=(),
            parameters=self._model.parameters,
            embedding_scale=own_scale(file),
            chunk=CHUNK,
        )
        trial = Trial(label, vocab, exact, self._alone)
        report("self-check", 1, 2)
        found = trial.run(self)
        self._last = self._none
        if max_lanes < lanes:  # each takes room, open or not
            self._lanes.release()
            self._lanes = Lanes(self._model, max_lanes, columns, size, exact, self._threads)
        how = "laid out anew" if anew else "as they are in the file"
        says = f"weights {how} ({file.kind}), driven by llama.cpp of llama-cpp-python {VERSION}"
        self.info = replace(
            self.info,
            max_lanes=max_lanes,
            context=context,
            invariance=found.invariance,
            checks=(says, *found.checks),
        )
        report("self-check", 2, 2)

    def open(self) -> int:
        """A new, empty lane. Raises LanesFull."""
        if len(self._lanes.length) >= self.info.max_lanes:
            raise LanesFull(f"all {self.info.max_lanes} lanes are taken")
        return self._lanes.open()

    def close(self, lane: int) -> None:
        """Frees a lane. Raises UnknownLane."""
        self.length(lane)
        self._lanes.close(lane)

    def length(self, lane: int) -> int:
        """How many positions a lane holds. Raises UnknownLane."""
        if lane not in self._lanes.length:
            raise UnknownLane(f"there is no open lane {lane}")
        return self._lanes.length[lane]

    def prefill(self, lane: int, inputs: Sequence[Mixture] | IntArray, ask: Readout) -> Distribution:
        """The belief after token ids [T] or mixtures that are appended to a lane.

        Raises UnknownLane, BadShape, LaneTooLong, OutOfMemory.
        """
        self._admit(lane, inputs, ask)
        start, self._last = self.length(lane), self._none
        with self._kept([lane]):
            self._lanes.reach(start + len(inputs))
            for at in range(0, len(inputs), CHUNK):
                part = inputs[at : at + CHUNK]
                fed = part if isinstance(part, np.ndarray) else self._blender.fed(part)
                with self._pace.keep(1, len(part)):
                    logits = self._lanes.append(lane, start + at, fed)
            answer = self._reader.read(logits, [ask])[0]
        self._lanes.length[lane] = start + len(inputs)
        self._last = logits
        return answer

    def beliefs(self, asks: Sequence[Readout]) -> list[Distribution]:
        """The belief after the last prefill as other lanes ask for it, one each. Raises BadShape, OutOfMemory."""
        for ask in asks:
            check_ask(ask)
        if len(self._last) != 1:
            raise BadShape("there is no prefill to read out again")
        with self._kept([]):
            return self._reader.read(np.repeat(self._last, len(asks), axis=0), asks)

    def step(self, lanes: Sequence[int], inputs: Sequence[Mixture], asks: Sequence[Readout]) -> list[Distribution]:
        """A belief per lane, in their order, after one mixture was appended to each in one forward pass.

        Raises UnknownLane, BadShape, LaneTooLong, OutOfMemory.
        """
        if not len(lanes) == len(inputs) == len(asks) or len(set(lanes)) != len(lanes):
            raise BadShape("a step takes one mixture and one readout for each of some distinct lanes")
        for lane, mixture, ask in zip(lanes, inputs, asks, strict=True):
            self._admit(lane, [mixture], ask)
        if not lanes:
            return []
        self._last = self._none
        with self._kept(lanes):
            self._lanes.reach(max(self.length(lane) for lane in lanes) + 1)
            fed = self._blender.fed(inputs)
            with self._pace.keep(len(lanes)):
                logits = self._lanes.step(lanes, fed)
            answers = self._reader.read(logits, asks)
        for lane in lanes:
            self._lanes.length[lane] += 1
        self._last = logits
        return answers

    def fork(self, src: int, upto: int) -> int:
        """A new lane that holds positions [0, upto) of `src`. Raises UnknownLane, BadShape, LanesFull."""
        self._within(src, upto)
        if len(self._lanes.length) >= self.info.max_lanes:
            raise LanesFull(f"all {self.info.max_lanes} lanes are taken")
        return self._lanes.fork(src, upto)

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether memory holds the room that all lanes get once one of these lengths needs it. Any thread may ask."""
        return self._lanes.fits(max(lengths))

    def rollback(self, lane: int, upto: int) -> None:
        """Cuts a lane back to its first `upto` positions. Raises UnknownLane, BadShape."""
        self._within(lane, upto)
        self._lanes.cut(lane, upto)

    def norm_ratios(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Length of each mixed embedding over the mean token's, [n] float32. Raises BadShape, OutOfMemory."""
        self._check_ids(inputs)
        with self._kept([]):
            return self._blender.norm_ratios(inputs)

    def nearest(self, mixture: Mixture, count: int) -> list[Near]:
        """The tokens at the smallest angles to a mixed embedding, nearest first. Raises BadShape, OutOfMemory."""
        self._check_ids([mixture])
        with self._kept([]):
            return self._blender.nearest(mixture, count)

    def logits(self) -> FloatArray:
        """Logits of the last prefill (one row) or step (a row a lane, in its order), [n, vocab] float32."""
        return self._last.copy()

    def memory(self) -> Memory:
        """Bytes of the weights, and of the room that all lanes have. Any thread may ask."""
        return Memory(self._model.size + self._blender.held(), self._lanes.held())

    def release(self) -> None:
        """Lets go of the weights and caches; the engine is of no use afterwards."""
        self._lanes.release()
        self._model.close()
        del self._lanes, self._model, self._blender, self._last  # so that no call reaches what is freed
        gc.collect()

    @contextmanager
    def _kept(self, lanes: Sequence[int]) -> Iterator[None]:
        """Takes what a failed pass fed to `lanes` back out of them, and says in words that memory ran out."""
        try:
            yield
        except (EngineError, MemoryError) as error:
            for lane in lanes:
                with suppress(EngineError):  # its next step says so
                    self._lanes.cut(lane, self.length(lane))
            if isinstance(error, MemoryError):
                raise OutOfMemory(FULL) from error
            raise

    def _alone(self, ids: IntArray, embedded: bool) -> FloatArray:
        """The model's own logits [T, V] for ids [T] in one pass."""
        fed = self._blender.fed([Mixture.token(int(i)) for i in ids]) if embedded else ids
        lane = self._lanes.open()
        with self._pace.keep(1, len(ids)):
            logits = self._lanes.append(lane, 0, fed, outputs=len(ids)).copy()
        self._lanes.close(lane)
        return logits

    def _find_pace(self) -> Pace:
        """Threads as they are the fastest, if one of them gives the same bits as all, in a prefill and in a step."""
        told: dict[int, tuple[float, list[FloatArray]]] = {}
        for count in (1, self._threads):
            self._lanes.use_threads(count)
            lane, began = self._lanes.open(), time.perf_counter()
            first = self._lanes.append(lane, 0, np.array([1, 2, 3], np.int32)).copy()
            second = self._lanes.append(lane, 3, np.array([4], np.int32)).copy()
            told[count] = time.perf_counter() - began, [first, second]
            self._lanes.close(lane)
        (one, alone), (several, together) = told[1], told[self._threads]
        same, first_choice = np.array_equal(alone, together), 1 if one < several else self._threads
        return Pace(self._threads, self._use_threads, adapt=same, first=first_choice)

    def _use_threads(self, count: int) -> None:
        self._lanes.use_threads(count)

    def _find_scale(self, label: str, vocab: int) -> float:
        """What rows of the table are multiplied by, so that llama.cpp takes them for the tokens themselves.

        Gemma scales its embeddings. Which of its graphs do so also with embeddings that they are fed differs from
        version to version, so that it is tried.
        """
        ids = (np.arange(3, dtype=np.int32) * 7919 + 13) % vocab
        own = self._alone(ids, embedded=False)
        for scale in (1.0, float(np.sqrt(self._blender.width))):
            self._blender.scale = scale
            if np.array_equal(own, self._alone(ids, embedded=True)):
                return scale
        raise UnsupportedModel(
            f"{label} cannot be driven by embeddings: llama.cpp does not answer to its embeddings as to its tokens"
        )


def load(files: Any, options: EngineOptions, progress: Progress | None = None) -> LlamaEngine:
    """A checked engine of the .gguf file of a `superpose.models.ModelFiles`.

    Raises UnsupportedModel, OutOfMemory.
    """
    report = progress or _silent
    if files.kind != "gguf":
        raise UnsupportedModel(f"{files.name} is not a .gguf file, which is all that the llamacpp engine can read")
    if options.device not in (None, "cpu"):
        raise UnsupportedModel(f"the llamacpp engine runs on the cpu, not on {options.device!r}: try --engine torch")
    if options.dtype is not None:
        raise UnsupportedModel("the llamacpp engine computes with the file's own numbers: leave out --dtype")
    report("reading", 0, 0)
    file = GgufFile(files.path)
    check(file, files.name)
    free = free_memory()
    size = files.path.stat().st_size
    needed = size + LANES * FIRST * cache_bytes(file)
    if free is not None and needed > free:
        raise OutOfMemory(
            f"{files.name} needs about {needed / 2**30:.1f} GiB, of which {free / 2**30:.1f} GiB are free"
        )
    # Models are of the same level as engines, which therefore ask for them by name, like engine.py.
    attempt(files.path, importlib.import_module("superpose.models").cache_dir(), report)
    try:
        lanes = _affordable(file, size)
        engine = LlamaEngine(file, files.name, max_lanes=lanes, progress=report)
    except (MemoryError, OutOfMemory) as error:
        if str(error) not in ("", FULL):
            raise  # llama.cpp's own reason
        raise OutOfMemory(f"there is not enough memory to load {files.name}") from error
    if lanes < LANES_AT_MOST:
        few = f"at most {lanes} runs at once, so that each may have {ROOM:,} tokens in this memory"
        engine.info = replace(engine.info, checks=(*engine.info.checks, few))
    return engine


def _affordable(file: GgufFile, weights: int) -> int:
    """How many lanes of ROOM tokens half of the memory beside the weights holds, from 1 to LANES_AT_MOST."""
    free = free_memory()
    if free is None:
        return LANES_AT_MOST
    lane = max(1, min(longest(file), ROOM)) * cache_bytes(file)
    return max(1, min(LANES_AT_MOST, (free - weights) // 2 // max(1, lane)))  # some keep no keys and values


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _silent(stage: str, done: float, total: float) -> None:
    """Progress that nobody asked for."""
