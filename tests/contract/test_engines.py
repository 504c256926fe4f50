"""One conformance suite for every engine: fork, rollback, join order, invariance as declared, errors."""

from contextlib import suppress

import numpy as np
import pytest

from superpose.engine import BadShape, LanesFull, LaneTooLong, Readout, UnknownLane
from superpose.engines.blend import combine
from superpose.engines.toy import ToyEngine
from superpose.types import GaussianNoise, Mixture, Sampling

ASK = Readout(temperature=0.8, support=16, u=0.4)
LANES = 16
NARROW = {"bfloat16": 0.02, "float16": 0.0025, "Q8_0": 0.002}  # how far a probability may be off


def toy():
    return ToyEngine(max_lanes=LANES, context=96)


def tiny_torch(dtype="float32", quantized=None):
    """A random two-layer Qwen2 with every parameter randomised, behind the torch engine."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from superpose.engines.torch_engine import TorchEngine
    from superpose.engines.toy import VOCAB, ByteTokenizer

    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=96, tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model = model.to(getattr(torch, dtype))
    return TorchEngine(model, ByteTokenizer(), "tiny", max_lanes=LANES, context=96, quantized=quantized)


def tiny_bfloat16():
    return tiny_torch("bfloat16")


def tiny_float16():
    return tiny_torch("float16")


def tiny_int8():
    return tiny_torch("bfloat16", "int8")


def tiny_int4():
    return tiny_torch("bfloat16", "int4")


def tiny_llamacpp(folder, kind="F32"):
    """A random two-layer Llama with a token a byte, behind llama.cpp."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from superpose.engines.llamacpp import LlamaEngine
    from superpose.engines.llamacpp_file import GgufFile
    from tests.engine.tiny_gguf import Kind, tiny

    file = GgufFile(tiny(folder / "tiny.gguf", kind=Kind[kind]))
    return LlamaEngine(file, "tiny", max_lanes=LANES, context=96)


def tiny_q8(folder):
    return tiny_llamacpp(folder, "Q8_0")


ENGINES = {
    "toy": toy, "torch": tiny_torch, "torch-bf16": tiny_bfloat16, "torch-f16": tiny_float16, "torch-int8": tiny_int8,
    "torch-int4": tiny_int4, "llamacpp": tiny_llamacpp, "llamacpp-q8": tiny_q8,
}  # fmt: skip


@pytest.fixture(scope="module", params=ENGINES.values(), ids=ENGINES)
def loaded(request, tmp_path_factory):
    """One engine for all tests: its self-check takes longer than any of them."""
    folder = [tmp_path_factory.mktemp("gguf")] if request.param in (tiny_llamacpp, tiny_q8) else []
    made = request.param(*folder)
    yield made
    made.release()


@pytest.fixture
def engine(loaded, monkeypatch):
    """The engine without a lane, as if it had been loaded just now."""
    opened = []

    def noted(act):
        def noting(*arguments):
            opened.append(act(*arguments))
            return opened[-1]

        return noting

    info = loaded.info
    with monkeypatch.context() as patch:
        patch.setattr(loaded, "open", noted(loaded.open))
        patch.setattr(loaded, "fork", noted(loaded.fork))
        yield loaded
    loaded.info = info
    for lane in set(opened):
        with suppress(UnknownLane):  # the test closed it
            loaded.close(lane)


def prompt(seed, length):
    return np.random.default_rng(seed).integers(0, 256, length).astype(np.int32)


def blend(seed):
    random = np.random.default_rng(seed)
    ids = random.choice(256, 5, replace=False).astype(np.int32)
    return Mixture(ids, random.dirichlet(np.ones(5)).astype(np.float32), random.choice(["sum", "max"]))


