"""The torch engine against transformers' own logits, on tiny models of several families."""

import json
import platform
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import one_hot

from superpose.engine import (
    BadShape,
    EngineError,
    EngineOptions,
    LanesFull,
    LaneTooLong,
    OutOfMemory,
    Readout,
    UnknownLane,
    UnsupportedModel,
)
from superpose.engines import pace as pace_of
from superpose.engines import (
    torch_engine_blend,
    torch_engine_cache,
    torch_engine_load,
    torch_engine_memory,
)
from superpose.engines.torch_engine_check import refuse
from superpose.engines.torch_engine_load import load_model
from superpose.types import Mixture

pytestmark = pytest.mark.usefixtures("one_thread")
ASK = Readout(temperature=0.8, support=8, u=0.3)
TOLERANCE = 1e-4


def tokens(seed, count):
    return np.random.default_rng(seed).integers(3, 250, count).astype(np.int32)


def mixture(random):
    """A token, or a blend of up to nine, some with negative weights."""
    count = int(random.choice([1, 2, 5, 9]))
    weights = random.dirichlet(np.ones(count))
    if count > 1 and random.random() < 0.3:
        weights += 0.5 * np.linspace(-1, 1, count)
    ids = random.choice(250, count, replace=False).astype(np.int32)
    return Mixture(ids, weights.astype(np.float32), str(random.choice(["sum", "max"])))


@torch.inference_mode()
def embedded(model, inputs):
    """What mixtures should feed, [T, H], in float64 from the outputs of the model's embedding module."""
    rows = [model.get_input_embeddings()(torch.tensor(m.ids, dtype=torch.long)).double() for m in inputs]
    mixed = [
        row.max(0).values if m.combine == "max" else torch.tensor(m.weights).double() @ row
        for m, row in zip(inputs, rows, strict=True)
    ]
    return torch.stack(mixed)


@torch.inference_mode()
def own_logits(model, inputs):
    """transformers' logits [T, V] after each of some mixtures: one pass, no cache."""
    fed = embedded(model, inputs).to(model.dtype)[None]
    return model(inputs_embeds=fed, use_cache=False).logits[0].float().numpy()


def test_lanes_that_come_go_fork_and_roll_back_give_transformers_logits(name, build, engine_of):
    engine, model = engine_of(build(name)), build(name)
    random = np.random.default_rng(1)
    told = {}  # lane: [(mixture, logits after it or None)]
    worst, compared = 0.0, 0

    def compare(lane):
        nonlocal worst, compared
        own = own_logits(model, [m for m, _ in told[lane]])
        for expected, (_, logits) in zip(own, told[lane], strict=True):
            if logits is not None:
                worst, compared = max(worst, float(np.abs(expected - logits).max())), compared + 1

    for _ in range(60):
        deed = random.choice(["open", "step", "step", "step", "fork", "rollback", "close"])
        lanes = list(told)
        if deed == "open" and len(lanes) < 4:
            lane = engine.open()
            ids = tokens(int(random.integers(99)), int(random.integers(1, 20)))
            as_mixtures = [Mixture.token(int(i)) for i in ids]
            engine.prefill(lane, ids if random.random() < 0.5 else as_mixtures, ASK)
            told[lane] = [*((m, None) for m in as_mixtures[:-1]), (as_mixtures[-1], engine.logits()[0])]
        elif deed == "step" and lanes:
            chosen = random.permutation(lanes)[: random.integers(1, len(lanes) + 1)].tolist()
            for _ in range(3):
                fed = [mixture(random) for _ in chosen]
                engine.step(chosen, fed, [ASK] * len(chosen))
                for lane, m, logits in zip(chosen, fed, engine.logits(), strict=True):
                    told[lane].append((m, logits))
        elif deed == "fork" and 0 < len(lanes) < 4:
            source = int(random.choice(lanes))
            upto = int(random.integers(0, len(told[source]) + 1))
            lane = engine.fork(source, upto)
            told[lane] = [(m, None) for m, _ in told[source][:upto]]
        elif deed == "rollback" and lanes:
            lane = int(random.choice(lanes))
            compare(lane) if told[lane] else None
            del told[lane][int(random.integers(0, len(told[lane]) + 1)) :]
            engine.rollback(lane, len(told[lane]))
        elif deed == "close" and len(lanes) == 4:
            compare(lanes[1]) if told[lanes[1]] else None
            engine.close(lanes[1])
            del told[lanes[1]]
        assert all(engine.length(lane) == len(told[lane]) for lane in told)
    for lane in told:
        compare(lane) if told[lane] else None
    assert compared > 100
    assert worst < TOLERANCE


