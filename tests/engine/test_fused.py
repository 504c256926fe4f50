"""The step of a GPU without one: its attention in triton's interpreter, its layers traced as for a compiler.

That the kernels can be compiled is shown too; how they run then is for test_cuda.py, where there is a GPU.
"""

import math
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch._dynamo.testing import CompileCounter

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from superpose.engines import torch_engine_flash, torch_engine_linear
from superpose.engines.torch_engine_attention import attend
from superpose.engines.torch_engine_check import TorchTrial
from superpose.engines.torch_engine_fused import Fused
from superpose.engines.torch_engine_step import Steps
from tests.engine.test_step import ASKS, agree, mixture, tokens

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU kernels are compiled: test_cuda.py tests them"),
]


@pytest.fixture
def counter(monkeypatch):
    counted, compiled = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled(function, backend=counted, **options))
    torch._dynamo.reset()
    return counted


def as_on_a_gpu(engine):
    """The engine with padded steps of compiled layers."""
    fused = Fused(engine._model)
    lanes = engine.info.max_lanes
    engine._steps = Steps(engine._forward, engine._blender, engine._slots, engine._device, lanes, (), fused)
    engine._steps.padded, engine._steps._recorded = True, None
    return engine


@pytest.mark.parametrize("columns", [70, 700])
@pytest.mark.parametrize("softcap, sinks", [(0.0, False), (2.0, True)])
@pytest.mark.parametrize("heads, heads_kv, d, e", [(6, 2, 24, 24), (4, 4, 48, 16)])
def test_attention_over_spans_is_masked_attention(columns, softcap, sinks, heads, heads_kv, d, e):
    torch.manual_seed(columns)
    keys, values = torch.randn(5, heads_kv, columns, d), torch.randn(5, heads_kv, columns, e)
    query, key, value = torch.randn(3, heads, 1, d), torch.randn(3, heads_kv, 1, d), torch.randn(3, heads_kv, 1, e)
    first, last = torch.tensor([0, 20, 0]), torch.tensor([0, 33, columns - 1])
    sink = torch.randn(heads) if sinks else None
    stored = [kept.clone() for kept in (keys, values)]
    for kept, new in zip(stored, (key, value), strict=True):
        kept[torch.arange(3), :, last] = new[:, :, 0]
    at = torch.arange(columns)
    mask = torch.where((at >= first[:, None]) & (at <= last[:, None]), 0.0, torch.finfo(torch.float32).min)
    expected = attend(query, stored[0][:3], stored[1][:3], mask[:, None, None], 0.3, softcap or None, sink)
    spans = torch.stack([first, last], -1)[:, None, None]
    found = torch_engine_flash.flash(query, key, value, keys, values, spans, 0.3, softcap, sink)
    assert (found - expected).abs().max() < 2e-6
    assert torch.equal(keys, stored[0]) and torch.equal(values, stored[1])  # what is new is in, and nothing else


def short(engine):
    """Logits and beliefs of lanes that come, wait and grow; fewer than `told` has, for the interpreter is slow."""
    lanes, found = [engine.open() for _ in range(3)], []
    for seed, lane in enumerate(lanes):
        engine.prefill(lane, tokens(seed, 3 + 30 * seed), ASKS[0])
    for step, chosen in enumerate([[0, 1, 2], [2], [2, 1]]):
        asks = [ASKS[(lane + step) % 4] for lane in chosen]
        beliefs = engine.step([lanes[i] for i in chosen], [mixture(10 * step + i) for i in chosen], asks)
        found += zip(engine.logits(), beliefs, strict=True)
    return found


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from superpose.engines.torch_engine_flash import _join, _split