def same(engine, one, other, bits=False):
    """Asserts that two beliefs are one: in float32 to the last bits, in narrower numbers to what theirs can say."""
    if bits:
        assert np.array_equal(one.ids, other.ids) and np.array_equal(one.probs, other.probs)
    tolerance = NARROW.get(engine.info.dtype.partition(",")[0], 2e-5)
    if tolerance == 2e-5:
        assert one.ids.tolist()[:3] == other.ids.tolist()[:3]
    for these, those in ((one, other), (other, one)):
        known = dict(zip(those.ids.tolist(), those.probs.tolist(), strict=True))
        least = min(known.values())  # what is not listed has at most so much
        expected = [known.get(token, min(least, p)) for token, p in zip(these.ids.tolist(), these.probs, strict=True)]
        assert these.probs == pytest.approx(expected, abs=tolerance)
    assert one.entropy == pytest.approx(other.entropy, abs=max(5 * tolerance, 1e-3))


def test_a_distribution_is_whole_and_ordered(engine):
    d = engine.prefill(engine.open(), prompt(1, 9), ASK._replace(support=0))
    assert len(d.ids) == engine.info.vocab == len(set(d.ids.tolist()))
    assert float(d.probs.sum(dtype=np.float64)) == pytest.approx(1, abs=1e-5)
    assert d.tail == 0
    assert (np.diff(d.probs) <= 0).all()
    logits = engine.logits()[0].astype(np.float64)
    p = np.exp(logits / 0.8 - np.logaddexp.reduce(logits / 0.8))
    assert d.probs == pytest.approx(p[d.ids], abs=1e-6)
    assert d.entropy == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
    q = np.exp(logits - np.logaddexp.reduce(logits))
    assert d.entropy_raw == pytest.approx(-(q * np.log(q)).sum(), abs=1e-4)
    assert d.drawn == int(np.searchsorted(np.cumsum(p), 0.4 * p.sum(), side="right"))


def test_one_hot_mixtures_are_token_ids(engine):
    ids = prompt(2, 12)
    by_id = engine.prefill(engine.open(), ids, ASK)
    lane = engine.open()
    engine.prefill(lane, ids[:5], ASK)
    for token in ids[5:]:
        d = engine.step([lane], [Mixture.token(int(token))], [ASK])[0]
    same(engine, d, by_id)
    same(engine, engine.prefill(engine.open(), [Mixture.token(int(token)) for token in ids], ASK), by_id)


def test_a_prefill_answers_other_questions_too(engine):
    ids = prompt(6, 20)
    asks = [Readout(temperature=t, support=k, u=u) for t, k, u in [(0.8, 16, 0.4), (1.0, 0, 0.9), (0.0, 3, 0.1)]]
    each = []
    for ask in asks:
        each.append(engine.prefill(engine.open(), ids, ask))
    for got, own in zip(engine.beliefs(asks), each, strict=True):
        assert np.array_equal(got.ids, own.ids)
        assert np.array_equal(got.probs, own.probs)
        assert (got.drawn, got.drawn_prob, got.entropy) == (own.drawn, own.drawn_prob, own.entropy)


def test_a_beginning_that_is_forked_gives_the_very_numbers_of_reading_it(engine):
    ids, lane = prompt(7, 40), engine.open()
    for at in range(0, 40, 16):
        whole = engine.prefill(lane, ids[at : at + 16], ASK)
    logits = engine.logits()
    twin = engine.fork(lane, 32)
    again = engine.prefill(twin, ids[32:], ASK)
    assert np.array_equal(engine.logits(), logits)
    assert np.array_equal(again.probs, whole.probs)


def test_a_lane_of_its_context_fits(engine):
    engine.prefill(engine.open(), prompt(1, 9), ASK)
    assert engine.fits([engine.info.context] * engine.info.max_lanes)


def test_prefill_in_parts_is_prefill_at_once(engine):
    ids = prompt(3, 30)
    whole = engine.prefill(engine.open(), ids, ASK)
    lane = engine.open()
    for part in (ids[:1], ids[1:20], ids[20:]):
        d = engine.prefill(lane, part, ASK)
    same(engine, d, whole)
    assert engine.length(lane) == 30


