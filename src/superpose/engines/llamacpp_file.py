"""What a .gguf file says of itself, read and checked before llama.cpp sees it: its asserts end the process.

gguf's own reader is not used: it makes an array of every token and every merge, which takes seconds.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import re
import struct
from collections.abc import Mapping
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt

from superpose.engine import UnsupportedModel
from superpose.problems import clip
from superpose.types import FloatArray, IntArray

_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST = 1 << 24  # entries of a header, or of a list of words: a sparse file may tell of any number
_SIZES = (
    "context_length", "rope.scaling.original_context_length", "block_count", "embedding_length",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
)  # fmt: skip
_LONG = 4096  # longer arrays, and all of strings, are stepped over: llama.cpp reads vocabularies itself
_SAMPLE = 4096  # bytes at either end of a tensor that stand for it in a fingerprint


class Tensor(NamedTuple):
    """Where the numbers of a tensor are."""

    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]  # as in the file: the length of a row first
    start: int
    size: int  # bytes


class GgufFile:
    """A checked .gguf file. Raises UnsupportedModel for one that is broken, cut short, or in parts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file cannot be mapped
            raise UnsupportedModel(f"{path.name} is empty") from error
        except OSError as error:
            raise UnsupportedModel(f"{path} cannot be read: {error.strerror}") from error
        self._at = 0
        try:
            self.meta, self.tensors = self._header()
        except (struct.error, LookupError, ValueError, ArithmeticError, TypeError) as error:
            raise UnsupportedModel(f"{path.name} is broken or not complete") from error
        if self.meta.get("split.count", 0) not in (0, 1):
            raise UnsupportedModel(f"{path.name} is one part of several: merge them with llama-gguf-split first")
        self.arch = self.meta.get("general.architecture")

    def own(self, key: str, default: Any = None) -> Any:
        """A setting of the file's own architecture."""
        return self.meta.get(f"{self.arch}.{key}", default)

    @cached_property
    def kind(self) -> str:
        """The type of number that most of the weights are of."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.kind.name] = sizes.get(tensor.kind.name, 0) + tensor.size
        return max(sizes, key=sizes.__getitem__)

    @property
    def exact(self) -> bool:
        """Whether weights are float32. Then keys and values are kept in float32 too, else in float16."""
        return self.kind == "F32"

    def fingerprint(self) -> str:
        """16 hex digits of the header and of both ends of every tensor: another training or quantisation has others."""
        digest = hashlib.blake2b(self._bytes[: self._at], digest_size=8)
        for tensor in self.tensors.values():
            end = tensor.start + tensor.size
            digest.update(self._bytes[tensor.start : min(end, tensor.start + _SAMPLE)])
            digest.update(self._bytes[max(tensor.start, end - _SAMPLE) : end])
        return digest.hexdigest()

    def rows(self, name: str) -> Rows:
        """The rows of a matrix."""
        return Rows(self._bytes, self.tensors[name])

    def _header(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        magic, version = self._take("4sI")
        if magic != b"GGUF":
            raise UnsupportedModel(f"{self.path.name} is not a GGUF file")
        if version not in (2, 3):
            raise UnsupportedModel(f"{self.path.name} is GGUF of version {version}; 2 and 3 can be read")
        count, settings = self._take("QQ")
        if count + settings > _MOST:
            raise ValueError("entries")
        meta = {}
        for _ in range(settings):
            key, (kind,) = self._string(), self._take("I")
            meta[key] = self._value(kind)
        entries = []
        for _ in range(count):
            name, (depth,) = self._string(), self._take("I")
            if not 1 <= depth <= 4:
                raise ValueError("dimensions")
            entries.append((name, self._take(f"{depth}Q"), *self._take("IQ")))
        align = meta.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        data = -(-self._at // align) * align
        tensors: dict[str, Tensor] = {}
        for name, shape, number, offset in entries:
            kind = gguf.GGMLQuantizationType(number)
            block, size = gguf.GGML_QUANT_SIZES[kind]
            total = prod(shape) // block * size
            if name in tensors or shape[0] % block or not 0 < total <= len(self._bytes) - data - offset:
                raise ValueError(name)
            tensors[name] = Tensor(kind, shape, data + offset, total)
        if not tensors:
            raise UnsupportedModel(f"{self.path.name} holds no language model")
        return meta, tensors

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self._bytes, self._at)
        self._at += struct.calcsize("<" + form)
        return values

    def _skip(self, size: int) -> None:
        if size > len(self._bytes) - self._at:
            raise ValueError("end of file")
        self._at += size

    def _string(self) -> str:
        (length,) = self._take("Q")
        self._skip(length)
        text = self._bytes[self._at - length : self._at] if length <= 1 << 20 else b""
        return text.decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._take(_SCALARS[kind])[0]
        kind, count = self._take("IQ")
        if kind == _STRING:
            if count > _MOST:
                raise ValueError("words")
            for _ in range(count):
                self._skip(*self._take("Q"))
        elif count > _LONG:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
        else:
            return list(self._take(f"{count}{_SCALARS[kind]}"))
        return None


class Rows:
    """Rows of a matrix in a file, unpacked on demand; `count` of them, each of `width` numbers."""

    def __init__(self, data: mmap.mmap, tensor: Tensor) -> None:
        self._kind = tensor.kind
        self.width, self.count = tensor.shape[0], prod(tensor.shape[1:])
        packed = np.frombuffer(data, np.uint8, tensor.size, tensor.start)
        self._packed: npt.NDArray[np.uint8] = packed.reshape(self.count, -1)

    def __getitem__(self, which: IntArray | slice) -> FloatArray:
        """The rows [n, width] float32 of some numbers. Raises NotImplementedError for a type gguf cannot unpack."""
        rows: FloatArray = gguf.quants.dequantize(np.ascontiguousarray(self._packed[which]), self._kind)
        return rows


def check(file: GgufFile, name: str) -> None:
    """Nothing, for a file that may work; otherwise raises UnsupportedModel with the reason."""
    if not re.fullmatch(r"[\w.-]{1,64}", str(file.arch), re.ASCII):
        raise UnsupportedModel(f"{name} does not name its architecture")
    if wrong := _wrong(file):
        raise UnsupportedModel(f"{name} is broken: its {wrong} cannot be {clip(repr(file.own(wrong)))}")
    if reason := _reason(file.meta, file):
        raise UnsupportedModel(f"{name} ({file.arch}) cannot be driven by embeddings: {reason}")
    template = file.meta.get("tokenizer.chat_template")
    if not template or not isinstance(template, str):
        raise UnsupportedModel(f"{name} has no chat template: choose an instruct or chat model")


def _wrong(file: GgufFile) -> str:
    """The first setting that is no number, or none that can be; nothing where there is none."""
    for key in _SIZES:
        value = file.own(key, 0)
        sizes = value if isinstance(value, list) else [value]
        if not sizes or not all(type(size) is int and 0 <= size < 1 << 32 for size in sizes):
            return key
    scale = file.own("embedding_scale", 1.0)
    return "" if isinstance(scale, int | float) and 0 < scale < math.inf else "embedding_scale"


def _reason(meta: Mapping[str, Any], file: GgufFile) -> str:
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        return "it holds no table of embeddings"
    if "per_layer_token_embd.weight" in file.tensors:
        return "it looks up per-layer embeddings by token id, which a mixture does not have"
    if meta.get("tokenizer.ggml.model", "none") == "none":
        return "it has no tokenizer"
    if not file.own("attention.causal", True):
        return "its attention also looks ahead"
    if longest(file) < 1:
        return "it does not say how many tokens it can hold"
    try:
        file.rows("token_embd.weight")[:1]
    except NotImplementedError:
        return f"its embeddings are of the type {table.kind.name}, which cannot be unpacked"
    return ""


def cache_bytes(file: GgufFile) -> int:
    """Bytes of the keys and values of one position; at most, where layers share them."""
    layers, heads = int(file.own("block_count", 0)), file.own("attention.head_count", 1)
    width = int(file.own("embedding_length", 0))
    most = max(heads) if isinstance(heads, list) else heads
    head = width // max(1, most)
    groups = file.own("attention.head_count_kv", heads)
    total = sum(groups) if isinstance(groups, list) else layers * groups
    lengths = (int(file.own(f"attention.{kind}_length", head)) for kind in ("key", "value"))
    return int(total) * sum(lengths) * (4 if file.exact else 2)


def longest(file: GgufFile) -> int:
    """How many tokens a lane may hold: what the model was made for."""
    limits = [int(file.own("context_length", 0))]
    if "rope_factors_long.weight" in file.tensors:  # beyond it, every lane would be scaled as the longest
        limits.append(int(file.own("rope.scaling.original_context_length", limits[0])))
    return min(limits)


def own_scale(file: GgufFile) -> float:
    """What the model multiplies the rows of its table by, wherever that happens."""
    if str(file.arch).startswith("gemma"):
        return math.sqrt(file.rows("token_embd.weight").width)
    return float(file.own("embedding_scale", 1.0))
