"""The engine protocol: a model that is driven by embeddings, one lane per live sequence.

The decode loop knows nothing below this page. `open_engine` turns a model name into a checked engine.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from superpose.problems import first_line
from superpose.types import Distribution, FloatArray, IntArray, Mixture, Sampling

log = logging.getLogger("superpose")

Progress = Callable[[str, float, float], None]  # stage, done, total (total 0 = unknown)
Invariance = Literal["none", "fixed_n", "any_n"]


class EngineError(RuntimeError):
    """Base of what an engine may refuse; the message is one sentence for the user."""


class UnsupportedModel(EngineError):
    """The model cannot be driven by embeddings, or failed its self-check."""


class OutOfMemory(EngineError):
    """The device has no memory left; no lane's length has changed."""


class LanesFull(EngineError):
    """Every lane is taken."""


class LaneTooLong(EngineError):
    """The inputs do not fit into the lane's context."""


class UnknownLane(EngineError):
    """No such open lane."""


class BadShape(EngineError):
    """Inputs that cannot be fed: wrong counts, ids outside the vocabulary."""


class Readout(NamedTuple):
    """What one lane wants to know after its step.

    `support` is how many candidates come back (0 = the whole vocabulary), and with a `mass` as many more as their
    cumulative probability needs to reach it. `u` in [0, 1) is the draw's keyed random number.
    """

    temperature: float = 1.0
    support: int = 16
    filters: Sampling = Sampling()
    u: float = 0.0
    mass: float = 0.0


class Prompt(NamedTuple):
    """A rendered chat: what the template made of the messages, and its token ids."""

    text: str
    token_ids: list[int]


class Memory(NamedTuple):
    """Bytes that an engine holds."""

    weights: int
    cache: int  # what is held for keys and values of lanes


class Near(NamedTuple):
    """A token, and the cosine of the angle between its embedding and a mixed one."""

    token: int
    cosine: float


class Tokenizer(Protocol):
    """The model's own tokenizer. Text of users never becomes control tokens; template text may."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a user's text; `<|im_end|>` and its like stay plain text."""
        ...

    def encode_template(self, text: str) -> list[int]:
        """Token ids of template text, in which control tokens are control tokens."""
        ...

    def chat(self, system: str, user: str) -> Prompt:
        """The prompt that the model's chat template makes; an empty `system` sends no system message.

        Raises ValueError with a sentence when the template refuses the messages.
        """
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; a control token's are its name."""
        ...

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token, which text for people leaves out."""
        ...


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is, as measured at load."""

    name: str  # "toy", "torch", "llamacpp"
    model: str
    vocab: int  # rows of the output; ids are below it
    width: int  # of an embedding
    max_lanes: int
    context: int  # tokens per lane
    device: str
    dtype: str
    eog_ids: frozenset[int]  # every end-of-text id
    end_marker: tuple[int, ...]  # token ids of `</think>`
    invariance: Invariance  # measured by the self-check, never assumed
    fingerprint: str  # weights, dtype, versions, threads: the replay key
    checks: tuple[str, ...]  # the self-check in words
    parameters: int = 0  # of the model; 0 = unknown
    embedding_scale: float = 1.0  # what the embedding module multiplies the rows of its table by
    chunk: int = 512  # positions of one pass of a prefill; fixed, so that no result depends on load