@pytest.mark.parametrize("most", [1, 4, 8, LANES])
def test_lanes_that_join_leave_and_pause_equal_each_alone(engine, most):
    def alone(seed):
        lane = engine.open()
        told = [engine.prefill(lane, prompt(seed, 4 + seed), ASK)]
        told += [engine.step([lane], [blend(100 * seed + i)], [ASK])[0] for i in range(8)]
        engine.close(lane)
        return told

    expected = {seed: alone(seed) for seed in range(most + 4)}
    random, peak = np.random.default_rng(0), 0
    lanes, told, waiting = {}, {seed: [] for seed in expected}, list(expected)
    while waiting or lanes:
        while waiting and len(lanes) < most and (not lanes or random.random() < 0.7):
            seed = waiting.pop(0)
            lanes[seed] = engine.open()
            told[seed].append(engine.prefill(lanes[seed], prompt(seed, 4 + seed), ASK))
        peak = max(peak, len(lanes))
        stepping = [seed for seed in lanes if random.random() < 0.7]
        random.shuffle(stepping)
        if stepping:
            got = engine.step(
                [lanes[seed] for seed in stepping],
                [blend(100 * seed + len(told[seed]) - 1) for seed in stepping],
                [ASK] * len(stepping),
            )
            for seed, d in zip(stepping, got, strict=True):
                told[seed].append(d)
        for seed in [seed for seed in lanes if len(told[seed]) == 9]:
            engine.close(lanes.pop(seed))
    assert peak == most
    for seed in expected:
        for one, other in zip(told[seed], expected[seed], strict=True):
            same(engine, one, other, bits=engine.info.invariance == "any_n")


def test_fork_and_rollback_redo_the_same(engine):
    lane, bits = engine.open(), engine.info.invariance != "none"
    engine.prefill(lane, prompt(4, 7), ASK)
    told = [engine.step([lane], [blend(i)], [ASK])[0] for i in range(6)]
    branch = engine.fork(lane, 7 + 3)
    assert engine.length(branch) == 10
    for i in range(3, 6):
        same(engine, engine.step([branch], [blend(i)], [ASK])[0], told[i], bits)
    engine.rollback(lane, 7 + 2)
    assert engine.length(lane) == 9
    same(engine, engine.step([lane], [blend(2)], [ASK])[0], told[2], bits)
    engine.close(lane)
    same(engine, engine.step([branch], [blend(9)], [ASK])[0], engine.step([replay(engine, 6)], [blend(9)], [ASK])[0])


def replay(engine, steps):
    lane = engine.open()
    engine.prefill(lane, prompt(4, 7), ASK)
    engine.prefill(lane, [blend(i) for i in range(steps)], ASK)
    return lane


def test_different_questions_in_one_step(engine):
    lanes = [engine.open() for _ in range(3)]
    for lane in lanes:
        engine.prefill(lane, prompt(5, 6), ASK)
    asks = [
        Readout(temperature=0.0, support=3, u=0.9),
        Readout(temperature=1.0, support=1, u=0.9, mass=0.5),
        Readout(temperature=2.0, support=1, filters=Sampling(top_k=1), u=0.9),
    ]
    greedy, half, top = engine.step(lanes, [Mixture.token(65)] * 3, asks)
    logits = engine.logits().astype(np.float64)
    assert np.abs(logits - logits[0]).max() < 1e-4
    best = int(logits[0].argmax())
    assert (greedy.drawn, greedy.ids[0], greedy.probs[0], greedy.entropy) == (best, best, 1.0, 0.0)
    p = np.exp(logits[0] - np.logaddexp.reduce(logits[0]))
    assert half.probs.sum() >= 0.5 > half.probs[:-1].sum()
    assert half.tail == pytest.approx(1 - p[half.ids].sum(), abs=1e-5)
    assert top.drawn == best
    assert top.drawn_prob == pytest.approx(np.exp(logits[2][best] / 2 - np.logaddexp.reduce(logits[2] / 2)), abs=1e-5)


