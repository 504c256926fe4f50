"""Attention of a step on a GPU over just the keys and values that are there, without a mask: flash-decoding.

What a row sees is split over several thread blocks, each of which keeps a running softmax; a second kernel joins
them. Source: Dao et al., "Flash-Decoding for long-context inference" (2023). How a row is split hangs on what it sees
alone, so that its bits are the same beside any others.
"""

# Kernels have no types that mypy knows:
# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

SPLITS = 16  # thread blocks to a row and a head of keys
_BYTES = 16 << 10  # of keys that one of them takes at once, so that it needs less than the 99 KB that each GPU has
_LEAST = 16  # the shortest side of a product


@triton.jit  # type: ignore[untyped-decorator]  # triton is untyped
def _split(
    query, key, value, keys, values, spans, parts, stats, scaling, softcap,
    q_n, q_h, k_n, k_h, v_n, v_h, keys_n, keys_h, keys_c, values_n, values_h, values_c, heads_kv,
    GROUP: tl.constexpr, GROUPS: tl.constexpr, D: tl.constexpr, DS: tl.constexpr, E: tl.constexpr, ES: tl.constexpr,
    SOFTCAP: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """One split of a row and a head of keys, for all of its `GROUP` queries; whichever holds the end writes it."""
    pair, split = tl.program_id(0), tl.program_id(1)
    n, h = pair // heads_kv, pair % heads_kv
    first, last = tl.load(spans + 2 * n).to(tl.int32), tl.load(spans + 2 * n + 1).to(tl.int32)
    size = tl.cdiv(tl.cdiv(last + 1 - first, SPLITS), BLOCK) * BLOCK
    begin = first + split * size
    end = tl.minimum(begin + size, last + 1)
    g, d, e, c = tl.arange(0, GROUPS), tl.arange(0, DS), tl.arange(0, ES), tl.arange(0, BLOCK)
    heads = (h * GROUP + g).to(tl.int64)
    mine = (g < GROUP)[:, None] & (d < D)[None, :]
    asked = tl.load(query + n * q_n + heads[:, None] * q_h + d[None, :], mask=mine, other=0.0)
    new_key = tl.load(key + n * k_n + h * k_h + d, mask=d < D, other=0.0)
    new_value = tl.load(value + n * v_n + h * v_h + e, mask=e < E, other=0.0)
    keys += n.to(tl.int64) * keys_n + h * keys_h
    values += n.to(tl.int64) * values_n + h * values_h
    if (begin <= last) & (last < begin + size):
        tl.store(keys + last * keys_c + d, new_key, mask=d < D)
        tl.store(values + last * values_c + e, new_value, mask=e < E)
    highest = tl.full((GROUPS,), -1e30, tl.float32)
    total = tl.zeros((GROUPS,), tl.float32)
    mixed = tl.zeros((GROUPS, ES), tl.float32)
    for at in range(begin, end, BLOCK):
        column = at + c
        old, new = column < last, column == last  # another split may be writing the new one just now
        stored = keys + column[None, :] * keys_c + d[:, None]
        known = tl.load(stored, mask=old[None, :] & (d < D)[:, None], other=0.0)
        scores = tl.dot(asked, tl.where(new[None, :], new_key[:, None], known), input_precision="ieee") * scaling
        if SOFTCAP:
            scores = (2 * tl.sigmoid(2 * scores / softcap) - 1) * softcap  # which is tanh
        scores = tl.where((column < end)[None, :], scores, -1e30)
        higher = tl.maximum(highest, tl.max(scores, 1))
        shares, kept = tl.exp(scores - higher[:, None]), tl.exp(highest - higher)
        stored = values + column[:, None] * values_c + e[None, :]
        known = tl.load(stored, mask=old[:, None] & (e < E)[None, :], other=0.0)
        known = tl.where(new[:, None], new_value[None, :], known)
        total = total * kept + tl.sum(shares, 1)
        mixed = mixed * kept[:, None] + tl.dot(shares.to(known.dtype), known, input_precision="ieee")
        highest = higher
    place = (pair * SPLITS + split) * GROUP + g
    tl.store(parts + place[:, None] * E + e[None, :], mixed, mask=(g < GROUP)[:, None] & (e < E)[None, :])
    tl.store(stats + 2 * place, highest, mask=g < GROUP)
    tl.store(stats + 2 * place + 1, total, mask=g < GROUP)


@triton.jit  # type: ignore[untyped-decorator]  # triton is untyped
def _join(
    parts, stats, sinks, out, heads_kv,
    GROUP: tl.constexpr, E: tl.constexpr, ES: tl.constexpr, SINKS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """The answer of one query, from its splits; one that saw nothing has a total of 0."""
    pair, g = tl.program_id(0), tl.program_id(1)
    s, e = tl.arange(0, SPLITS), tl.arange(0, ES)
    place = (pair * SPLITS + s) * GROUP + g
    highest, totals = tl.load(stats + 2 * place), tl.load(stats + 2 * place + 1)
    top = tl.max(highest, 0)
    if SINKS:  # a sink a head: takes its share of attention and gives nothing
        sink = tl.load(sinks + (pair % heads_kv) * GROUP + g).to(tl.float32)
        top = tl.maximum(top, sink)
    shares = tl.exp(highest - top)
    total = tl.sum(totals * shares, 0)
    if SINKS:
        total += tl.exp(sink - top)
    mixed = tl.load(parts + place[:, None] * E + e[None, :], mask=(e < E)[None, :], other=0.0)
    tl.store(out + (pair * GROUP + g) * E + e, tl.sum(mixed * shares[:, None], 0) / total, mask=e < E)


@torch.library.custom_op("superpose::flash", mutates_args=("keys", "values"))
def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keys: Tensor,
    values: Tensor,
    spans: Tensor,
    scaling: float,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    """Attention [n, heads, 1, e] of `query` [n, heads, 1, d] over what is stored, once the new `key`, `value` are in.

    `keys` [rows, heads_kv, columns, d] and `values` [rows, heads_kv, columns, e]; row i sees, of its own, the columns
    from `spans[i, 0]` to `spans[i, 1]` ([n, 1, 1, 2] int64), the last of which is written here. No softcap is 0.
    Raises ValueError for spans of another shape.
    """
    if spans.shape != (len(query), 1, 1, 2):
        raise ValueError(f"spans of {tuple(spans.shape)} for {len(query)} rows")
    (n, heads, _, d), heads_kv, e = query.shape, keys.shape[1], values.shape[3]
    group = heads // heads_kv
    query, key, value = (part if part.stride(3) == 1 else part.contiguous() for part in (query, key, value))
    parts = torch.empty(n * heads_kv * SPLITS * group * e, device=query.device)
    stats = torch.empty(n * heads_kv * SPLITS * group * 2, device=query.device)
    out = torch.empty(n, heads, 1, e, device=query.device, dtype=query.dtype)
    size: Any = triton.next_power_of_2
    _split[(n * heads_kv, SPLITS)](
        query, key, value, keys, values, spans.contiguous(), parts, stats, scaling, softcap,
        *query.stride()[:2], *key.stride()[:2], *value.stride()[:2], *keys.stride()[:3], *values.stride()[:3], heads_kv,
        GROUP=group, GROUPS=max(_LEAST, size(group)), D=d, DS=max(_LEAST, size(d)), E=e, ES=max(_LEAST, size(e)),
        SOFTCAP=softcap > 0, BLOCK=max(_LEAST, _BYTES // (size(d) * keys.element_size())), SPLITS=SPLITS, num_stages=2,
    )  # fmt: skip
    _join[(n * heads_kv, group)](
        parts, stats, sinks, out, heads_kv, GROUP=group, E=e, ES=max(_LEAST, size(e)), SINKS=sinks is not None,
        SPLITS=SPLITS,
    )  # fmt: skip
    return out


@flash.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, *_: Any) -> Tensor:
    return query.new_empty(query.shape[0], query.shape[1], 1, values.shape[3])
