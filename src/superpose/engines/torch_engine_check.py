"""What can be driven by embeddings, by name and by trial.

`refuse` reads the configuration. `Trial` compares the real weights, fed through lanes, with the model's own
forward pass; it also measures whether a lane's numbers depend on what else is live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs

from superpose.engine import Engine, EngineError, Invariance, Readout, UnsupportedModel
from superpose.engines.torch_engine_cache import BUCKET
from superpose.types import FloatArray, IntArray, Mixture

T = TypeVar("T")

LANES = 4  # that a trial needs at once
POSITIONS = 96  # that each of them needs
_LENGTHS = (4, 9, 7)  # of the prompts of three lanes, each followed by
_STEPS = 3
_RELATIVE, _NATS = 1e-3, 0.02  # how far logits may be off in float32, and beliefs in a narrower dtype


class Findings(NamedTuple):
    """What a trial measured, and the same in words."""

    invariance: Invariance
    checks: tuple[str, ...]


def refuse(config: PreTrainedConfig, name: str) -> None:
    """Nothing, for a configuration that may work; otherwise raises UnsupportedModel with the reason."""
    text = config.get_text_config(decoder=True)
    reason = next(_reasons(config, text), None)
    if reason:
        raise UnsupportedModel(f"{name} ({text.model_type}) cannot be driven by embeddings: {reason}")


def _reasons(config: PreTrainedConfig, text: PreTrainedConfig) -> Iterator[str]:
    if config.is_encoder_decoder:
        yield "it is an encoder-decoder"
    if getattr(text, "use_bidirectional_attention", False) or not getattr(text, "is_causal", True):
        yield "its attention also looks ahead"
    if getattr(text, "hidden_size_per_layer_input", 0):
        yield "it looks up per-layer embeddings by token id, which a mixture does not have"
    kinds = set(get_layer_types_and_kwargs(text)[0]) - {
        "full_attention",
        "sliding_attention",
        "chunked_attention",
    }
    if "dummy" in kinds:
        yield "some of its layers have no keys and values of their own"
    if kinds:
        yield f"its {' and '.join(sorted(kinds))} layers keep a state that cannot be cut back"
    for rope in _ropes(text):
        if rope.get("rope_type") == "dynamic":
            yield "its dynamic rope scales positions by the longest sequence, so that lanes would disturb each other"
        if "mrope_section" in rope:
            yield "its rope (M-RoPE) needs three positions a token"
    if text.model_type == "bloom" or getattr(text, "alibi", False):
        yield "its ALiBi positions are derived from a padding mask, which lanes of different lengths do not have"


def _ropes(text: PreTrainedConfig) -> list[dict[str, Any]]:
    """The rope parameters, of which a model may have a set for each kind of layer."""
    given = getattr(text, "rope_parameters", None) or {}
    nested = [value for value in given.values() if isinstance(value, dict)]
    return nested or [given]


def longest(config: PreTrainedConfig, cap: int) -> int:
    """How many tokens a lane may hold: what the model was made for, at most `cap`."""
    text = config.get_text_config(decoder=True)
    limits = [cap, getattr(text, "max_position_embeddings", None)]
    for rope in _ropes(text):
        if rope.get("rope_type") == "longrope":  # beyond it, the longest lane would rescale all of them
            limits.append(rope.get("original_max_position_embeddings"))
    return min(limit for limit in limits if limit)


def vocabulary(model: PreTrainedModel, name: str) -> int:
    """How many tokens the model answers with. Raises UnsupportedModel unless each of them has an embedding."""
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModel(f"{name} has no language-model head")
    rows, inputs = (module.weight.shape[0] for module in (head, model.get_input_embeddings()))
    if rows > inputs:
        raise UnsupportedModel(f"{name} answers with {rows} tokens but has embeddings for {inputs} only")
    return int(rows)


class Trial:
    """A comparison of lanes with the model itself; made before the model is changed in any way, then `run`."""

    def __init__(self, model: PreTrainedModel, name: str, vocab: int) -> None:
        self._name = name
        self._ids = [
            ((np.arange(length + _STEPS) * 7919 + 104729 * lane + 13) % vocab).astype(np.int32)
            for lane, length in enumerate(_LENGTHS)
        ]
        given = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            self._own = [_forward(model, ids, embedded=False) for ids in self._ids]  # [T, V] each
            fed = _forward(model, self._ids[0], embedded=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # models fail in their own ways; all of them mean the same here
            raise self._refusal(f"its forward pass failed ({_first_line(error)})") from error
        finally:
            model.set_attn_implementation(given)
        self._exact = model.dtype == torch.float32
        self._words = [self._verdict("one-hot input equals token input", [self._own[0]], [fed])]

    def run(self, engine: Engine) -> Findings:
        """What was found. Raises UnsupportedModel where lanes and the model disagree."""
        return self._try(self._run, engine)

    def any_threads(self, engine: Engine) -> bool:
        """Whether one CPU thread gives the same bits as all of them, in a prefill and in a step."""
        return self._try(self._any_threads, engine)

    def _try(self, part: Callable[[Engine], T], engine: Engine) -> T:
        try:
            return part(engine)
        except EngineError:
            raise
        except Exception as error:  # as above
            raise self._refusal(f"a forward pass over lanes failed ({_first_line(error)})") from error

    def _any_threads(self, engine: Engine) -> bool:
        threads, ask = torch.get_num_threads(), Readout(support=1)
        if engine.info.device != "cpu" or threads == 1:
            return False
        answers: list[FloatArray] = []
        for count in (threads, 1):
            torch.set_num_threads(count)
            lane = engine.open()
            engine.prefill(lane, self._ids[1], ask)
            prefilled = engine.logits()
            engine.step([lane], [Mixture.token(1)], [ask])
            answers.append(np.vstack([prefilled, engine.logits()]))
            engine.close(lane)
        torch.set_num_threads(threads)
        return np.array_equal(answers[0], answers[1])

    def _run(self, engine: Engine) -> Findings:
        ask = Readout(support=1)
        a, b, c = lanes = [engine.open() for _ in _LENGTHS]

        def feed(tokens: dict[int, int]) -> dict[int, FloatArray]:
            """One step; the logits [V] of each lane."""
            engine.step(list(tokens), [Mixture.token(i) for i in tokens.values()], [ask] * len(tokens))
            return dict(zip(tokens, engine.logits(), strict=True))

        def replay(starts: dict[int, tuple[int, int]], steps: int) -> list[dict[int, FloatArray]]:
            """Feeds lanes their sequences from a position on: {lane: (sequence, position)}."""
            return [feed({lane: int(self._ids[k][at + i]) for lane, (k, at) in starts.items()}) for i in range(steps)]

        own: list[FloatArray] = []
        got: list[FloatArray] = []
        for k, (lane, length) in enumerate(zip(lanes, _LENGTHS, strict=True)):
            engine.prefill(lane, self._ids[k][:length], ask)
            own.append(self._own[k][length - 1])
            got.append(engine.logits()[0])
        starts = {lane: (k, length) for k, (lane, length) in enumerate(zip(lanes, _LENGTHS, strict=True))}
        first = replay(starts, _STEPS)
        for i, answers in enumerate(first):
            own += [self._own[k][at + i] for k, at in starts.values()]
            got += [answers[lane] for lane in lanes]
        self._words.append(self._verdict("lanes agree with the model alone", own, got))

        for lane, (_, at) in starts.items():
            engine.rollback(lane, at)
        again = replay(starts, _STEPS)
        for lane in (b, c):
            engine.rollback(lane, starts[lane][1] + 1)
        d = engine.fork(a, _LENGTHS[0] + 1)
        forked = replay({d: (0, _LENGTHS[0] + 1), b: (1, _LENGTHS[1] + 1), c: (2, _LENGTHS[2] + 1)}, _STEPS - 1)
        own = [answers[lane] for answers in first for lane in lanes] + [answers[a] for answers in first[1:]]
        got = [answers[lane] for answers in again for lane in lanes] + [answers[d] for answers in forked]
        self._words.append(self._verdict("rollback and fork repeat the same numbers", own, got))

        engine.rollback(a, _LENGTHS[0])
        engine.prefill(c, np.full(BUCKET, 3, np.int32), ask)  # so that a sees more columns than it has
        beside = feed({b: 1, a: int(self._ids[0][_LENGTHS[0]]), c: 2})[a]
        alone = bool(np.array_equal(beside, first[0][a]))
        engine.close(d)
        same = self._any_count(engine, a, b, c) if alone else ""
        invariance: Invariance = "none" if not alone else "fixed_n" if same else "any_n"
        said = {
            "none": "a lane's numbers depend on its neighbours: yes, in the last bits",
            "fixed_n": f"a lane's numbers depend on its neighbours: only on how many there are ({same})",
            "any_n": f"a lane's numbers depend on its neighbours: no, the same bits for 1 to {engine.info.max_lanes}",
        }[invariance]
        for lane in lanes:
            engine.close(lane)
        return Findings(invariance, (*self._words, said))

    def _any_count(self, engine: Engine, a: int, b: int, c: int) -> str:
        """Empty if lane `a` answers the same bits among any number of lanes, else where it first does not."""
        token, ask, lanes, seen = int(self._ids[0][_LENGTHS[0]]), Readout(support=1), [a, b, c], None
        while len(lanes) < engine.info.max_lanes:
            lanes.append(engine.fork(b, engine.length(b)))
        difference = ""
        for n in range(1, len(lanes) + 1):
            engine.rollback(a, _LENGTHS[0])
            engine.step(lanes[:n], [Mixture.token(token)] * n, [ask] * n)
            answer = engine.logits()[0]
            if seen is not None and not np.array_equal(seen, answer):
                difference = f"{n - 1} and {n} differ by {np.abs(seen - answer).max():.1e}"
                break
            seen = answer
        for lane in lanes[3:]:
            engine.close(lane)
        return difference

    def _verdict(self, what: str, own: list[FloatArray], got: list[FloatArray]) -> str:
        """`what` in words with its measure. Raises UnsupportedModel beyond the tolerance."""
        expected, found = np.vstack(own), np.vstack(got)  # [m, V]
        off = float(np.abs(expected - found).max())
        if self._exact:
            good, measure = off <= _RELATIVE * float(np.abs(expected).max()), f"max difference {off:.2g}"
        else:
            p, q = (_log_softmax(x) for x in (expected, found))
            nats = float((np.exp(p) * (p - q)).sum(-1).mean())
            good, measure = nats < _NATS, f"max difference {off:.2g}, {nats:.1e} nats"
        if not good:  # so also for NaN
            raise self._refusal(f"it failed its self-check; {what}: no ({measure})")
        return f"{what}: yes ({measure})"

    def _refusal(self, reason: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self._name} cannot be driven by embeddings: {reason}")


@torch.inference_mode()
def _forward(model: PreTrainedModel, ids: IntArray, embedded: bool) -> FloatArray:
    """The model's own logits [T, V] for ids [T], in one pass without a cache."""
    tokens = torch.from_numpy(ids.astype(np.int64))[None].to(model.device)
    given: dict[str, Tensor] = {"input_ids": tokens}
    if embedded:
        given = {"inputs_embeds": model.get_input_embeddings()(tokens)}
    logits: FloatArray = model(**given, use_cache=False).logits[0].float().cpu().numpy()
    return logits


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(-1, keepdims=True)
    logs: FloatArray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logs


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]