def test_greedy_steps_equal_generate(name, build, engine_of):
    engine, model = engine_of(build(name)), build(name)
    prompt = tokens(3, 11)
    expected = model.generate(
        torch.tensor(prompt[None], dtype=torch.long), do_sample=False, max_new_tokens=20, eos_token_id=None
    )[0, 11:]
    greedy, lane = ASK._replace(temperature=0.0), engine.open()
    d = engine.prefill(lane, prompt, greedy)
    got = []
    for _ in range(20):
        got.append(d.drawn)
        d = engine.step([lane], [Mixture.token(d.drawn)], [greedy])[0]
    assert got == expected.tolist()


def test_one_hot_is_bitwise_the_token(name, build, engine_of):
    engine = engine_of(build(name))
    lanes, ids = [engine.open(), engine.open()], tokens(4, 9)
    engine.prefill(lanes[0], ids, ASK)
    by_id = engine.logits()
    padded = [Mixture(np.array([i, 7, 9]), np.array([1.0, 0.0, 0.0])) for i in ids]
    engine.prefill(lanes[1], padded, ASK)
    assert np.array_equal(by_id, engine.logits())


@pytest.mark.parametrize("width", [1, 4, 64])
def test_prefill_in_chunks_equals_one(build, engine_of, width):
    engine, ids = engine_of(build("gemma3")), tokens(5, 70)
    engine.prefill(engine.open(), ids, ASK)
    whole = engine.logits()
    engine.info = replace(engine.info, chunk=width)
    lane = engine.open()
    engine.prefill(lane, ids[:33], ASK)
    engine.prefill(lane, ids[33:], ASK)
    assert np.abs(engine.logits() - whole).max() < TOLERANCE
    assert engine.length(lane) == 70


@pytest.mark.parametrize("combine", ["sum", "max"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 100, 300])
def test_mixtures_are_mixed_outputs_of_the_embedding_module(monkeypatch, build, engine_of, combine, count):
    monkeypatch.setattr(torch_engine_blend, "CANDIDATES", 64)  # so that many candidates are added up in parts,
    monkeypatch.setattr(torch_engine_blend, "_SHARE", 2)  # and beyond 150 as a product
    engine, model = engine_of(build("gemma2")), build("gemma2")
    random = np.random.default_rng(count)
    ids = random.permutation(300)[:count].astype(np.int32)
    m = Mixture(ids, random.dirichlet(np.ones(count)).astype(np.float32), combine)
    everything = embedded(model, [Mixture.token(i) for i in range(300)])
    expected = embedded(model, [m]).norm() / everything.norm(dim=-1).mean()
    ratio = engine.norm_ratios([Mixture.token(1), m, Mixture.token(2)])[1]
    assert ratio == pytest.approx(float(expected), rel=1e-5)
    lane = engine.open()
    engine.prefill(lane, [m], ASK)
    assert np.abs(engine.logits() - own_logits(model, [m])).max() < TOLERANCE


ENTANGLED = {
    "by what others are": lambda x: x + 1e-4 * x.mean(0, keepdim=True),
    "by its place": lambda x: x * (1 + 1e-4 * torch.arange(len(x))[:, None, None]),
    "by how many there are": lambda x: x * (1 + 1e-4 * len(x)),
}


