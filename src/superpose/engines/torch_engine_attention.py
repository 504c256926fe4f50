"""Masked attention over a lane's own keys and values, registered with transformers for all models."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION = "superpose"  # the name under which `attention` is registered with transformers
Group = tuple[int, int, int]  # neighbouring rows of a step, from the first to before the last, and the columns they see
jit: Any = torch.jit  # is not typed


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention [n, T, heads, d] of `query` [n, heads, T, d] over `key`, `value` [n, heads_kv, kv, d].

    In a step on a CPU each row sees as many columns as alone, whatever its neighbours hold: a long lane does not slow
    the others, nor does it change their last bits, as masked columns do in some kernels. A recorded step finds its
    groups of rows in a tensor, and needs a program that walks through them. A step on a GPU brings spans of columns
    instead of a mask, and new keys and values that are not stored yet.
    """
    if position_bias is not None:
        raise ValueError("its attention adds position biases")
    if attention_mask.dtype == torch.int64:
        stored: Any = module.superpose_layer
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        fast: Tensor = torch.ops.superpose.flash(
            query, key, value, stored.keys, stored.values, attention_mask, scale, softcap or 0.0, s_aux
        )
        return fast.transpose(1, 2), None
    given, options = (query, key, value, attention_mask), (scaling, softcap, s_aux)
    plan: Any = module.superpose_plan
    if query.shape[2] == 1 and len(plan.groups):
        by_groups = _scripted_grouped() if jit.is_tracing() else grouped
        mixed: Tensor = by_groups(*given, plan.groups, *options)
    elif query.shape[0] == 1:
        mixed = attend(*given, *options)
    else:
        raise ValueError("a pass is one step of many rows, or many steps of one row")
    return mixed.transpose(1, 2), None


# What follows is also read by TorchScript, which knows a part of Python only.


def grouped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    groups: list[tuple[int, int, int]],
    scaling: float | None,
    softcap: float | None,
    s_aux: Tensor | None,
) -> Tensor:
    """`attend` of a step's rows group by group, each over the columns that it sees, [n, heads, 1, d]."""
    parts = [
        attend(
            query[first:last],
            key[first:last, :, :kv],
            value[first:last, :, :kv],
            mask[first:last, :, :, :kv],
            scaling,
            softcap,
            s_aux,
        )
        for first, last, kv in groups
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float | None,
    softcap: float | None,
    s_aux: Tensor | None,
) -> Tensor:
    """Attention [n, heads, T, d] of rows that all see `kv` columns; either T or n is 1.

    Query heads that share a key are packed, so that keys are never repeated in memory: side by side as if they
    were positions in a step, and with the heads as the batch in a prefill, which is over one row.
    """
    n, heads, steps, d = query.shape
    heads_kv = key.shape[1]
    group = heads // heads_kv
    if softcap is not None or s_aux is not None:
        scores = query.reshape(n, heads_kv, group * steps, d) @ key.transpose(2, 3)
        scores = scores.view(n, heads, steps, -1) * (d**-0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores + mask
        if s_aux is not None:  # a sink a head: takes its share of attention and gives nothing
            scores = torch.cat([scores, s_aux.view(1, heads, 1, 1).expand(n, heads, steps, 1)], dim=-1)
        shares = scores.softmax(-1, dtype=torch.float32)[..., : key.shape[2]].to(value.dtype)
        mixed = shares.view(n, heads_kv, group * steps, -1) @ value
    elif steps == 1:
        packed = query.reshape(n, heads_kv, group, d)
        if group % 2 and query.device.type == "cpu":
            # The CPU kernel's buffers are aligned for an even number of queries only, and MKL rounds by alignment:
            # without this a lane's last bits would depend on how many others there are.
            packed = pad(packed, [0, 0, 0, 1])
        mixed = scaled_dot_product_attention(packed, key, value, mask, scale=scaling)[:, :, :group]
    else:
        packed = query.reshape(heads_kv, group, steps, d)
        keys, values = key[0, :, None].expand(-1, group, -1, -1), value[0, :, None].expand(-1, group, -1, -1)
        mixed = scaled_dot_product_attention(packed, keys, values, mask, scale=scaling)
    return mixed.reshape(n, heads, steps, -1)


def _listed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    groups: Tensor,
    scaling: float | None,
    softcap: float | None,
    s_aux: Tensor | None,
) -> Tensor:
    bounds: list[list[int]] = groups.tolist()
    found = [(group[0], group[1], group[2]) for group in bounds]
    return grouped(query, key, value, mask, found, scaling, softcap, s_aux)


@cache
def _scripted_grouped() -> Any:
    """`grouped` as a function of a program, with the groups [g, 3] in a tensor."""
    return jit.script(_listed)


AttentionInterface.register(ATTENTION, attention)