tensors = dict.fromkeys(["query", "key", "value", "keys", "values", "sinks", "out"], "*bf16")
tensors |= {"parts": "*fp32", "stats": "*fp32", "spans": "*i64", "scaling": "fp32", "softcap": "fp32"}
constants = dict(GROUP=8, GROUPS=16, D=128, DS=128, E=128, ES=128, SOFTCAP=True, SINKS=True, BLOCK=64, SPLITS=16)
for kernel in (_split, _join):
    kinds = {name: "constexpr" if name in constants else tensors.get(name, "i32") for name in kernel.arg_names}
    given = {name: value for name, value in constants.items() if name in kernel.arg_names}
    made = triton.compile(ASTSource(kernel, kinds, given), target=GPUTarget("cuda", 90, 32), options={"num_stages": 2})
    assert made.asm["cubin"] and made.metadata.shared < 48 << 10
"""


def test_kernels_can_be_compiled_for_a_gpu_that_is_not_here():
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=inherited, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


# Kinds of layers there are for a compiler: a window is in the spans, but rope, norms or experts may be missing.
KINDS = {"qwen2": 1, "gemma2": 1, "gemma3": 1, "gpt-oss": 1, "llama4-chunked": 2}


@pytest.mark.parametrize("name", KINDS)
def test_compiled_layers_give_the_same_numbers(name, build, engine_of, counter, monkeypatch):
    monkeypatch.setattr(torch_engine_flash, "SPLITS", 2)
    changes = {"attn_temperature_tuning": False} if name == "llama4-chunked" else {}
    expected = short(engine_of(build(name, **changes)))
    engine = as_on_a_gpu(engine_of(build(name, **changes), context=400))
    agree(short(engine), expected)
    assert engine._steps.words()[0] == "layers of a step are compiled: yes, with attention over just what a lane holds"
    assert counter.frame_count == 2 * KINDS[name]  # of one lane and of several
    lane = engine.open()
    engine.prefill(lane, tokens(1, 270), ASKS[0])  # more columns, and with them other buffers
    engine.step([lane], [mixture(1)], [ASKS[0]])
    assert counter.frame_count == 2 * KINDS[name]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler for a CPU needs g++")
def test_torch_can_compile_the_layers(build, engine_of, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch_engine_flash, "SPLITS", 2)
    monkeypatch.setattr(torch_engine_linear, "_works", lambda linear: False)  # packed weights are for a CPU only
    torch._dynamo.reset()
    expected = short(engine_of(build("qwen2")))
    engine = as_on_a_gpu(engine_of(build("qwen2"), context=400))
    agree(short(engine), expected)
    assert engine._steps.words()[0] == "layers of a step are compiled: yes, with attention over just what a lane holds"


def test_layers_that_ask_how_long_the_cache_is_run_as_they_are(build, engine_of, counter, monkeypatch):
    monkeypatch.setattr(torch_engine_flash, "SPLITS", 2)
    engine = as_on_a_gpu(engine_of(build("llama4-chunked"), context=400))
    agree(short(engine), short(engine_of(build("llama4-chunked"))))
    assert engine._steps.words()[0].startswith("layers of a step are compiled: no (")


def fails(plain):
    def compiled(*_, **__):
        raise ValueError("there is no compiler here")

    return compiled


def errs(plain):
    return lambda *args, **kwargs: 1.01 * plain(*args, **kwargs)


def loses(plain):
    return lambda *args, **kwargs: math.nan * plain(*args, **kwargs)


@pytest.mark.parametrize(
    "compiled, reason",
    [(fails, "there is no compiler here"), (errs, "lanes agree with the model"), (loses, "not finite")],
)
def test_layers_that_cannot_be_compiled_or_err_run_as_they_are(compiled, reason, build, engine_of, monkeypatch):
    monkeypatch.setattr(torch_engine_flash, "SPLITS", 2)
    monkeypatch.setattr(torch, "compile", lambda plain, **_: compiled(plain))
    engine = as_on_a_gpu(engine_of(build("qwen2")))
    found = engine._tried(TorchTrial(build("qwen2"), "tiny", engine.info.vocab))
    assert found.checks == engine.info.checks[: len(found.checks)]
    (words,) = engine._steps.words()
    assert words.startswith("layers of a step are compiled: no (") and reason in words
    agree(short(engine), short(engine_of(build("qwen2"))))
