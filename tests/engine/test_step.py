"""A step as one function of tensors: padded to few shapes, without a word to the host, and replayed from a trace.

No GPU is needed: what a CUDA graph demands of a step is shown on a CPU by tracing it into a program in which all that
is not a tensor is frozen, and by running that program in its place. On a CPU itself steps are recorded programs: with
the same bits, never a frozen choice, and nothing that outlives the engine.
"""

import gc
import weakref

import numpy as np
import pytest
import torch
import transformers
from torch.fx.experimental.proxy_tensor import make_fx

from superpose.engine import BadShape, Readout
from superpose.engines.pace import Pace
from superpose.engines.torch_engine_readout import Rows
from superpose.engines.torch_engine_step import Graphs, Held, Seen
from superpose.types import GaussianNoise, Mixture, Sampling

pytestmark = pytest.mark.usefixtures("one_thread")
ASKS = [
    Readout(temperature=0.8, support=8, u=0.3),
    Readout(temperature=1.0, support=300, u=0.9),
    Readout(temperature=0.0, support=1, u=0.5),
    Readout(temperature=1.3, support=4, filters=Sampling(top_p=0.9), u=0.7),
]


def tokens(seed, count):
    return np.random.default_rng(seed).integers(3, 250, count).astype(np.int32)


def mixture(seed):
    random = np.random.default_rng(seed)
    count = int(random.choice([1, 2, 5, 32, 33]))
    ids, weights = random.choice(250, count, replace=False), random.dirichlet(np.ones(count))
    noise = GaussianNoise(0.1, seed, 1) if seed % 5 == 0 else None
    combine = "max" if seed % 4 == 1 else "slerp" if count == 2 else "sum"
    rescale = "expected_norm" if seed % 7 == 1 else None
    return Mixture(ids.astype(np.int32), weights.astype(np.float32), combine, rescale=rescale, noise=noise)


def told(engine):
    """Logits and beliefs of lanes that come, pause, grow over a bucket and go."""
    lanes, found = [engine.open() for _ in range(4)], []
    for seed, lane in enumerate(lanes):
        engine.prefill(lane, tokens(seed, 3 + 90 * seed), ASKS[0])
    for step, chosen in enumerate([[0, 1, 2, 3], [2], [3, 1], [0, 2, 3], [1], [0, 1, 2, 3]] * 2):
        asks = [ASKS[(lane + step) % 4] for lane in chosen]
        beliefs = engine.step([lanes[i] for i in chosen], [mixture(10 * step + i) for i in chosen], asks)
        found += zip(engine.logits(), beliefs, strict=True)
    engine.rollback(lanes[3], 250)
    other = engine.fork(lanes[3], 250) if engine.close(lanes[0]) is None else None
    beliefs = engine.step([other, lanes[3]], [mixture(1)] * 2, ASKS[:2])
    found += zip(engine.logits(), beliefs, strict=True)
    for lane in (other, *lanes[1:]):
        engine.close(lane)
    return found


def agree(one, other):
    for (logits, belief), (expected, wanted) in zip(one, other, strict=True):
        assert np.abs(logits - expected).max() < 1e-4
        assert len(belief.ids) == len(set(belief.ids.tolist())) == len(wanted.ids)
        assert np.abs(expected[belief.ids] - expected[wanted.ids]).max() < 1e-5  # else in another order
        assert belief.probs == pytest.approx(wanted.probs, abs=1e-5)
        assert belief.drawn == wanted.drawn
        assert belief.entropy == pytest.approx(wanted.entropy, abs=1e-4)


class Trace:
    """Stands for a CUDA graph: the operations of one step, all but what they read from `held` frozen as it was."""

    def __init__(self, function, held):
        self._held = held
        self._program = make_fx(lambda *parts: tuple(function(Held(*parts))))(*held)
        self.seen = Seen(*self._program(*held))

    def replay(self):
        for kept, new in zip(self.seen, self._program(*self._held), strict=True):
            kept.copy_(new)


