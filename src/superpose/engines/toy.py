"""A numpy engine with hand-set logits and a byte tokenizer: for tests, and for a page without a model.

A lane is a small recurrent state that depends on every embedding it was fed. The belief is scripted: after
`<|assistant|>` the thinking script is told, after `<think>` or `<answer>` the answer script, each a list of
positions with their likely tokens; the state then shifts the logits a little, so that histories matter.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from superpose.engine import (
    BadShape,
    EngineError,
    EngineInfo,
    EngineOptions,
    LanesFull,
    LaneTooLong,
    Memory,
    Near,
    Progress,
    Prompt,
    Readout,
    UnknownLane,
)
from superpose.engines.blend import Units, combine, finish, nearest
from superpose.types import Distribution, FloatArray, IntArray, Mixture

CONTROL = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
MARKERS = ("</think>", "<think>", "<answer>")
SPECIAL = {text: 256 + i for i, text in enumerate(CONTROL + MARKERS)}
VOCAB = 256 + len(SPECIAL)
WIDTH = 32
END = SPECIAL["<|end|>"]
_SPLIT = re.compile("(" + "|".join(re.escape(text) for text in SPECIAL) + ")")
COLDEST = 1e-6  # below it a draw is greedy
_FLOOR = 1e-9  # probability of every token that a script does not name

Script = Sequence[Mapping[int, float]]


class ByteTokenizer:
    """Bytes are tokens 0-255; a few markers follow."""

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of a user's text."""
        return list(text.encode())

    def encode_template(self, text: str) -> list[int]:
        """Bytes, and the markers as single tokens."""
        ids: list[int] = []
        for piece in _SPLIT.split(text):
            ids += [SPECIAL[piece]] if piece in SPECIAL else list(piece.encode())
        return ids

    def chat(self, system: str, user: str) -> Prompt:
        """`<|system|>…<|user|>…<|assistant|>`; the messages' bytes are never markers."""
        ids: list[int] = []
        for role, text in (("<|system|>", system), ("<|user|>", user)):
            if text:
                ids += [SPECIAL[role], *self.encode(text)]
        text = "".join(f"{role}{said}" for role, said in (("<|system|>", system), ("<|user|>", user)) if said)
        return Prompt(text + "<|assistant|>", [*ids, SPECIAL["<|assistant|>"]])

    def token_bytes(self, token: int) -> bytes:
        """The byte, or the marker's name."""
        return bytes([token]) if token < 256 else (CONTROL + MARKERS)[token - 256].encode()

    def is_control(self, token: int) -> bool:
        """Whether it is a role or the end."""
        return 256 <= token < 256 + len(CONTROL)


class _State(NamedTuple):
    """A lane after one position."""

    hidden: npt.NDArray[np.float64]  # [WIDTH]
    script: int  # 0 = none yet, 1 = thinking, 2 = answer
    told: int  # positions of that script


_START = _State(np.zeros(WIDTH), 0, 0)


