"""What only a GPU can show: the compiled kernels, layers and graphs of a step against the engine on a CPU."""

import gc
import weakref

import numpy as np
import pytest
import torch

from superpose.engines.torch_engine import TorchEngine
from superpose.engines.toy import ByteTokenizer
from tests.engine.test_step import ASKS, agree, mixture, tokens, told

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
MIXED = [4, 9, 12, 16]  # seeds of mixtures that a step blends itself
DENSE = ["llama", "qwen2", "qwen3", "mistral-sliding", "gemma2", "gemma3"]


def engine_on_a_gpu(model, context=400):
    return TorchEngine(model.to("cuda"), ByteTokenizer(), "tiny", max_lanes=4, context=context)


def test_a_gpu_gives_the_numbers_of_a_cpu(name, build, engine_of):
    expected = told(engine_of(build(name), context=400))
    engine = engine_on_a_gpu(build(name))
    agree(told(engine), expected)
    compiled, captured = engine._steps.words()
    if name in DENSE:  # experts may be chosen on the host
        assert compiled.startswith("layers of a step are compiled: yes")
        assert captured.startswith("steps run as CUDA graphs: yes")


def test_steps_are_captured_again_once_lanes_have_more_memory(build):
    engine = engine_on_a_gpu(build("qwen2"))
    lanes = [engine.open() for _ in range(4)]
    for step, lane in enumerate(lanes):
        engine.prefill(lane, tokens(step, 3 + 95 * step), ASKS[0])  # and in the end more columns
        engine.step([lane], [mixture(MIXED[step])], [ASKS[0]])
    assert "steps run as CUDA graphs: yes" in engine._steps.words()[-1]


def test_a_lane_has_the_same_bits_beside_others(build):
    engine = engine_on_a_gpu(build("qwen2"))
    lane, *others = [engine.open() for _ in range(4)]
    engine.prefill(lane, tokens(1, 40), ASKS[0])
    found = []
    for length in (3, 200):
        for other in others:
            engine.rollback(other, 0)
            engine.prefill(other, tokens(length, length), ASKS[0])
        engine.step([lane, *others], [mixture(seed) for seed in (*MIXED[:3], length)], ASKS)
        found.append(engine.logits()[0])
        engine.rollback(lane, 40)
    assert np.array_equal(*found)


def test_lengths_are_known_while_a_step_is_made(build, engine_of):
    engine, plain = engine_on_a_gpu(build("qwen2")), engine_of(build("qwen2"))
    lanes, fed, found, waited = [engine.open() for _ in range(2)], [mixture(MIXED[0]), mixture(1)], [], []
    for lane in lanes:
        engine.prefill(lane, tokens(1, 5), ASKS[0])

    def measured():
        torch.cuda._sleep(10**9)  # cycles, that the step takes longer
        under_way = torch.cuda.Event()
        under_way.record()
        found.append(engine.norm_ratios(fed[::-1]))
        waited.append(under_way.query())

    for _ in range(3):
        engine.meanwhile(measured)
        engine.step(lanes, fed, ASKS[:2])
    assert len(found) == 3 and not any(waited[1:])  # a first time loads what it needs
    assert np.abs(np.array(found) - plain.norm_ratios(fed[::-1])).max() < 1e-5


def test_weights_and_lanes_are_let_go(build):
    engine = engine_on_a_gpu(build("qwen2"))
    told(engine)
    held = [weakref.ref(tensor) for tensor in (*engine._model.parameters(), *engine._slots.buffers())]
    engine.release()
    del engine
    gc.collect()
    assert not any(found() is not None for found in held)


def test_many_models_of_a_class_are_compiled(build):
    for width in range(48, 48 + 12 * 6, 12):
        engine = engine_on_a_gpu(build("qwen2", hidden_size=width))
        assert engine._steps.words()[0].startswith("layers of a step are compiled: yes")
        engine.release()