@pytest.fixture
def traced(monkeypatch):
    made = []

    def capture(graphs, shape, function, held):
        made.append(shape)
        trace = Trace(function, held)
        graphs._made[shape] = trace, trace.seen

    monkeypatch.setattr(Graphs, "_capture", capture)
    return made


def padded(engine, graphs=False):
    engine._steps.padded, engine._steps._recorded = True, None
    engine._steps._graphs = Graphs(torch.device("cpu")) if graphs else None
    return engine


def test_padded_steps_give_the_same_numbers(name, build, engine_of):
    expected = told(engine_of(build(name), context=400))
    agree(told(padded(engine_of(build(name), context=400))), expected)


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_a_frozen_trace_of_a_step_serves_all_steps_of_its_shape(name, build, engine_of, traced):
    expected = told(engine_of(build(name), context=400))
    engine = padded(engine_of(build(name), context=400), graphs=True)
    agree(told(engine), expected)
    assert len(traced) == len(set(traced)) <= 6  # 14 steps: of 1, 2 or 4 rows, over 256 or 400 columns
    assert "steps run as CUDA graphs: yes" in engine._steps.words()[0]


def test_a_captured_step_mixes_what_it_is_fed(build, engine_of, traced):
    engine, plain = (engine_of(build("qwen2"), context=64) for _ in range(2))
    padded(engine, graphs=True)
    lanes = [(made.open(), made.open()) for made in (engine, plain)]
    looked_up = []
    for (lane, other), made in zip(lanes, (engine, plain), strict=True):
        made.prefill(lane, tokens(1, 5), ASKS[0])
        made.prefill(other, tokens(2, 3), ASKS[1])
    engine._model.get_input_embeddings().register_forward_hook(lambda *_: looked_up.append(1))
    many = Mixture(np.arange(32, dtype=np.int32), np.full(32, 1 / 32))
    few = [Mixture(many.ids[:3], np.array([0.5, 0.75, -0.25])), Mixture.token(9)]
    highest = Mixture(many.ids[7:12], np.full(5, 0.2), "max")
    for fed in (few, [many, highest], few[::-1]):
        beliefs, expected = (made.step(own, fed, ASKS[:2]) for own, made in zip(lanes, (engine, plain), strict=True))
        agree(zip(engine.logits(), beliefs, strict=True), zip(plain.logits(), expected, strict=True))
    assert len(traced) == len(looked_up) == 1
    wide = Mixture(np.arange(33, dtype=np.int32), np.full(33, 1 / 33))
    engine.step(lanes[0], [wide, few[0]], ASKS[:2])
    assert len(looked_up) == 2  # before the step


def test_a_padded_step_is_made_in_the_models_own_dtype_with_zeros_behind_its_lanes(build, engine_of, monkeypatch):
    engine = padded(engine_of(build("qwen2").to(torch.bfloat16), context=64))
    lanes, fed = [engine.open() for _ in range(4)], []
    for lane in lanes:
        engine.prefill(lane, tokens(lane, 5), ASKS[0])
    own = engine._steps._forward
    monkeypatch.setattr(engine._steps, "_forward", lambda given, *more: fed.append(given.clone()) or own(given, *more))
    noisy = Mixture(np.arange(3, dtype=np.int32), np.full(3, 1 / 3), noise=GaussianNoise(0.5, 1, 1))
    engine.step(lanes, [noisy] * 4, ASKS)
    engine.step(lanes[:3], [Mixture.token(4)] * 3, ASKS[:3])
    engine.step(lanes, [Mixture.token(4)] * 4, ASKS)
    engine.step(lanes[:3], [noisy] * 3, ASKS[:3])
    assert [given.dtype for given in fed] == [torch.bfloat16] * 4
    assert [[bool(row.any()) for row in given] for given in fed] == [[True] * 4, [True] * 3 + [False]] * 2