@pytest.mark.parametrize("how", ENTANGLED)
def test_a_model_whose_lanes_feel_each_other_is_found_out(build, engine_of, how):
    model = build("llama")
    inner = model.model.norm.forward
    model.model.norm.forward = lambda x: ENTANGLED[how](inner(x))
    info = engine_of(model).info
    assert info.invariance == ("fixed_n" if how == "by how many there are" else "none")
    said = "only on how many there are (1 and 2 differ by" if info.invariance == "fixed_n" else "yes, in the last bits"
    assert any(f"a lane's numbers depend on its neighbours: {said}" in check for check in info.checks)


@pytest.mark.parametrize("dtype", torch_engine_load.DTYPES.values(), ids=torch_engine_load.DTYPES)
def test_a_lane_does_not_feel_its_neighbours(build, engine_of, dtype):
    """Bitwise, whatever they are fed: different numbers of candidates, another length, another order."""
    engine = engine_of(build("llama").to(dtype))
    assert engine.info.invariance in (("any_n", "fixed_n") if dtype == torch.float32 else ("fixed_n",))
    random = np.random.default_rng(0)
    m = Mixture(tokens(6, 5) + np.arange(5, dtype=np.int32), random.dirichlet(np.ones(5)).astype(np.float32))
    lanes = [engine.open() for _ in range(3)]
    for lane, length in zip(lanes, (9, 5, 90), strict=True):
        engine.prefill(lane, tokens(lane, length), ASK)
    answers = []
    for others in ([1, 2], [100, 1], [2, 200]):
        order = random.permutation(3)
        fed = [m, *(Mixture(np.arange(n, dtype=np.int32), np.full(n, 1 / n)) for n in others)]
        engine.step([lanes[i] for i in order], [fed[i] for i in order], [ASK] * 3)
        answers.append(engine.logits()[order.tolist().index(0)])
        for lane in lanes:
            engine.rollback(lane, engine.length(lane) - 1)
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_answers_come_in_the_order_of_the_lanes(build, engine_of):
    engine = engine_of(build("qwen3"))
    lanes = [engine.open() for _ in range(4)]
    alone = {}
    for lane in lanes:
        engine.prefill(lane, tokens(lane, 4 + lane), ASK)
        alone[lane] = engine.step([lane], [Mixture.token(lane)], [ASK])[0]
        engine.rollback(lane, 4 + lane)
    order = [lanes[i] for i in (3, 0, 2)]
    together = engine.step(order, [Mixture.token(lane) for lane in order], [ASK] * 3)
    for lane, d in zip(order, together, strict=True):
        assert d.ids.tolist() == alone[lane].ids.tolist()
        assert d.probs == pytest.approx(alone[lane].probs, abs=1e-5)


def test_wrong_calls_raise_and_change_nothing(build, engine_of):
    engine = engine_of(build("llama"), max_lanes=2, context=20)
    lanes = [engine.open(), engine.open()]
    for lane in lanes:
        engine.prefill(lane, tokens(1, 19), ASK)
    token, both = Mixture.token(5), [Mixture.token(5)] * 2
    for error, call in [
        (LanesFull, lambda: engine.open()),
        (LanesFull, lambda: engine.fork(lanes[0], 3)),
        (UnknownLane, lambda: engine.step([lanes[0], 99], both, [ASK] * 2)),
        (UnknownLane, lambda: engine.close(99)),
        (UnknownLane, lambda: engine.fork(99, 0)),
        (BadShape, lambda: engine.step(lanes, both, [ASK])),
        (BadShape, lambda: engine.step([lanes[0]] * 2, both, [ASK] * 2)),
        (BadShape, lambda: engine.step(lanes, [token, Mixture.token(300)], [ASK] * 2)),
        (BadShape, lambda: engine.prefill(lanes[0], np.array([-1], np.int32), ASK)),
        (BadShape, lambda: engine.prefill(lanes[0], np.zeros((1, 1), np.int32), ASK)),
        (BadShape, lambda: engine.prefill(lanes[0], np.zeros(1, np.float32), ASK)),
        (BadShape, lambda: engine.prefill(lanes[0], [], ASK)),
        (BadShape, lambda: engine.rollback(lanes[0], 20)),
        (BadShape, lambda: engine.fork(lanes[0], -1)),
        (BadShape, lambda: engine.step(lanes, both, [ASK, ASK._replace(temperature=-1.0)])),
        (BadShape, lambda: engine.step(lanes, both, [ASK, ASK._replace(temperature=float("nan"))])),
        (BadShape, lambda: engine.step(lanes, both, [ASK, ASK._replace(u=1.0)])),
        (LaneTooLong, lambda: engine.prefill(lanes[0], tokens(1, 2), ASK)),
    ]:
        with pytest.raises(error) as raised:
            call()
        assert str(raised.value)
    assert [engine.length(lane) for lane in lanes] == [19, 19]
    engine.step(lanes, both, [ASK] * 2)
    with pytest.raises(LaneTooLong):
        engine.step(lanes, both, [ASK] * 2)
    assert engine.step([], [], []) == []