class ToyEngine:
    """The engine protocol over scripts; `sway` is how much the history shifts the logits, `step_s` a pace."""

    def __init__(
        self,
        thinking: Script | None = None,
        answer: Script | None = None,
        *,
        sway: float = 0.3,
        step_s: float = 0.0,
        max_lanes: int = 16,
        context: int = 4096,
    ) -> None:
        random = np.random.Generator(np.random.Philox(key=[7, 7]))
        self._table = random.standard_normal((VOCAB, WIDTH)).astype(np.float32)
        self._carry = random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
        self._read = random.standard_normal((WIDTH, VOCAB)) / np.sqrt(WIDTH)
        self._norms: FloatArray = np.linalg.norm(self._table, axis=1)
        self._units = Units(float(self._norms.mean()), float(np.sqrt((self._table**2).mean())))
        self._scripts: tuple[Script, Script, Script] = (
            [],
            _tell(_THINKING) if thinking is None else thinking,
            _tell(_ANSWER) if answer is None else answer,
        )
        self._sway, self._step_s = sway, step_s
        self._lanes: dict[int, list[_State]] = {}
        self._last: npt.NDArray[np.float64] = np.zeros((0, VOCAB))
        self._opened = 0
        self.tokenizer = ByteTokenizer()
        self.info = EngineInfo(
            name="toy", model="toy", vocab=VOCAB, width=WIDTH, max_lanes=max_lanes, context=context,
            device="cpu", dtype="float64", eog_ids=frozenset({END}), end_marker=(SPECIAL["</think>"],),
            invariance="any_n", fingerprint="toy-1", checks=("one-hot input equals token input: yes, by construction",),
        )  # fmt: skip

    def open(self) -> int:
        """A new, empty lane. Raises LanesFull."""
        if len(self._lanes) >= self.info.max_lanes:
            raise LanesFull(f"all {self.info.max_lanes} lanes are taken")
        self._opened += 1
        self._lanes[self._opened] = []
        return self._opened

    def close(self, lane: int) -> None:
        """Frees a lane."""
        self._states(lane)
        del self._lanes[lane]

    def length(self, lane: int) -> int:
        """How many positions a lane holds."""
        return len(self._states(lane))

    def prefill(self, lane: int, inputs: Sequence[Mixture] | IntArray, ask: Readout) -> Distribution:
        """Appends token ids or mixtures; the belief after the last one."""
        mixtures = [Mixture.token(int(i)) for i in inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        self._check([lane], [mixtures])
        for mixture in mixtures:
            self._append(lane, mixture)
        self._last = self._logits(lane)[None]
        return readout(self._last[0], ask)

    def beliefs(self, asks: Sequence[Readout]) -> list[Distribution]:
        """The belief after the last prefill, one each."""
        return [readout(self._last[0], ask) for ask in asks]

    def step(self, lanes: Sequence[int], inputs: Sequence[Mixture], asks: Sequence[Readout]) -> list[Distribution]:
        """Appends one mixture to each lane; a belief per lane."""
        if not (len(lanes) == len(inputs) == len(asks)) or len(set(lanes)) != len(lanes):
            raise BadShape("step needs one mixture and one readout for each of some distinct lanes")
        self._check(lanes, [[mixture] for mixture in inputs])
        time.sleep(self._step_s)
        for lane, mixture in zip(lanes, inputs, strict=True):
            self._append(lane, mixture)
        self._last = np.array([self._logits(lane) for lane in lanes])
        return [readout(row, ask) for row, ask in zip(self._last, asks, strict=True)]

    def meanwhile(self, act: Callable[[], object]) -> None:
        """Does this at once."""
        act()

    def fork(self, src: int, upto: int) -> int:
        """A new lane that holds positions [0, upto) of `src`."""
        states = self._states(src)[: self._within(src, upto)]
        lane = self.open()
        self._lanes[lane] = states
        return lane

    def fits(self, lengths: Sequence[int]) -> bool:
        """Always: nobody counts so little."""
        return True

    def rollback(self, lane: int, upto: int) -> None:
        """Cuts a lane back."""
        del self._states(lane)[self._within(lane, upto) :]

    def norm_ratios(self, inputs: Sequence[Mixture]) -> FloatArray:
        """Length of each mixed embedding over the mean token's, [n] float32."""
        return np.array([np.linalg.norm(self._embed(m)) / self._units.length for m in inputs], np.float32)

    def nearest(self, mixture: Mixture, count: int) -> list[Near]:
        """The tokens at the smallest angles to a mixed embedding, nearest first."""
        self._check_ids([mixture])
        return nearest(self._embed(mixture), self._table, self._norms, count)

    def logits(self) -> FloatArray:
        """Logits of the last prefill or step, [n, VOCAB] float32."""
        return self._last.astype(np.float32)

    def memory(self) -> Memory | None:
        """Nobody counts so little."""
        return None

    def release(self) -> None:
        """Nothing is held."""

    def _states(self, lane: int) -> list[_State]:
        if lane not in self._lanes:
            raise UnknownLane(f"there is no open lane {lane}")
        return self._lanes[lane]

    def _within(self, lane: int, upto: int) -> int:
        if not 0 <= upto <= self.length(lane):
            raise BadShape(f"lane {lane} holds {self.length(lane)} positions; {upto} is not among them")
        return upto

    def _check(self, lanes: Sequence[int], inputs: Sequence[Sequence[Mixture]]) -> None:
        for lane, mixtures in zip(lanes, inputs, strict=True):
            if not mixtures:
                raise BadShape("there is nothing to feed")
            if self.length(lane) + len(mixtures) > self.info.context:
                raise LaneTooLong(f"lane {lane} would exceed the context of {self.info.context} tokens")
            self._check_ids(mixtures)
            if not all(np.isfinite(self._embed(mixture)).all() for mixture in mixtures):
                raise EngineError("a mixture's weights are too large: its embedding is not of finite numbers")

    def _check_ids(self, mixtures: Sequence[Mixture]) -> None:
        if max(int(m.ids.max()) for m in mixtures) >= VOCAB:
            raise BadShape(f"token ids must be below {VOCAB}")

    def _embed(self, mixture: Mixture) -> FloatArray:
        rows = self._table[mixture.ids]  # [K, WIDTH] float32
        return finish(mixture, combine(mixture, rows), self._norms[mixture.ids], self._units)

    def _append(self, lane: int, mixture: Mixture) -> None:
        """The next state; a marker that carries most of the weight starts its script."""
        states = self._lanes[lane]
        before = states[-1] if states else _START
        hidden = np.tanh(0.5 * before.hidden @ self._carry + self._embed(mixture))
        heaviest = int(mixture.ids[np.argmax(mixture.weights)])
        script, told = before.script, before.told + 1
        if heaviest == SPECIAL["<|assistant|>"]:
            script, told = 1, 0
        elif heaviest in (SPECIAL["<think>"], SPECIAL["<answer>"]):
            script, told = 2, 0
        states.append(_State(hidden, script, told))

    def _logits(self, lane: int) -> npt.NDArray[np.float64]:
        state = self._lanes[lane][-1]
        script = self._scripts[state.script]
        named: Mapping[int, float] = script[state.told] if state.told < len(script) else {END: 1.0}
        logits = np.full(VOCAB, np.log(_FLOOR))
        logits[list(named)] = np.log(list(named.values()))
        shifted: npt.NDArray[np.float64] = logits + self._sway * np.tanh(state.hidden @ self._read)
        return shifted


def readout(logits: npt.NDArray[np.float64], ask: Readout) -> Distribution:
    """What one lane asked of its logits [V], computed in float64."""
    raw = _softmax(logits)
    cold = ask.temperature < COLDEST
    p = np.zeros_like(raw) if cold else _softmax(logits / ask.temperature)
    if cold:
        p[np.argmax(logits)] = 1.0
    order = np.argsort(-p, kind="stable")
    reaching = int(np.searchsorted(np.cumsum(p[order]), ask.mass)) + 1 if ask.mass else 0
    count = min(max(ask.support, reaching), len(p)) if ask.support else len(p)
    kept = np.zeros_like(p)
    allowed = order[: ask.filters.top_k or len(p)]
    if ask.filters.top_p < 1:
        share = np.cumsum(p[allowed]) / p[allowed].sum()
        allowed = allowed[: int(np.argmax(share >= ask.filters.top_p)) + 1]
    allowed = allowed[p[allowed] >= ask.filters.min_p * p[allowed[0]]]
    kept[allowed] = p[allowed]
    mass = np.cumsum(kept)
    drawn = min(int(np.searchsorted(mass, ask.u * mass[-1], side="right")), int(np.flatnonzero(kept)[-1]))
    ids = order[:count]
    return Distribution(
        ids=ids.astype(np.int32), probs=p[ids].astype(np.float32),
        tail=0.0 if len(ids) == len(p) else max(0.0, 1.0 - float(p[ids].sum())),
        entropy=_entropy(p), entropy_raw=_entropy(raw), drawn=drawn, drawn_prob=float(np.float32(p[drawn])),
    )  # fmt: skip


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    e = np.exp(logits - logits.max())
    softmax: npt.NDArray[np.float64] = e / e.sum()
    return softmax


def _entropy(p: npt.NDArray[np.float64]) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


_THINKING = (
    "I need the sum: 25 + 17, so 20 + 10 is 30, 5 + 7 is 12, and 30 + 12 is 42. That is it.",
    "We add the two: 25 + 17; as 25 + 15 is 40, 40 + 2 more, the result is 42. Let me check.",
    "Let us count it: 17 + 25, or 17 + 20 is 37, 37 + 5 is 42, which gives 42. So, the answer",
)
_ANSWER = (
    "**25 + 17 = 42**\n\nAdding tens and ones: $20 + 10 = 30$ and $5 + 7 = 12$, so $30 + 12 = 42$.",
    "**The sum is 42**\n\nThe tens make thirty and the ones make twelve, and together that is 42. ✓",
)


def _tell(texts: Sequence[str]) -> Script:
    """A script in which each text is told byte by byte, the first one likeliest, surer as it goes on."""
    told = [text.encode() for text in texts]
    script: list[dict[int, float]] = []
    for at in range(len(told[0])):
        certain = 0.45 + 0.4 * abs(np.sin(at * 0.7))
        position: dict[int, float] = {told[0][at]: certain}
        for rank, other in enumerate(told[1:], start=1):
            if at < len(other):
                position[other[at]] = position.get(other[at], 0.0) + (1 - certain) / 2**rank
        script.append(position)
    return script


def load(files: Any, options: EngineOptions, progress: Progress | None = None) -> ToyEngine:
    """The toy at a pace that a person can watch."""
    return ToyEngine(step_s=0.01)