def test_a_full_lane_that_waits_is_not_harmed(build, engine_of):
    engine = padded(engine_of(build("qwen2"), context=64))
    full, *others = lanes = [engine.open() for _ in range(4)]
    for lane in lanes:
        engine.prefill(lane, tokens(lane, 64 if lane == full else 5), ASKS[0])
    rows = engine._slots.row

    def cells():
        return [stored[rows[full], :, :64].clone() for stored in engine._slots.buffers()]

    before = cells()
    for _ in range(3):  # three lanes in a step of four rows
        engine.step(others, [Mixture.token(4)] * 3, ASKS[:3])
    assert rows[full] == 3
    assert all(torch.equal(one, other) for one, other in zip(before, cells(), strict=True))


def test_what_is_done_meanwhile_comes_after_a_pass_is_under_way_and_before_it_is_waited_for(
    build, engine_of, monkeypatch
):
    plain, engine = engine_of(build("qwen2"), context=64), padded(engine_of(build("qwen2"), context=64))
    order, expected = [], []
    for made in (plain, engine):
        lane = made.open()
        made.prefill(lane, tokens(1, 5), ASKS[0])
        expected.append(made.step([lane], [Mixture.token(4)], ASKS[:1]))
        made.rollback(lane, 5)
    run, fetch = engine._steps.run, Rows.fetch
    monkeypatch.setattr(engine._steps, "run", lambda *given: order.append("run") or run(*given))
    monkeypatch.setattr(Rows, "fetch", lambda *given: order.append("wait") or fetch(*given))
    ratio = plain.norm_ratios([Mixture.token(4)])
    plain.meanwhile(lambda: order.append("at once"))
    assert order == ["at once"]

    fed = Mixture.token(4)
    engine.meanwhile(lambda: order.append(engine.norm_ratios([fed]).tolist()))
    engine.step([lane], [fed], ASKS[:1])
    assert order[1:] == ["run", ratio.tolist(), "wait"]

    def fails():
        raise MemoryError("no memory for a text")

    engine.rollback(lane, 5)
    engine.meanwhile(fails)
    with pytest.raises(MemoryError, match="a text"):  # which is not the device's
        engine.step([lane], [fed], ASKS[:1])
    assert engine.length(lane) == 5
    assert order[-2:] == ["run", "wait"]
    engine.meanwhile(fails)
    with pytest.raises(BadShape):
        engine.step([lane], [], [])
    again = engine.step([lane], [fed], ASKS[:1])  # what was to be done beside the refused one is forgotten
    assert [belief.drawn for belief in again] == [belief.drawn for belief in expected[0]]
    assert again[0].probs == pytest.approx(expected[1][0].probs, abs=0)


def test_a_step_that_asks_the_host_is_found_out_and_runs_uncaptured(build, engine_of, traced):
    engine = padded(engine_of(build("qwen2"), context=400), graphs=True)
    inner = engine._model.model.norm.forward
    engine._model.model.norm.forward = lambda x: inner(x) if float(x.sum()) < 1e9 else x  # a word to the host
    agree(told(engine), told(engine_of(build("qwen2"), context=400)))
    assert "steps run as CUDA graphs: no, one operation at a time (" in engine._steps.words()[0]
    assert len(traced) == 1


# Recorded programs

YES = "steps run as recorded programs: yes, with the same bits"


def plainly(engine):
    """The engine with steps of one operation at a time."""
    engine._steps._recorded = None
    return engine


def counted(engine):
    """How often the model itself is called from now on."""
    calls = []
    engine._model.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def same(one, other):
    for (logits, belief), (expected, wanted) in zip(one, other, strict=True):
        assert np.array_equal(logits, expected)
        assert belief.ids.tolist() == wanted.ids.tolist() and belief.drawn == wanted.drawn