def test_lanes_may_leave_before_they_are_read(build, engine_of):
    engine = engine_of(build("llama"))
    for _ in range(2):
        engine.close(engine.open())
    assert engine.memory().cache == 0


def test_no_memory_left_is_said_and_survived(monkeypatch, build, engine_of):
    engine = engine_of(build("gemma3"), context=500)
    lane = engine.open()
    engine.prefill(lane, tokens(2, 200), ASK)
    grown, calls = torch_engine_cache._grown, []

    def full(*given):
        calls.append(given)
        if len(calls) > 3:  # some layers have grown by then
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
        return grown(*given)

    monkeypatch.setattr(torch_engine_cache, "_grown", full)
    with pytest.raises(OutOfMemory, match="memory of cpu"):
        engine.prefill(lane, tokens(3, 200), ASK)
    with pytest.raises(OutOfMemory):
        engine.fork(lane, 150)
    assert engine.length(lane) == 200
    engine.prefill(lane, tokens(4, 5), ASK)  # still fits
    monkeypatch.undo()
    engine.prefill(lane, tokens(3, 200), ASK)
    got = engine.logits()
    fed = np.concatenate([tokens(2, 200), tokens(4, 5), tokens(3, 200)])
    own = own_logits(build("gemma3"), [Mixture.token(int(i)) for i in fed])[-1]
    assert np.abs(got - own).max() < TOLERANCE
    assert engine.length(engine.fork(lane, 150)) == 150


def test_lanes_do_not_grow_beyond_the_memory_that_is_free(monkeypatch, build, engine_of):
    engine = engine_of(build("llama"), context=500)
    lane = engine.open()
    engine.prefill(lane, tokens(2, 200), ASK)
    column = 2 * 4 * 2 * 8 * 4  # bytes of keys and values, 4 layers, 2 heads, 8 wide, float32
    monkeypatch.setattr(torch_engine_cache, "free_bytes", lambda device: 63 * column)
    with pytest.raises(OutOfMemory):
        engine.prefill(lane, tokens(3, 60), ASK)
    assert engine.length(lane) == 200
    monkeypatch.setattr(torch_engine_cache, "free_bytes", lambda device: 64 * column)
    engine.prefill(lane, tokens(3, 60), ASK)
    assert engine._slots._layers[0].keys.shape[2] == 320  # not doubled: there was room for 64 columns only


def test_lanes_fit_where_exactly_their_need_is_free(monkeypatch, build, engine_of):
    engine = engine_of(build("llama"), context=500)
    engine.prefill(engine.open(), tokens(2, 200), ASK)
    column = 2 * 4 * 2 * 8 * 4  # bytes of keys and values, 4 layers, 2 heads, 8 wide, float32
    for lengths, columns in [([10, 257, 300], 3 * 320), ([1, 1], 2 * 256)]:
        need = (columns - 256) * column
        for free, fits in [(0, False), (need - 1, False), (need, True), (None, True)]:
            monkeypatch.setattr(torch_engine_cache, "free_bytes", lambda device, free=free: free)
            assert engine.fits(lengths) == fits
            assert engine.fits([256]) and engine.fits([1])


