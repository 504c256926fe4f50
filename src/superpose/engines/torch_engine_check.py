"""What can be driven by embeddings, by name and by trial.

`refuse` reads the configuration; a `TorchTrial` compares lanes with the model's own forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs

from superpose.engine import Engine, EngineError, Readout, UnsupportedModel
from superpose.engines.trial import Trial
from superpose.problems import first_line
from superpose.types import FloatArray, IntArray, Mixture


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
    if getattr(text, "attn_temperature_tuning", False):  # beyond it, it counts by the cache's length, not a lane's
        limits.append(max(1, text.floor_scale - 1024))
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


class TorchTrial(Trial):
    """A trial that is made before the model is changed in any way, then run."""

    def __init__(self, model: PreTrainedModel, name: str, vocab: int) -> None:
        given = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            exact = model.dtype == torch.float32
            narrow = "" if exact else str(model.dtype).removeprefix("torch.")
            super().__init__(name, vocab, exact, partial(_forward, model), narrow)
        except (EngineError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # models fail in their own ways; all of them mean the same here
            raise self._refusal(f"its forward pass failed ({first_line(error)})") from error
        finally:
            model.set_attn_implementation(given)

    def any_threads(self, engine: Engine) -> bool:
        """Whether one CPU thread gives the same bits as all of them, in a prefill and in a step."""
        return self._try(self._any_threads, engine)

    def _any_threads(self, engine: Engine) -> bool:
        threads, ask = torch.get_num_threads(), Readout(support=1)
        if engine.info.device != "cpu" or threads == 1:
            return False
        answers: list[FloatArray] = []
        odd = self._ids[1][1:]  # some kernels align each thread's buffers for an even number of positions only
        for count in (threads, 1):
            torch.set_num_threads(count)
            lane = engine.open()
            engine.prefill(lane, odd, ask)
            prefilled = engine.logits()
            engine.step([lane], [Mixture.token(1)], [ask])
            answers.append(np.vstack([prefilled, engine.logits()]))
            engine.close(lane)
        torch.set_num_threads(threads)
        return np.array_equal(answers[0], answers[1])


@torch.inference_mode()
def _forward(model: PreTrainedModel, ids: IntArray, embedded: bool) -> FloatArray:
    """The model's own logits [T, V] for ids [T], in one pass without a cache."""
    tokens = torch.from_numpy(ids.astype(np.int64))[None].to(model.device)
    given: dict[str, Tensor] = {"input_ids": tokens}
    if embedded:
        given = {"inputs_embeds": model.get_input_embeddings()(tokens)}
    logits: FloatArray = model(**given, use_cache=False).logits[0].float().cpu().numpy()
    return logits
