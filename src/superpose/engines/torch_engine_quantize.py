"""Weights of 8 or 4 bits for a CPU; what flows through the layers stays in bfloat16.

int8 has a scale per output, int4 a scale and a zero point per group of 32 inputs; the head, which decides between
neighbouring tokens, never has fewer than 8 bits. Activations are never quantised: their scale would be shared by the
rows of a step, so that lanes would change each other's numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from superpose.engine import Tokenizer, UnsupportedModel
from superpose.engines.torch_engine_joined import linear_places

KINDS = ("int8", "int4")
_GROUP = 32
_TILE = 16  # outputs that int4 is packed by
_TOKENS = 96
_TEXT = """Water boils at 100 degrees Celsius at sea level, but on a mountain it boils earlier. The river Seine flows
through Paris, the capital of France. "Where have you been?" she asked. def add(a, b): return a + b. So 12 + 30 = 42."""


class QuantizedLinear(nn.Module):
    """`nn.Linear` over weights of 8 bits, or of 4 where `few`."""

    def __init__(self, linear: nn.Linear, few: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self._few = few
        weight = linear.weight.detach().float()
        if few:
            self.levels, self.scales = _int4(weight)
        else:
            self.levels, self.scales = _int8(weight)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., in_features] bfloat16 through the layer."""
        y = self._product(x.reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def _product(self, x: Tensor) -> Tensor:
        if self._few:
            y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.levels, _GROUP, self.scales)
            return y
        return torch._weight_int8pack_mm(x, self.levels, self.scales)


def check(kind: str, device: torch.device) -> None:
    """Nothing, where weights can be of this kind; otherwise raises UnsupportedModel with a sentence."""
    if kind not in KINDS:
        raise UnsupportedModel(f"unknown quantization {kind!r}; allowed: {', '.join(KINDS)}")
    if device.type != "cpu":
        raise UnsupportedModel(f"weights are quantized on a CPU only, not on {device}: add --device cpu")
    if not _works(few=kind == "int4"):
        raise UnsupportedModel(f"this version of torch cannot compute with {kind} weights; leave out --quantize")


@torch.inference_mode()
def quantize(model: PreTrainedModel, kind: str, tokenizer: Tokenizer) -> str:
    """Replaces the weights of linear layers; how far beliefs move on a fixed text, in words.

    Raises UnsupportedModel for a model in another dtype than bfloat16 or without such layers.
    """
    check(kind, model.device)
    if model.dtype != torch.bfloat16:
        raise UnsupportedModel(f"{kind} weights go with bfloat16, not with {str(model.dtype).removeprefix('torch.')}")
    places = linear_places(model, lambda linear: not linear.in_features % _GROUP)
    if not places:
        raise UnsupportedModel("it has no linear layers that can be quantized")
    ids = np.array(tokenizer.encode(_TEXT)[:_TOKENS])
    before = _beliefs(model, ids)
    head = model.get_output_embeddings()
    for parent, name in places:  # one by one, so that a weight and its copy exist together only once
        linear = getattr(parent, name)
        few = kind == "int4" and linear is not head and not linear.out_features % _TILE
        setattr(parent, name, QuantizedLinear(linear, few))
    after = _beliefs(model, ids)
    nats = float((before.exp() * (before - after)).sum(-1).mean())
    same = float((before.argmax(-1) == after.argmax(-1)).double().mean())
    return f"{kind} weights: KL {nats:.2g} nats, top-1 agreement {same:.2f} against bfloat16 on {len(ids)} tokens"


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Levels [out, in] from -127 to 127 and what one of them is worth, [out]."""
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
    return (weight / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8), scales


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Packed levels from 0 to 15; what a step of them is worth and what level 8 is, [in / 32, out, 2]."""
    groups = weight.view(len(weight), -1, _GROUP)
    lowest, highest = groups.aminmax(dim=-1)
    # As they will be stored, so that levels are rounded to what these numbers can say.
    steps = ((highest - lowest) / 15).clamp(min=1e-12).bfloat16()
    middles = (lowest + 8 * steps).bfloat16()
    levels = ((groups - middles[..., None].float()) / steps[..., None].float()).round() + 8
    levels = levels.clamp(0, 15).int().view(len(weight), -1)
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 2)
    return packed, torch.stack([steps, middles], -1).transpose(0, 1).contiguous()


def _beliefs(model: PreTrainedModel, ids: np.ndarray) -> Tensor:
    """The model's own log-probabilities [T, vocab] of what follows each id."""
    logits: Tensor = model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
    return logits.double().log_softmax(-1)


def _works(few: bool) -> bool:
    linear = nn.Linear(2 * _GROUP, _TILE, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.linspace(-1, 1, linear.weight.numel()).view_as(linear.weight).sin())
    x = torch.linspace(-1, 1, 4 * _GROUP, dtype=torch.bfloat16).view(2, -1)
    try:  # the operators are private to torch, so they may be missing or mean something else
        got, own = QuantizedLinear(linear, few)(x).float(), linear(x.float())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool((got - own).abs().max() <= 0.1 * own.abs().max())
