"""llama.cpp through llama-cpp-python's low-level functions: the only file that holds its pointers.

An assert in llama.cpp ends the process, so that everything is checked before a call, here or by who calls.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from superpose.engine import BadShape, EngineError, OutOfMemory, UnsupportedModel
from superpose.types import FloatArray, IntArray

VERSION: str = llama_cpp.__version__
_ROUND = 256  # llama.cpp rounds the positions of a lane up to a multiple of it
_OUTPUTS = 16  # rows of logits that one lane may ask for
_ERROR = 4  # level of the log
_said: deque[str] = deque(maxlen=99)  # errors since the last call that may fail, which are told nowhere else


def _listen(level: int, text: bytes, data: Any) -> None:
    if level == _ERROR:
        _said.append(text.decode("utf-8", "replace"))


_listener = llama_cpp.llama_log_callback(_listen)  # kept here, for llama.cpp holds only its address
llama_cpp.llama_log_set(_listener, None)


def complaint() -> str:
    """What llama.cpp first complained of, which is the reason of what follows, without the name of its function."""
    said = " ".join(_said[0].split()) if _said else ""
    return (said.partition(": ")[2] or said or "it did not say why").removeprefix("error loading model: ")[:300]


def system() -> str:
    """The processor's instructions that llama.cpp uses, in its words."""
    words: bytes = llama_cpp.llama_print_system_info()
    return words.decode()


def lays_out(kind: str) -> bool:
    """Whether weights of a kind are to be laid out anew for the processor, which makes Q4_0 a fifth faster.

    Not with AMX: llama.cpp's first decode of a Q4_1 file dies of a protection fault. Not other kinds: on AVX2, Q4_K
    gained nothing, and a lane's last bits came to depend on how many others there were.
    """
    return kind == "Q4_0" and "AMX" not in system()