def test_a_model_that_writes_into_what_it_is_fed_spoils_nothing(engine_of):
    shape = dict(vocab_size=300, n_embd=48, dff=64, n_layer=2, n_head=4, n_positions=128)
    engine = engine_of(transformers.CTRLLMHeadModel(transformers.CTRLConfig(**shape)), context=96)
    assert engine.info.checks[-1] == YES
    lane, fed, found = engine.open(), mixture(1), []
    engine.prefill(lane, tokens(1, 9), ASKS[0])
    for _ in range(3):
        engine.step([lane], [fed], [ASKS[0]])
        found.append(engine.logits())
        engine.rollback(lane, 9)
    assert all(np.array_equal(found[0], again) for again in found[1:])


def test_programs_give_the_same_bits_for_lanes_that_come_wait_grow_and_go(name, build, engine_of):
    engine = engine_of(build(name), context=400)
    assert engine.info.checks[-1] == YES
    same(told(engine), told(plainly(engine_of(build(name), context=400))))
    assert engine._steps.words() == (YES,)


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_model_itself_runs_only_once_for_so_many_columns(lanes, build, engine_of):
    engine = engine_of(build("qwen2"), context=400)
    opened = [engine.open() for _ in range(lanes)]
    for lane in opened:
        engine.prefill(lane, tokens(lane, 100), ASKS[0])
    calls, passes = counted(engine), []
    engine._steps._recorded._proved.clear()
    for _ in range(2):
        for step in range(60):  # over 128 and 192 columns
            engine.step(opened, [Mixture.token(step)] * lanes, ASKS[:1] * lanes)
            passes.append(engine._steps.proved())
        for lane in opened:
            engine.rollback(lane, 100)
    assert len(calls) == sum(passes) == 2  # which say so, for they take longer


def test_a_lane_may_begin_with_a_step(build, engine_of):
    found = []
    for engine in (engine_of(build("qwen2")), plainly(engine_of(build("qwen2")))):
        lane = engine.open()
        for step in range(3):
            engine.step([lane], [Mixture.token(5 + step)], ASKS[:1])
            found.append(engine.logits())
        if engine._steps._recorded is not None:
            assert engine._steps.words() == (YES,)
    assert np.array_equal(found[:3], found[3:])


def test_numbers_that_are_none_end_no_recording(build, engine_of):
    engine = engine_of(build("qwen2"))
    lane = engine.open()
    engine.prefill(lane, tokens(0, 60), ASKS[0])
    engine._blender.mixtures = lambda given: torch.full((len(given), engine.info.width), torch.nan)
    for _ in range(8):  # beyond the columns that were proved
        with pytest.raises(Exception, match="not finite"):
            engine.step([lane], [Mixture.token(5)], ASKS[:1])
        engine._slots.length[lane] += 1
    assert engine._steps.words() == (YES,)