def test_numbers_that_are_not_finite_are_said_and_leave_no_trace(build, engine_of):
    engine, model = engine_of(build("llama")), build("llama")
    lanes = [engine.open(), engine.open()]
    for lane in lanes:
        engine.prefill(lane, tokens(lane, 8), ASK)
    with torch.no_grad():
        engine._model.get_input_embeddings().weight[7] = float("nan")
    with pytest.raises(EngineError, match="finite"):
        engine.step(lanes, [Mixture.token(5), Mixture.token(7)], [ASK] * 2)
    with pytest.raises(EngineError, match="finite"):
        engine.prefill(lanes[1], np.full(9, 7, np.int32), ASK)
    assert [engine.length(lane) for lane in lanes] == [8, 8]
    engine.step(lanes, [Mixture.token(5)] * 2, [ASK] * 2)
    for lane, logits in zip(lanes, engine.logits(), strict=True):
        history = [Mixture.token(int(i)) for i in [*tokens(lane, 8), 5]]
        assert np.abs(own_logits(model, history)[-1] - logits).max() < TOLERANCE


def test_memory_follows_use(build, engine_of):
    engine = engine_of(build("llama"), max_lanes=16, context=500)
    layer = engine._slots._layers[0]
    assert not layer.is_initialized
    lanes = [engine.open() for _ in range(3)]
    engine.prefill(lanes[0], tokens(1, 10), ASK)
    assert layer.keys.shape == (4, 2, 256, 8) or layer.keys.shape == (3, 2, 256, 8)
    engine.prefill(lanes[1], tokens(1, 257), ASK)
    assert layer.keys.shape[2] == 512
    for lane in lanes:
        engine.close(lane)
    assert not layer.is_initialized


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.15), ("float16", 0.02)])
def test_narrow_dtypes_pass_their_check(build, engine_of, dtype, tolerance):
    engine = engine_of(build("qwen3").to(torch_engine_load.DTYPES[dtype]))
    assert engine.info.dtype == dtype
    assert any("nats" in check for check in engine.info.checks)
    own, ids = build("qwen3"), tokens(8, 12)
    engine.prefill(engine.open(), ids, ASK)
    expected = own_logits(own, [Mixture.token(int(i)) for i in ids])[-1]
    assert np.abs(engine.logits()[0] - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("dtype", torch_engine_load.DTYPES.values(), ids=torch_engine_load.DTYPES)
def test_forks_and_rollbacks_repeat_the_bits_in_every_dtype(build, engine_of, dtype):
    engine = engine_of(build("gemma3").to(dtype))

    def steps(lane, first):
        told = []
        for step in range(first, 6):
            engine.step([lane], [mixture(np.random.default_rng(step))], [ASK])
            told.append(engine.logits()[0])
        return np.array(told)

    lane = engine.open()
    engine.prefill(lane, tokens(1, 61), ASK)
    told = steps(lane, 0)
    for upto in range(61, 67):  # across a bucket's end
        branch = engine.fork(lane, upto)
        assert np.array_equal(steps(branch, upto - 61), told[upto - 61 :])
        engine.close(branch)
    engine.rollback(lane, 62)
    assert np.array_equal(steps(lane, 1), told[1:])


def config(family, **options):
    return getattr(transformers, f"{family}Config")(**options)


ROPE = {"rope_theta": 1e4, "factor": 4.0}
MROPE = {"rope_theta": 1e4, "rope_type": "default", "mrope_section": [2, 3, 3]}


@pytest.mark.parametrize(
    ("family", "options", "reason"),
    [
        ("Mamba", {}, "linear_attention"),
        ("FalconH1", {}, "hybrid"),
        ("Qwen3Next", {}, "linear_attention"),
        ("RecurrentGemma", {}, "linear_attention"),
        ("Lfm2", {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}, "conv"),
        ("Gemma3nText", {}, "per-layer embeddings"),
        ("Gemma4Text", {}, "per-layer embeddings"),
        ("NemotronH", {}, "no keys and values of their own"),
        ("DeepseekV4", {}, "compressed"),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", **ROPE}}, "dynamic rope"),
        ("Llama", {"rope_parameters": MROPE}, "M-RoPE"),
        ("Bloom", {}, "ALiBi"),
        ("Falcon", {"alibi": True}, "ALiBi"),
        ("T5", {}, "encoder-decoder"),
        ("Gemma3Text", {"use_bidirectional_attention": True}, "looks ahead"),
    ],
)
def test_what_cannot_be_driven_is_refused_by_name(family, options, reason):
    with pytest.raises(UnsupportedModel, match=reason) as raised:
        refuse(config(family, **options), "the/model")
    assert str(raised.value).startswith("the/model (")


def test_longrope_is_kept_inside_its_original_window(build, engine_of):
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 128}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    model = build("llama", rope_parameters=rope)
    assert engine_of(model).info.context == 128


