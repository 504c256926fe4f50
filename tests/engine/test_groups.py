"""Lanes of unequal lengths in one step: each sees the columns that it has, and not those of the longest."""

import numpy as np
import pytest

from superpose.engine import Readout
from superpose.engines import torch_engine_attention, torch_engine_cache
from superpose.types import Mixture

pytestmark = pytest.mark.usefixtures("one_thread")
ASK = Readout(temperature=0.8, support=8, u=0.3)


def tokens(seed, count):
    return np.random.default_rng(seed).integers(3, 250, count).astype(np.int32)


def answers(engine, lengths):
    """Logits [3, n, V] of three steps of lanes with prompts of some lengths."""
    lanes = [engine.open() for _ in lengths]
    for seed, (lane, length) in enumerate(zip(lanes, lengths, strict=True)):
        engine.prefill(lane, tokens(seed, length), ASK)
    found = []
    for step in range(3):
        engine.step(lanes, [Mixture.token(5 + step + i) for i in range(len(lanes))], [ASK] * len(lanes))
        found.append(engine.logits())
    for lane in lanes:
        engine.close(lane)
    return np.array(found)


def test_rows_apart_give_the_bits_of_the_masked_batch(name, build, engine_of, monkeypatch):
    engine = engine_of(build(name), context=512)
    lengths = [20, 400, 5, 62]  # the last one's second step begins another bucket
    apart = answers(engine, lengths)
    monkeypatch.setattr(torch_engine_cache, "_groups", lambda columns: [(0, len(columns), max(columns))])
    assert np.array_equal(apart, answers(engine, lengths))


@pytest.mark.parametrize("length", [40, 200, 300])
def test_a_lane_has_the_same_bits_whatever_its_neighbours_hold(build, engine_of, length):
    engine = engine_of(build("qwen3"), context=512)
    told = [answers(engine, [length, *others])[:, 0] for others in ([5, 5, 5], [length] * 3, [450, 3, 70])]
    assert np.array_equal(told[0], told[1])
    assert np.array_equal(told[0], told[2])


def test_only_what_each_row_has_is_read(build, engine_of, monkeypatch):
    engine = engine_of(build("qwen2"), context=512)
    engine._steps._recorded = None  # a program calls torch itself, in as many parts
    real, read = torch_engine_attention.scaled_dot_product_attention, []

    def noted(query, key, *rest, **options):
        if query.shape[2] == 4:  # a step: three queries that share a key, and one of padding
            read.append((len(key), key.shape[2]))
        return real(query, key, *rest, **options)

    monkeypatch.setattr(torch_engine_attention, "scaled_dot_product_attention", noted)
    answers(engine, [20, 400, 5, 60])
    assert read == [(1, 64), (1, 448), (2, 64)] * 4 * 3  # 4 layers, 3 steps