class Model:
    """Weights of a file, or its vocabulary only; freed with the object. Raises UnsupportedModel."""

    def __init__(self, path: Path, vocabulary: bool = False, anew: bool = False) -> None:
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = vocabulary
        parameters.n_gpu_layers = 0
        parameters.use_extra_bufts = anew
        _said.clear()
        self.pointer = llama_cpp.llama_model_load_from_file(bytes(path), parameters)
        if not self.pointer:
            raise UnsupportedModel(f"{path.name} cannot be loaded: llama.cpp says: {complaint()}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.pointer)
        self.close = weakref.finalize(self, llama_cpp.llama_model_free, self.pointer)

    def reason(self) -> str:
        """Why it cannot be driven by embeddings in lanes, or nothing."""
        if llama_cpp.llama_model_has_encoder(self.pointer) or not llama_cpp.llama_model_has_decoder(self.pointer):
            return "it is an encoder"
        if llama_cpp.llama_model_is_recurrent(self.pointer) or llama_cpp.llama_model_is_hybrid(self.pointer):
            return "its recurrent layers keep a state that cannot be cut back"
        if llama_cpp.llama_model_is_diffusion(self.pointer):
            return "it is a diffusion model, whose attention also looks ahead"
        turning = llama_cpp.llama_model_rope_type(self.pointer)
        if turning in (llama_cpp.LLAMA_ROPE_TYPE_MROPE, llama_cpp.LLAMA_ROPE_TYPE_IMROPE):
            return "its rope (M-RoPE) needs several positions a token"
        if llama_cpp.llama_model_n_embd_inp(self.pointer) != llama_cpp.llama_model_n_embd(self.pointer):
            return "its inputs are wider than its embeddings"
        return ""

    @property
    def vocab(self) -> int:
        """How many tokens it answers with."""
        return int(llama_cpp.llama_vocab_n_tokens(self.vocabulary))

    @property
    def width(self) -> int:
        """How many numbers an embedding is."""
        return int(llama_cpp.llama_model_n_embd(self.pointer))

    @property
    def parameters(self) -> int:
        """How many numbers its weights are."""
        return int(llama_cpp.llama_model_n_params(self.pointer))

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return int(llama_cpp.llama_model_size(self.pointer))


class Context:
    """Keys and values of `lanes` lanes, numbered from 0, each of at least `length` positions.

    Every lane has a stream of its own: in one shared cache every lane would scan the cells of all. Flash attention
    is slower than plain attention on a CPU. Sliding windows are kept whole: a cache of the window alone would answer
    a deep rollback with success and wrong numbers. Raises OutOfMemory.
    """

    def __init__(self, model: Model, lanes: int, length: int, chunk: int, exact: bool, threads: int) -> None:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = lanes * -(-length // _ROUND) * _ROUND, lanes
        parameters.n_batch = parameters.n_ubatch = self.chunk = max(chunk, lanes)
        parameters.n_outputs_max = parameters.n_outputs_max_per_seq = self._outputs = max(lanes, _OUTPUTS)
        parameters.kv_unified, parameters.swa_full, parameters.flash_attn_type = False, True, 0
        parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32 if exact else llama_cpp.GGML_TYPE_F16
        parameters.n_threads = parameters.n_threads_batch = threads  # the default is 4 on any machine
        parameters.offload_kqv = parameters.op_offload = False
        _said.clear()
        self._pointer = llama_cpp.llama_init_from_model(model.pointer, parameters)
        if not self._pointer:
            raise OutOfMemory(f"llama.cpp cannot make room for {lanes} lanes of {length} tokens: {complaint()}")
        self._model = model  # is freed after its contexts
        self.close = weakref.finalize(self, llama_cpp.llama_free, self._pointer)
        self._memory = llama_cpp.llama_get_memory(self._pointer)
        self.lanes, self.vocab = lanes, model.vocab
        self.length = int(llama_cpp.llama_n_ctx_seq(self._pointer))
        self._batch = _Batch(self.chunk, model.width)
        self._outputs_of = ctypes.c_float * (self._outputs * self.vocab)

    def decode(
        self, lanes: Sequence[int], starts: Sequence[int], fed: IntArray | FloatArray, outputs: int = 1
    ) -> FloatArray:
        """Logits [n, vocab] float32 after `fed`, a row to each of n lanes or many to a single one.

        They are llama.cpp's own memory: gone with the next decode, and not to be touched once the context is closed.
        `fed` is token ids [m] or embeddings [m, width]; `starts` are the positions of the first row of each lane, and
        of a single lane the last `outputs` rows are answered. Raises EngineError, after which a part may be fed.
        """
        count, batch, single = len(fed), self._batch, len(lanes) == 1
        answered = min(outputs, count) if single else count
        shaped = 0 < count <= self.chunk and answered <= self._outputs and len(lanes) == len(starts) in (1, count)
        if not (shaped and all(0 <= lane < self.lanes for lane in lanes)):
            raise BadShape(
                f"llama.cpp cannot take {count} rows for the lanes {list(lanes)}"
            )  # it would end the process
        batch.lanes[:count] = lanes
        batch.positions[:count] = np.arange(starts[0], starts[0] + count) if count > len(starts) else starts
        batch.wanted[:count] = 1
        if single:
            batch.wanted[: count - answered] = 0
        _said.clear()
        said = llama_cpp.llama_decode(self._pointer, batch.of(fed))
        pointer = llama_cpp.llama_get_logits(self._pointer) if said == 0 else None
        if not pointer:
            raise EngineError(f"llama.cpp failed with {said}: {complaint()}")
        given: Any = self._outputs_of.from_address(ctypes.addressof(pointer.contents))
        return np.frombuffer(given, np.float32, answered * self.vocab).reshape(answered, self.vocab)

    def use_threads(self, count: int) -> None:
        """Decodes with so many threads from now on."""
        llama_cpp.llama_set_n_threads(self._pointer, count, count)

    def cut(self, lane: int, upto: int) -> None:
        """Takes what stands from position `upto` on out of a lane. Raises EngineError where what is before is gone."""
        done = llama_cpp.llama_memory_seq_rm(self._memory, lane, upto, -1)
        # A cache of a window says that it did, too, and holds nothing then.
        if not done or (upto and self.span(lane) != (0, upto - 1)):
            raise EngineError(f"llama.cpp could not cut a lane back to {upto} positions")

    def copy(self, source: int, target: int, upto: int) -> None:
        """Makes a lane hold the first `upto` positions of another.

        A part cannot be copied from stream to stream: everything is, with the next decode, and the tail taken out.
        """
        self.cut(target, 0)
        if upto:
            llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
            self.cut(target, upto)

    def span(self, lane: int) -> tuple[int, int]:
        """The first and the last position that a lane holds; -1 for an empty one."""
        ends = (llama_cpp.llama_memory_seq_pos_min, llama_cpp.llama_memory_seq_pos_max)
        first, last = (int(end(self._memory, lane)) for end in ends)
        return first, last

    def move(self, lane: int, other: Context) -> None:
        """Copies a lane's content to the lane of the same number in another context.

        Not before a decode has made the copies that are due: what is read here does not have them yet.
        """
        size = llama_cpp.llama_state_seq_get_size(self._pointer, lane)
        state = (ctypes.c_uint8 * size)()
        got = llama_cpp.llama_state_seq_get_data(self._pointer, state, size, lane)
        if got != size or llama_cpp.llama_state_seq_set_data(other._pointer, state, size, lane) != size:
            raise EngineError(f"llama.cpp could not move a lane: {complaint()}")


class _Batch:
    """Room for the rows of a decode, in arrays of ours, which llama.cpp is pointed at once: that takes long."""

    def __init__(self, rows: int, width: int) -> None:
        self.lanes, self.positions, ones = (np.zeros(rows, np.int32) for _ in range(3))
        ones += 1
        self.wanted = np.zeros(rows, np.int8)
        lists = self.lanes.ctypes.data + 4 * np.arange(rows, dtype=np.uintp)  # a row may be of several lanes
        self._rows: dict[str, npt.NDArray[Any]] = {
            "token": np.zeros(rows, np.int32),
            "embd": np.zeros((rows, width), np.float32),
        }
        others: dict[str, npt.NDArray[Any]] = {
            "pos": self.positions,
            "n_seq_id": ones,
            "seq_id": lists,
            "logits": self.wanted,
        }
        self._arrays = {**self._rows, **others}  # alive as long as their addresses
        kinds = dict(llama_cpp.llama_batch._fields_)
        self._pointers = {name: ctypes.cast(array.ctypes.data, kinds[name]) for name, array in self._arrays.items()}
        self._batch = llama_cpp.llama_batch()
        for name in others:
            setattr(self._batch, name, self._pointers[name])

    def of(self, fed: IntArray | FloatArray) -> Any:
        """The batch that feeds so many rows. Never both kinds: llama.cpp would take the tokens and say nothing."""
        used, other = ("token", "embd") if fed.ndim == 1 else ("embd", "token")
        self._rows[used][: len(fed)] = fed
        self._batch.n_tokens = len(fed)
        setattr(self._batch, used, self._pointers[used])
        setattr(self._batch, other, None)
        return self._batch