def test_norm_ratio_of_a_mixture(engine):
    tokens = engine.norm_ratios([Mixture.token(i) for i in range(engine.info.vocab)])
    assert tokens.mean() == pytest.approx(1, abs=1e-4)
    halves = Mixture(np.array([3, 4], np.int32), np.array([0.5, 0.5], np.float32))
    assert 0 < engine.norm_ratios([halves])[0] < tokens[[3, 4]].max()


def test_what_is_done_meanwhile_is_done_once_by_the_end_of_a_step(engine):
    lanes = [engine.open() for _ in range(2)]
    for lane in lanes:
        engine.prefill(lane, np.array([1, 2, 3], np.int32), ASK)
    blend = np.array([5, 6]), np.array([0.5, 0.5])
    expected, done = engine.norm_ratios([Mixture(*blend), Mixture.token(7), Mixture.token(4)]).tolist(), []
    fed = [Mixture.token(4), Mixture(*blend)]
    engine.meanwhile(lambda: done.append(engine.norm_ratios([fed[1], Mixture.token(7), fed[0]]).tolist()))
    engine.step(lanes, fed, [ASK, ASK])
    engine.step(lanes, fed, [ASK, ASK])
    assert done == [expected]
    engine.meanwhile(lambda: done.append(None))
    engine.step([], [], [])
    assert done[1:] == [None]


def test_errors_change_nothing(engine):
    lanes = [engine.open() for _ in range(LANES)]
    with pytest.raises(LanesFull):
        engine.open()
    with pytest.raises(LanesFull):
        engine.fork(lanes[0], 0)
    for lane in lanes:
        engine.prefill(lane, prompt(6, 90), ASK)
    with pytest.raises(UnknownLane):
        engine.step([lanes[0], 999], [blend(0)] * 2, [ASK] * 2)
    with pytest.raises(BadShape):
        engine.step(lanes, [blend(0)], [ASK])
    with pytest.raises(BadShape):
        engine.step([lanes[0], lanes[0]], [blend(0)] * 2, [ASK] * 2)
    with pytest.raises(BadShape):
        engine.step([lanes[0]], [Mixture.token(engine.info.vocab)], [ASK])
    with pytest.raises(BadShape):
        engine.prefill(lanes[0], np.array([], np.int32), ASK)
    with pytest.raises(BadShape):
        engine.rollback(lanes[0], 91)
    with pytest.raises(LaneTooLong):
        engine.prefill(lanes[0], prompt(6, 7), ASK)
    assert [engine.length(lane) for lane in lanes] == [90] * LANES
    for _ in range(6):
        engine.step(lanes, [blend(1)] * LANES, [ASK] * LANES)
    with pytest.raises(LaneTooLong):
        engine.step(lanes, [blend(1)] * LANES, [ASK] * LANES)
    assert [engine.length(lane) for lane in lanes] == [96] * LANES
    engine.close(lanes[0])
    with pytest.raises(UnknownLane):
        engine.length(lanes[0])
    engine.open()


def table(engine):
    """The embeddings [V, H] that the engine mixes, from its own parts."""
    if engine.info.name == "toy":
        return engine._table.astype(np.float64)
    if engine.info.name == "llamacpp":
        return engine._blender._rows[:].astype(np.float64)
    import torch

    return engine._model.get_input_embeddings()(torch.arange(engine.info.vocab)).detach().double().numpy()