def test_a_model_that_uses_more_than_embeddings_is_found_out(build, engine_of):
    model = build("llama")
    inner = model.model.forward

    def forward(input_ids=None, **kwargs):
        out = inner(input_ids, **kwargs)
        if input_ids is not None:
            out.last_hidden_state = out.last_hidden_state + one_hot(input_ids % 48, 48)
        return out

    model.model.forward = forward
    with pytest.raises(UnsupportedModel, match="one-hot input equals token input: no"):
        engine_of(model, "sly")


def test_a_model_without_keys_and_values_is_refused(engine_of):
    sizes = dict(vocab_size=300, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=64)
    with pytest.raises(UnsupportedModel, match="tiny cannot be driven by embeddings"):
        engine_of(transformers.RwkvForCausalLM(config("Rwkv", **sizes)).eval())


@pytest.fixture
def folder(tmp_path, build):
    build("qwen2", tie_word_embeddings=False).save_pretrained(tmp_path)
    return tmp_path


def silent(stage, done, total):
    pass


def test_a_folder_is_loaded_as_asked(folder, build, engine_of):
    stages = []
    model = load_model(folder, "m", EngineOptions(device="cpu"), lambda *told: stages.append(told))
    assert stages[0][:2] == ("weights", 0)
    assert stages[-1][1] == stages[-1][2] == sum(p.numel() * 4 for p in model.parameters())
    ids = tokens(9, 10)
    engine = engine_of(model)
    engine.prefill(engine.open(), ids, ASK)
    own = own_logits(build("qwen2", tie_word_embeddings=False), [Mixture.token(int(i)) for i in ids])[-1]
    assert np.abs(engine.logits()[0] - own).max() < TOLERANCE
    assert engine.info.eog_ids == {2}
    half = load_model(folder, "m", EngineOptions(device="cpu", dtype="bfloat16"), silent)
    assert half.dtype == torch.bfloat16
    assert engine_of(half).info.fingerprint != engine.info.fingerprint
    again = engine_of(load_model(folder, "m", EngineOptions(device="cpu"), silent))
    assert again.info.fingerprint == engine.info.fingerprint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions(dtype="int3", device="cpu"), "allowed: float32, bfloat16, float16"),
        (EngineOptions(device="abacus"), "allowed: auto, cpu, cuda"),
        (EngineOptions(device="xpu"), "allowed: auto, cpu, cuda"),
        pytest.param(
            EngineOptions(device="cuda"), "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)  # fmt: skip
def test_wrong_options_are_named(folder, options, words):
    with pytest.raises(UnsupportedModel, match=words):
        load_model(folder, "m", options, silent)


def test_folders_that_cannot_be_loaded_say_why(folder, monkeypatch):
    def complaint(error=UnsupportedModel):
        with pytest.raises(error) as raised:
            load_model(folder, "m", EngineOptions(device="cpu"), silent)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    monkeypatch.setattr(torch_engine_load, "free_bytes", lambda device: 1000)
    assert "GiB are free" in complaint(OutOfMemory)
    monkeypatch.undo()

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "lacks 1 of its weights, model.layers.1.mlp.up_proj.weight" in complaint()
    (folder / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    assert "m " in complaint()
    (folder / "model.safetensors").unlink()
    assert "m cannot be loaded" in complaint()

    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "vit"}))
    assert "no language-model head" in complaint()
    own = {"model_type": "homemade", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(own))
    assert "code in its own repository" in complaint()
    (folder / "config.json").write_text("{")
    assert "no readable config.json" in complaint()