CHOICES = {
    "a branch": lambda x: 2 * x if float(x.sum()) > 0 else x,
    "as many as there are": lambda x: x + 0 * len((x > 0.5).nonzero()),
    "a list": lambda x: x * (1 if x.tolist() else 2),
    "an array": lambda x: x * (1 if x.numpy().size else 2),
    "a mask": lambda x: x + 0 * x[x > 0.5].sum(),
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_model_that_decides_by_numbers_is_not_recorded(choice, build, engine_of):
    found = []
    for plain in (False, True):
        model = build("qwen2")
        inner = model.model.norm.forward
        model.model.norm.forward = lambda x, inner=inner: choice(inner(x))
        engine = engine_of(model, context=400)
        says = engine.info.checks[-1]
        assert says.startswith("steps run as recorded programs: no, one operation at a time (what it does depends on")
        found.append(told(plainly(engine) if plain else engine))
    same(*found)


def test_a_model_that_cannot_be_recorded_and_does_not_say_why_runs_as_it_is(build, engine_of):
    model = build("qwen2")
    inner = model.model.norm.forward

    def forward(x):
        if torch.jit.is_tracing():
            raise AssertionError
        return inner(x)

    model.model.norm.forward = forward
    engine = engine_of(model, context=400)
    assert engine.info.checks[-1] == YES.replace(
        "yes, with the same bits", "no, one operation at a time (AssertionError)"
    )
    same(told(engine), told(plainly(engine_of(build("qwen2"), context=400))))


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_program_that_writes_elsewhere_is_found_out(lanes, build, engine_of):
    engine = engine_of(build("qwen2"), context=400)
    recorded, opened = engine._steps._recorded, [engine.open() for _ in range(lanes)]
    for lane in opened:
        engine.prefill(lane, tokens(lane, 70), ASKS[0])
    own = recorded._run

    def astray(given):
        fed, positions, masks, (first, last, seen, start, stop, *more), read = given
        return own((fed, positions, masks, [first, last, seen, start + 1, stop + 1, *more[:-1], more[-1] + 1], read))

    recorded._run = astray
    recorded._proved.clear()
    engine.step(opened, [Mixture.token(5)] * lanes, ASKS[:1] * lanes)
    assert "(a recording gave other bits)" in engine._steps.words()[0]


def test_steps_that_are_proved_tell_nothing_of_how_fast_threads_are(build, engine_of):
    engine = engine_of(build("qwen2"))
    lane = engine.open()
    engine.prefill(lane, tokens(0, 5), ASKS[0])
    engine._pace = Pace(2, lambda count: None, adapt=True)
    engine._steps._recorded._proved.clear()
    for known in (0, 1):
        engine.step([lane], [Mixture.token(5)], ASKS[:1])
        assert len(engine._pace._seconds) == known


def test_a_recording_that_gives_other_bits_is_not_used(build, engine_of, monkeypatch):
    engine = engine_of(build("qwen2"), context=400)
    own = engine._steps._recorded._run
    monkeypatch.setattr(engine._steps._recorded, "_run", lambda given: own(given) * (1 + 1e-6))
    engine._steps._recorded._proved.clear()
    same(told(engine), told(plainly(engine_of(build("qwen2"), context=400))))
    assert "no, one operation at a time (a recording gave other bits)" in engine._steps.words()[0]


def test_a_program_that_fails_gives_way_to_the_pass_itself(build, engine_of):
    engine = engine_of(build("qwen2"), context=400)
    engine._steps._recorded._opaque.append(torch.zeros(1))  # one more than there were
    same(told(engine), told(plainly(engine_of(build("qwen2"), context=400))))
    assert "no, one operation at a time" in engine._steps.words()[0]


def test_memory_that_ran_out_is_no_fault_of_the_recording(build, engine_of, monkeypatch):
    engine = engine_of(build("qwen2"))

    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    lane = engine.open()
    engine.prefill(lane, tokens(0, 5), ASKS[0])
    engine._steps._recorded._proved.clear()  # so that it runs out while a step is proved, whose cells are zeros then
    with monkeypatch.context() as during:
        during.setattr(engine._steps._recorded, "_run", full)
        with pytest.raises(Exception, match="memory of cpu is used up"):
            engine.step([lane], [Mixture.token(5)], ASKS[:1])
    engine.step([lane], [Mixture.token(5)], ASKS[:1])
    other = plainly(engine_of(build("qwen2")))
    same_lane = other.open()
    other.prefill(same_lane, tokens(0, 5), ASKS[0])
    other.step([same_lane], [Mixture.token(5)], ASKS[:1])
    assert np.array_equal(engine.logits(), other.logits())
    assert engine._steps.words() == (YES,)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_weights_are_freed_with_the_engine(kind, build, engine_of):
    model = build("qwen2").to(getattr(torch, kind))
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    engine = engine_of(model)
    assert engine.info.checks[-1] == YES
    engine.release()
    del engine, model
    gc.collect()
    assert not [weight for weight in weights if weight() is not None]