@pytest.mark.parametrize("rescale", [None, "mean_norm", "inv_l2", "expected_norm", 1.7])
@pytest.mark.parametrize("combine", ["sum", "max", "slerp"])
def test_lengths_of_every_combination_by_their_definition(engine, combine, rescale):
    e = table(engine)
    ids, w = np.array([7, 30]), np.array([0.7, 0.3])
    lengths = np.linalg.norm(e[ids], axis=1)
    if combine == "sum":
        mixed = w @ e[ids]
    elif combine == "max":
        mixed = e[ids].max(0)
    else:
        one, two = e[ids] / lengths[:, None]
        angle = np.arccos(one @ two)
        mixed = (np.sin(0.7 * angle) * one + np.sin(0.3 * angle) * two) / np.sin(angle) * (w @ lengths)
    length = {
        None: np.linalg.norm(mixed),
        "mean_norm": np.linalg.norm(e, axis=1).mean(),
        "expected_norm": w @ lengths,
        "inv_l2": np.linalg.norm(mixed) / np.sqrt(0.58),
        1.7: 1.7 * np.linalg.norm(mixed),
    }[rescale]
    mixture = Mixture(ids, w.astype(np.float32), combine, rescale=rescale)
    plain = Mixture(np.array([7]), np.ones(1, np.float32))
    ratios = engine.norm_ratios([plain, mixture, plain])
    mean = np.linalg.norm(e, axis=1).mean()
    assert ratios[1] == pytest.approx(length / mean, rel=1e-4)
    assert ratios[[0, 2]] == pytest.approx(lengths[0] / mean, rel=1e-4)


@pytest.mark.parametrize(
    ("ids", "weights", "combine"),
    [
        ([7], [1.0], "sum"),
        ([7, 30, 200], [0.5, 0.8, -0.3], "sum"),
        ([7, 30, 200, 9], [0.25] * 4, "max"),
        ([7, 30], [0.7, 0.3], "slerp"),
        (list(range(263)), [1 / 263] * 263, "sum"),
    ],
)
def test_nearest_tokens_by_the_cosine_of_every_row(engine, ids, weights, combine):
    e, w = table(engine), np.array(weights)
    rows = e[ids]
    if combine == "sum":
        mixed = w @ rows
    elif combine == "max":
        mixed = rows.max(0)
    else:
        one, two = rows / np.linalg.norm(rows, axis=1)[:, None]
        angle = np.arccos(one @ two)
        mixed = np.sin(0.7 * angle) * one + np.sin(0.3 * angle) * two
    cosines = np.array([mixed @ row / np.sqrt((mixed @ mixed) * (row @ row)) for row in e])
    near = engine.nearest(Mixture(np.array(ids), w.astype(np.float32), combine), 5)
    assert [token for token, _ in near] == np.argsort(-cosines)[:5].tolist()
    assert [cosine for _, cosine in near] == pytest.approx(np.sort(cosines)[:-6:-1], abs=2e-6)
    if len(ids) == 1:
        assert near[0] == (7, pytest.approx(1))


def test_nearest_tokens_of_no_direction_and_of_no_token(engine):
    ids, huge = np.array([7, 30, 9]), np.array([3e38, -3e38, 1.0], np.float32)
    assert engine.nearest(Mixture(ids, huge), 3) == []
    with pytest.raises(BadShape):
        engine.nearest(Mixture.token(engine.info.vocab), 3)


def test_noise_is_keyed_and_of_its_size(engine):
    e, token = table(engine), np.array([7])
    noisy = [Mixture(token, np.ones(1, np.float32), noise=GaussianNoise(0.5, 3, step)) for step in range(400)]
    again = engine.norm_ratios(noisy)
    assert np.array_equal(again, engine.norm_ratios(noisy))
    mean = np.linalg.norm(e, axis=1).mean()
    # E |e + n|^2 = |e|^2 + H sigma^2, sigma = 0.5 x the root mean square of all coordinates
    expected = (e[7] @ e[7]) + 0.25 * (e**2).mean() * e.shape[1]
    assert ((again * mean) ** 2).mean() == pytest.approx(expected, rel=0.1)


def test_an_arc_of_equal_embeddings_is_that_embedding():
    rows = np.tile(np.linspace(-1, 1, 8, dtype=np.float32), (2, 1))
    fed = Mixture(np.array([1, 2]), np.array([0.25, 0.75]), "slerp")
    assert combine(fed, rows) == pytest.approx(rows[0], rel=1e-6)