class Engine(Protocol):
    """Lanes of one model. Every call is all-or-nothing: on an error no lane's length has changed.

    Used by one thread at a time. Everything goes in as outputs of the model's own input-embedding module.
    """

    info: EngineInfo
    tokenizer: Tokenizer

    def open(self) -> int:
        """A new, empty lane. Raises LanesFull."""
        ...

    def close(self, lane: int) -> None:
        """Frees a lane."""
        ...

    def length(self, lane: int) -> int:
        """How many positions a lane holds."""
        ...

    def prefill(self, lane: int, inputs: Sequence[Mixture] | IntArray, ask: Readout) -> Distribution:
        """Appends token ids [T] or mixtures to a lane; answers with the belief after the last one."""
        ...

    def beliefs(self, asks: Sequence[Readout]) -> list[Distribution]:
        """The belief after the last prefill as other lanes ask for it, one each; before any other prefill or step."""
        ...

    def step(self, lanes: Sequence[int], inputs: Sequence[Mixture], asks: Sequence[Readout]) -> list[Distribution]:
        """Appends one mixture to each named lane in one forward pass; a belief per lane, in that order."""
        ...

    def meanwhile(self, act: Callable[[], object]) -> None:
        """Does this at once, or while a device of its own makes the next step; not at all where that fails before.

        It may ask for norm ratios, of mixtures that this step is fed without waiting for it. What it raises comes out
        of here or of that step, which then has changed no lane.
        """
        ...

    def fork(self, src: int, upto: int) -> int:
        """A new lane that holds positions [0, upto) of `src`."""
        ...

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether the device's memory holds lanes that grow to these lengths. Any thread may ask."""
        ...

    def rollback(self, lane: int, upto: int) -> None:
        """Cuts a lane back to its first `upto` positions."""
        ...

    def norm_ratios(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Length of each mixed embedding over the mean length of a token's embedding, [n] float32."""
        ...

    def nearest(self, mixture: Mixture, count: int) -> list[Near]:
        """The tokens whose embeddings are at the smallest angles to the mixed one, nearest first.

        None where the mixed embedding has no direction: its length is 0 or not finite. Raises BadShape, OutOfMemory.
        """
        ...

    def logits(self) -> FloatArray:
        """Logits of the last prefill (one row) or step (a row a lane), [n, vocab] float32; for checks."""
        ...

    def memory(self) -> Memory | None:
        """What the engine holds at the moment, None where nobody counts it. Any thread may ask."""
        ...

    def release(self) -> None:
        """Lets go of the weights and caches; the engine is of no use afterwards."""
        ...


class EngineOptions(NamedTuple):
    """How to open a model; None lets the engine choose."""

    engine: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None  # int8, int4: weights of the torch engine on a CPU


AUTOMATIC = EngineOptions()
_HOMES = {
    "toy": "superpose.engines.toy",
    "torch": "superpose.engines.torch_engine",
    "llamacpp": "superpose.engines.llamacpp",
}


def open_engine(model: str, options: EngineOptions = AUTOMATIC, progress: Progress | None = None) -> Engine:
    """A loaded engine that passed its self-check.

    `model` is a name of `superpose models`, a hub id, a folder or a .gguf file. Raises UnknownModel
    (superpose.models) for a name that leads nowhere, UnsupportedModel for one that cannot be driven by
    embeddings, OutOfMemory when it does not fit.
    """
    models = importlib.import_module("superpose.models")
    kind = options.engine or _choice(models.kind(model), models.canonical(model) == models.DEMO)
    if kind not in _HOMES:
        raise UnsupportedModel(f"unknown engine {kind!r}; allowed: {', '.join(_HOMES)}")
    if options.quantize is not None and kind != "torch":
        raise UnsupportedModel(
            f"the {kind} engine takes weights as they are: leave out --quantize, or use --engine torch"
        )
    try:
        home = importlib.import_module(_HOMES[kind])
    except ModuleNotFoundError as missing:
        other = {None: ", or try --model toy", "llamacpp": ", or leave out --engine"}.get(options.engine, "")
        raise UnsupportedModel(
            f"the {kind} engine needs the package {missing.name!r}: install superpose[{kind}]{other}"
        ) from missing
    except (OSError, RuntimeError) as broken:  # a library of C that this machine cannot load
        reason = str(broken).strip().partition("\n")[0]
        raise UnsupportedModel(f"the {kind} engine cannot be used here: {reason}") from broken
    files = models.resolve(model, progress)
    try:
        engine: Engine = home.load(files, options, progress)
    except EngineError:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"there is not enough memory to load {files.name}") from error
    except Exception as error:  # whatever a library raises on a strange file
        log.info("loading %s", files.name, exc_info=True)
        raise UnsupportedModel(f"{files.name} cannot be loaded: {first_line(error)}") from error
    return engine


def _choice(files: str, demo: bool) -> str:
    """The engine of a model, by the kind of its files.

    A .gguf file is llama.cpp's where that is installed. The built-in demo model is one too, but stays with torch
    where that is installed: the numbers that the docs tell of it are those of its weights in float32.
    """
    if files == "toy":
        return "toy"
    here = {name: importlib.util.find_spec(name) is not None for name in ("torch", "llama_cpp")}
    return "llamacpp" if files == "gguf" and here["llama_cpp"] and not (demo and here["torch"]) else "torch"
