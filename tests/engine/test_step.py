"""A step as one function of tensors: padded to few shapes, without a word to the host, and replayed from a trace.

No GPU is needed: what a CUDA graph demands of a step is shown on a CPU by tracing it into a program in which all that
is not a tensor is frozen, and by running that program in its place.
"""

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from superpose.engine import Readout
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
    count = int(random.choice([1, 2, 5]))
    ids, weights = random.choice(250, count, replace=False), random.dirichlet(np.ones(count))
    noise = GaussianNoise(0.1, seed, 1) if seed % 3 == 0 else None
    return Mixture(ids.astype(np.int32), weights.astype(np.float32), noise=noise)


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
        assert belief.ids.tolist() == wanted.ids.tolist()
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
    engine._steps.padded = True
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


def test_a_step_that_asks_the_host_is_found_out_and_runs_uncaptured(build, engine_of, traced):
    engine = padded(engine_of(build("qwen2"), context=400), graphs=True)
    inner = engine._model.model.norm.forward
    engine._model.model.norm.forward = lambda x: inner(x) if float(x.sum()) < 1e9 else x  # a word to the host
    agree(told(engine), told(engine_of(build("qwen2"), context=400)))
    assert "steps run as CUDA graphs: no, one operation at a time (" in engine._steps.words()[0]
    assert len(traced) == 1
