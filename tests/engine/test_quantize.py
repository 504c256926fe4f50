"""Weights of 8 and 4 bits: how far beliefs move, and that nothing else of what the engine promises does."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from superpose.cli import main
from superpose.engine import EngineOptions, Readout, UnsupportedModel, open_engine
from superpose.engines import torch_engine_quantize
from superpose.engines.torch_engine import TorchEngine
from superpose.engines.torch_engine_load import load_model
from superpose.engines.torch_engine_quantize import QuantizedLinear, quantize
from superpose.engines.toy import ByteTokenizer
from superpose.types import Mixture
from tests.engine.tiny_gguf import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
ASK = Readout(temperature=0.8, support=8, u=0.3)
WIDE = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2)


def tokens(seed, count):
    return np.random.default_rng(seed).integers(3, 250, count).astype(np.int32)


@pytest.fixture(params=["int8", "int4"])
def kind(request):
    return request.param


@pytest.fixture
def engine(build, kind):
    model = build("qwen2", **WIDE).to(torch.bfloat16)
    return TorchEngine(model, ByteTokenizer(), "tiny", max_lanes=8, context=200, quantized=kind)


def test_a_layer_computes_with_what_its_levels_stand_for(kind):
    torch.manual_seed(2)
    linear = nn.Linear(64, 48).bfloat16()
    layer = QuantizedLinear(linear, few=kind == "int4")
    x = torch.randn(5, 64).bfloat16()
    own = linear(x).float()
    step = 2 * linear.weight.float().abs().max() / (15 if kind == "int4" else 254)
    worst = 0.5 * step * x.float().abs().sum(-1).max()  # every level off by half a step, all in one direction
    off = (layer(x).float() - own).abs().max()
    assert 0 < off < min(worst, 0.15 * own.abs().max())
    assert layer(x[None]).shape == (1, 5, 48)
    assert torch.equal(layer(x)[:1], layer(x[:1]))  # a row has the same bits alone


def test_the_engine_says_what_the_bits_cost(engine, kind):
    said = engine.info.checks[0]
    found = re.fullmatch(rf"{kind} weights: KL (\S+) nats, top-1 agreement (\S+) against bfloat16 on 96 tokens", said)
    assert found
    assert 0 < float(found[1]) < {"int8": 0.01, "int4": 0.3}[kind]
    assert float(found[2]) > {"int8": 0.85, "int4": 0.3}[kind]
    assert engine.info.dtype == f"bfloat16, {kind} weights"
    assert f"-{kind}-" in engine.info.fingerprint
    layers = [m for m in engine._model.modules() if isinstance(m, QuantizedLinear)]
    assert [layer._few for layer in layers] == [kind == "int4"] * (4 * 7) + [False]  # the head is the last


def test_the_head_keeps_eight_bits_and_takes_none_from_the_embeddings(build):
    model = build("qwen2", vocab_size=304, tie_word_embeddings=False, **WIDE).to(torch.bfloat16)
    table = model.get_input_embeddings().weight.clone()
    quantize(model, "int4", ByteTokenizer())
    assert isinstance(model.lm_head, QuantizedLinear)
    assert not model.lm_head._few
    assert model.model.layers[0].mlp.up_proj._few
    assert torch.equal(model.get_input_embeddings().weight, table)


def test_lanes_do_not_feel_each_other(engine):
    def answers(others):
        lane, *beside = [engine.open() for _ in range(4)]
        engine.prefill(lane, tokens(1, 20), ASK)
        for seed, other in enumerate(beside):
            engine.prefill(other, tokens(others + seed, 3 + 9 * others), ASK)
        found = []
        for step in range(4):
            fed = [Mixture.token(9 + step), *(Mixture.token(others + i) for i in range(3))]
            engine.step([lane, *beside], fed, [ASK] * 4)
            found.append(engine.logits()[0])
        for open_lane in (lane, *beside):
            engine.close(open_lane)
        return found

    assert np.array_equal(answers(3), answers(11))


def test_a_prompt_in_parts_is_a_prompt_at_once(engine):
    ids, told = tokens(5, 60), []
    for cuts in ([60], [1, 30, 60], [59, 60]):
        lane, at = engine.open(), 0
        for cut in cuts:
            engine.prefill(lane, ids[at:cut], ASK)
            at = cut
        told.append(engine.logits()[0])
    for other in told[1:]:  # the layers are, the attention between them rounds by the shape of a pass
        assert np.abs(told[0] - other).max() < 0.05 * np.abs(told[0]).max()


def test_what_cannot_be_is_said(build, monkeypatch, tmp_path):
    build("qwen2", tie_word_embeddings=False).save_pretrained(tmp_path)

    def refusal(**options):
        with pytest.raises(UnsupportedModel) as raised:
            load_model(tmp_path, "m", EngineOptions(**{"device": "cpu", **options}), lambda *told: None)
        return str(raised.value)

    assert "allowed: int8, int4" in refusal(quantize="int2")
    assert "go with bfloat16, not with float32" in refusal(quantize="int8", dtype="float32")
    with pytest.raises(UnsupportedModel, match="on a CPU only, not on cuda"):
        torch_engine_quantize.check("int4", torch.device("cuda"))
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    assert "cannot compute with int8 weights" in refusal(quantize="int8")
    with pytest.raises(UnsupportedModel, match="the toy engine takes weights as they are"):
        open_engine("toy", EngineOptions(quantize="int8"))
    with pytest.raises(UnsupportedModel, match="no linear layers"):
        quantize(build("llama", intermediate_size=48).to(torch.bfloat16), "int4", ByteTokenizer())


def test_the_word_on_the_command_line_reaches_the_loaded_engine(tmp_path, monkeypatch, capsys, kind):
    for place in ("DATA", "CACHE"):
        monkeypatch.setenv(f"SUPERPOSE_{place}", str(tmp_path))
    words = ["run", "hi", "--model", str(tiny(tmp_path / "tiny.gguf")), "--engine", "torch", "--quantize", kind]
    assert main([*words, "--T-e", "1", "--T-total", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"]["dtype"] == f"bfloat16, {kind} weights"


PROMPTS = [
    "What is 25 + 17? Explain how you add them.",
    "Why is the sky blue?",
    "Write a haiku about the sea.",
    "Name three planets and one fact about each.",
]


def demo_beliefs(options, fed=None):
    """What the demo model is fed, its own beliefs or `fed`, and its log-probabilities [4 * 48, vocab] of four runs."""
    engine = open_engine("smollm2-135m", options)
    given, beliefs = [], []
    for prompt in PROMPTS:
        lane, ids = engine.open(), engine.tokenizer.chat("", prompt).token_ids
        told = engine.prefill(lane, np.array(ids, np.int32), ASK)
        for _ in range(48):
            given.append(fed[len(given)] if fed else Mixture(told.ids[:5], told.probs[:5] / told.probs[:5].sum()))
            told = engine.step([lane], [given[-1]], [ASK])[0]
            beliefs.append(torch.from_numpy(engine.logits()[0]).double().log_softmax(-1).numpy())
        engine.close(lane)
    engine.release()
    return given, np.array(beliefs)


@pytest.fixture(scope="module")
def exact():
    return demo_beliefs(EngineOptions(engine="torch"))


# What docs/speed.md says, with room for other processors.
LOST = {"bfloat16": (0.002, 0.92), "int8": (0.013, 0.9), "int4": (0.005, 0.95)}


@pytest.mark.parametrize("weights", LOST)
def test_beliefs_of_the_demo_model_move_as_little_as_documented(exact, weights):
    """KL and the likeliest tokens of runs with fewer bits against those in float32, over the same mixtures."""
    fed, whole = exact
    narrow = {"dtype": weights} if weights == "bfloat16" else {"quantize": weights}
    _, few = demo_beliefs(EngineOptions(engine="torch", **narrow), fed)
    kl = (np.exp(whole) * (whole - few)).sum(-1)
    most, same = LOST[weights]
    assert 0 < kl.mean() < most
    assert (whole.argmax(-1) == few.argmax(-1)).mean() >= same