def test_threads_that_are_only_waited_for_are_given_up_and_tried_again(monkeypatch):
    clock, used = [0.0], []
    monkeypatch.setattr(pace_of.time, "perf_counter", lambda: clock[0])
    pace = pace_of.Pace(8, used.append, adapt=True)

    def share_of_all(crowded):
        """How many of 200 steps use all threads, of which a step takes 0.1 s alone and 1 s in a crowd."""
        count = 0
        for _ in range(200):
            with pace.keep(lanes=3):
                count += used[-1] == 8
                clock[0] += 0.3 if used[-1] == 1 else 1.0 if crowded else 0.1
        return count

    assert share_of_all(crowded=False) > 180
    assert used[-1] == 8  # in between, the process has its own setting
    assert share_of_all(crowded=True) < 20
    assert share_of_all(crowded=False) > 120


def test_threads_stay_as_they_are_where_they_change_numbers():
    used = []
    pace = pace_of.Pace(8, used.append, adapt=False)
    for _ in range(9):
        with pace.keep(lanes=1):
            pass
    assert used == []


def test_a_new_shape_begins_with_what_was_faster_lately(monkeypatch):
    clock, used = [0.0], []
    monkeypatch.setattr(pace_of.time, "perf_counter", lambda: clock[0])
    pace = pace_of.Pace(8, used.append, adapt=True)

    def threads_of(lanes):
        with pace.keep(lanes):
            clock[0] += 0.3 if used[-1] == 1 else 1.0
            return used[-1]

    assert threads_of(1) == 8  # nothing is known
    assert [threads_of(1) for _ in range(5)][-1] == 1
    assert threads_of(2) == threads_of(3) == 1


def test_a_pass_that_did_more_is_left_out(monkeypatch):
    clock, used = [0.0], []
    monkeypatch.setattr(pace_of.time, "perf_counter", lambda: clock[0])
    pace = pace_of.Pace(8, used.append, adapt=True)
    for step in range(40):
        with pace.keep(1) as leave_out:
            clock[0] += 0.3 if used[-1] == 1 else 0.1
            if step % 10 == 9 and used[-1] == 8:
                clock[0] += 5.0
                leave_out()
    assert used.count(1) < 4


def test_memory_counts_each_tensor_once_and_follows_the_lanes(build, engine_of):
    model = build("llama")
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    engine = engine_of(model)
    weights, cache = engine.memory()
    assert parameters <= weights < 1.1 * parameters  # packing may pad
    assert cache == 0
    lane = engine.open()
    engine.prefill(lane, np.arange(5, dtype=np.int32), Readout())
    small = engine.memory().cache
    # Keys and values of 4 layers with 2 heads of 8 numbers, in float32.
    assert small == 4 * 2 * (2 * 8 * 4) * 256
    other = engine.open()
    engine.prefill(other, np.arange(5, dtype=np.int32), Readout())
    assert engine.memory().cache == 2 * small
    engine.close(lane)
    engine.close(other)
    assert engine.memory() == (weights, 0)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what glibc keeps is what is given back")
def test_freed_memory_goes_back_to_the_system():
    def resident():
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) // 1024 for line in file if line.startswith("RssAnon"))

    before = resident()
    blocks = [torch.ones(16 * 1024) for _ in range(3200)]  # 200 MiB, each too small for a mapping of its own
    last = torch.ones(16 * 1024)  # holds the heap's end, so that the blocks below it are kept
    assert resident() - before > 150
    del blocks
    torch_engine_memory.empty_cache(torch.device("cpu"))
    assert resident() - before < 50
    assert last.sum() == 16 * 1024
