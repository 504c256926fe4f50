"""Distributions against an independent float64 reference in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from superpose.engine import EngineError, Readout
from superpose.engines import llamacpp_readout, readout, torch_engine_readout
from superpose.types import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = 1e-6  # of probabilities in float32


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def belief(logits, temperature):
    """The tempered distribution [V] in float64; at temperature 0 its limit, with the lowest id of equals."""
    if temperature == 0:
        return np.eye(len(logits))[np.argmax(logits)]
    return softmax(logits.astype(np.float64) / temperature)


def entropy(p):
    return -(p[p > 0] * np.log(p[p > 0])).sum()


def filtered(p, filters):
    """Top-k, then top-p of what is left, then min-p; renormalised."""
    order = np.argsort(-p, kind="stable")
    kept = np.zeros_like(p)
    kept[order[: filters.top_k or len(p)]] = 1
    q = p * kept / (p * kept).sum()
    if filters.top_p < 1:
        order = np.argsort(-q, kind="stable")
        count = int(np.argmax(np.cumsum(q[order]) >= filters.top_p)) + 1
        kept[order[count:]] = 0
    q = p * kept
    if filters.min_p > 0:
        q[q < filters.min_p * q.max()] = 0
    return q / q.sum()


def verify(logits, ask, d):
    p, raw = belief(logits, ask.temperature), softmax(logits.astype(np.float64))
    assert d.ids.dtype == np.int32 and d.probs.dtype == np.float32
    assert len(set(d.ids.tolist())) == len(d.ids) == len(d.probs)
    assert np.isfinite(d.probs).all()
    assert d.probs == pytest.approx(p[d.ids], abs=CLOSE)
    assert (np.diff(d.probs) <= 0).all()
    assert d.ids[0] == np.argmax(logits)  # the first of equals
    left_out = np.delete(p, d.ids)
    assert left_out.size == 0 or left_out.max() <= p[d.ids].min() + CLOSE
    assert d.tail == pytest.approx(left_out.sum(), abs=1e-5)
    assert d.tail == 0.0 or len(d.ids) < len(p)
    assert d.entropy == pytest.approx(entropy(p), abs=1e-4)
    assert d.entropy_raw == pytest.approx(entropy(raw), abs=1e-4)
    assert d.entropy >= 0 and d.entropy_raw >= 0
    wanted = min(ask.support or len(p), len(p))
    assert len(d.ids) >= wanted
    assert p[d.ids].sum() >= ask.mass - 1e-5
    if len(d.ids) > wanted:  # no more than the mass needs
        assert p[d.ids[:-1]].sum() <= ask.mass + 1e-5
    q = filtered(p, ask.filters)
    before, after = q[: d.drawn].sum(), q[: d.drawn + 1].sum()
    assert before - 1e-5 <= ask.u <= after + 1e-5
    assert p[d.drawn] > 0
    assert d.drawn_prob == pytest.approx(p[d.drawn], abs=CLOSE)


def on(share, kind):
    """A filter's value, or the one that switches it off."""
    return st.one_of(st.just(kind), share)


asks = st.builds(
    Readout,
    temperature=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.05, 5)),
    support=st.integers(0, 40),
    filters=st.builds(Sampling, top_p=on(st.floats(0.05, 1), 1.0), top_k=on(st.integers(1, 60), 0),
                      min_p=on(st.floats(0, 0.5), 0.0)),
    u=st.floats(0, 1, exclude_max=True),
    mass=on(st.floats(0.01, 0.999), 0.0),
)  # fmt: skip


def near_a_tie(logits, ask):
    """Whether rounding may decide otherwise: a filter's edge between tokens of (nearly) equal probability."""
    p = belief(logits, ask.temperature)
    order = np.argsort(-p, kind="stable")
    share = np.cumsum(p[order])
    whole = share[min(ask.filters.top_k or len(p), len(p)) - 1]
    edges = [share / whole - ask.filters.top_p, p / p.max() - ask.filters.min_p, share - ask.mass]
    cuts = [ask.filters.top_k, int(np.count_nonzero(filtered(p, ask.filters)))]
    return any(np.abs(edge).min() < 1e-5 for edge in edges) or any(
        p[order[cut - 1]] - p[order[cut]] < CLOSE for cut in cuts if 0 < cut < len(p)
    )


@pytest.fixture(scope="module", params=["torch", "numpy"])
def read(request):
    """The readout of each engine that has one."""
    if request.param == "torch":
        return torch_engine_readout.read
    return lambda logits, asks: llamacpp_readout.Reader(logits.shape[1]).read(logits.float().numpy(), asks)


@pytest.mark.parametrize("logits", [[-0.0, 0.0, -0.0], [0.0, -0.0, 0.0], [-1.0, -0.0, 0.0]])
def test_zeros_of_either_sign_are_equal(read, logits):
    [d] = read(torch.tensor([logits]), [Readout(0.0, 0)])
    assert d.ids.tolist() == sorted(range(3), key=lambda token: -logits[token])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(asks, min_size=1, max_size=5),
    st.sampled_from([3, 60, 256, 700]),
    st.integers(0, 10**6),
    st.data(),
)
def test_lanes_that_ask_differently_each_get_their_answer(read, given_asks, vocabulary, seed, data):
    random = np.random.default_rng(seed)
    logits = random.normal(0, data.draw(st.sampled_from([0.1, 3.0, 30.0])), (len(given_asks), vocabulary))
    if data.draw(st.booleans()):
        logits[random.random(logits.shape) < 0.3] = -np.inf
        logits[:, 1] = 0.5
    if data.draw(st.booleans()):
        logits = np.round(logits)  # many equals
    logits = logits.astype(np.float32)
    for row, ask, d in zip(logits, given_asks, read(torch.from_numpy(logits), given_asks), strict=True):
        if not near_a_tie(row, ask):
            verify(row, ask, d)


@pytest.mark.parametrize("few,many", [(4, 16), (1, 2), (256, 4096)])
def test_reaching_further_than_was_tried_first(read, monkeypatch, few, many):
    monkeypatch.setattr(readout, "FEW", few)
    monkeypatch.setattr(readout, "MANY", many)
    logits = np.random.default_rng(0).normal(0, 1, (4, 5000)).astype(np.float32)
    given_asks = [
        Readout(1.0, 3, u=0.7, mass=0.95),
        Readout(0.7, 3, Sampling(top_p=0.97), u=0.2),
        Readout(1.3, 5, Sampling(min_p=0.001), u=0.9),
        Readout(1.0, 2, Sampling(top_k=40), u=0.5),
    ]
    for row, ask, d in zip(logits, given_asks, read(torch.from_numpy(logits), given_asks), strict=True):
        verify(row, ask, d)


def test_whole_vocabulary_is_normalised(read):
    logits = np.random.default_rng(1).normal(0, 4, (2, 152_000)).astype(np.float32)
    for temperature in (0.3, 1.0, 2.5):
        for row, d in zip(logits, read(torch.from_numpy(logits), [Readout(temperature, 0)] * 2), strict=True):
            p = belief(row, temperature)
            assert float(d.probs.sum(dtype=np.float64)) == pytest.approx(1, abs=2e-6)
            assert d.tail == 0.0
            assert np.abs(d.probs - p[d.ids]).max() < 1e-7
            assert d.entropy == pytest.approx(entropy(p), abs=1e-4)


def test_temperature_zero_is_the_lowest_id_of_the_highest(read):
    logits = torch.full((1, 100), -1.0)
    logits[0, [70, 30, 50]] = 2.0
    for support in (1, 2, 100, 0):
        (d,) = read(logits, [Readout(0.0, support, u=0.99)])
        assert (d.drawn, d.drawn_prob, d.entropy, d.tail) == (30, 1.0, 0.0, 0.0)
        assert d.ids[:3].tolist() == [30, 50, 70][: len(d.ids)]
        assert d.probs.tolist() == [1.0] + [0.0] * (len(d.ids) - 1)
    assert d.entropy_raw == pytest.approx(entropy(softmax(logits[0].double().numpy())), abs=1e-5)
    (d,) = read(logits, [Readout(0.0, 1, mass=0.9)])
    assert d.ids.tolist() == [30]


@pytest.mark.parametrize("temperature", [1e-9, 1e-6, 1e-3, 1e6])
def test_extreme_temperatures_stay_finite(read, temperature):
    logits = torch.tensor([[1.0, 2.0, -torch.inf, 2.0 - 1e-7, -50.0, -1e35]])
    (d,) = read(logits, [Readout(temperature, 0, u=0.999)])
    assert np.isfinite([*d.probs, d.entropy, d.entropy_raw, d.drawn_prob]).all()
    assert d.probs[d.ids == 2] == 0
    assert d.drawn != 2


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_the_ends_of_the_random_number_hit_possible_tokens(read, u):
    logits = torch.full((30, 1000), -torch.inf)
    logits[:, 300:700] = torch.randn(30, 400, generator=torch.Generator().manual_seed(0))
    for filters in (Sampling(), Sampling(top_k=10), Sampling(top_p=0.5)):
        for d in read(logits, [Readout(0.7, 4, filters, u=u)] * 30):
            assert 300 <= d.drawn < 700
            assert d.drawn_prob > 0
    assert {d.drawn for d in read(logits, [Readout(0.7, 4, u=u)] * 30)} == {300 if u == 0 else 699}


def test_each_filter_sees_what_the_one_before_it_kept(read):
    logits = torch.tensor([[0.4, 0.2, 0.2, 0.1, 0.1]]).log()
    ask = Readout(1.0, 1, Sampling(top_p=0.6, top_k=2), u=0.9)  # 0.4 is two thirds of 0.4 and 0.2
    assert read(logits, [ask])[0].drawn == 0
    assert read(logits, [ask._replace(filters=Sampling(top_p=0.6, top_k=3))])[0].drawn == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(read, bad):
    logits = torch.zeros(3, 50)
    logits[1, 20] = bad
    with pytest.raises(EngineError, match="finite"):
        read(logits, [Readout()] * 3)
    with pytest.raises(EngineError, match="finite"):
        read(torch.full((1, 50), -torch.inf), [Readout()])


def test_half_precision_logits_and_their_ties(read):
    logits = torch.randn(2, 500, generator=torch.Generator().manual_seed(3)).mul(3).bfloat16()
    answers = read(logits, [Readout(0.9, 30, u=0.4)] * 2)
    for row, d in zip(logits.float().numpy(), answers, strict=True):
        verify(row, Readout(0.9, 30, u=0.4), d)
        equal = np.diff(d.probs) == 0
        assert (np.diff(d.ids)[equal] > 0).all()


def test_logits_are_left_as_they_are(read):
    logits = torch.randn(2, 300)
    before = logits.clone()
    read(logits, [Readout(0.0, 0), Readout(0.5, 4)])
    assert torch.equal(before, logits)


def test_draws_follow_the_distribution(read):
    logits = np.random.default_rng(5).normal(0, 2, 40).astype(np.float32)
    p, u = belief(logits, 0.8), (np.arange(4000) + 0.5) / 4000
    drawn = [d.drawn for d in read(torch.from_numpy(np.tile(logits, (4000, 1))), [Readout(0.8, 1, u=x) for x in u])]
    assert np.bincount(drawn, minlength=40) / 4000 == pytest.approx(p, abs=5e-4)


@pytest.mark.parametrize("vocabulary", [49_152, 151_936, 50_257])
def test_no_bit_depends_on_the_number_of_rows_or_threads(read, vocabulary):
    logits = np.random.default_rng(0).normal(0, 4, (5, vocabulary)).astype(np.float32)
    asks = [Readout(temperature=t, support=16, u=0.7) for t in (0.6, 1.0, 0.8, 1.3, 1.0)]
    threads = torch.get_num_threads()
    told = []
    for rows, count in [(1, 1), (1, 2), (2, 2), (5, 1), (5, 2)]:
        torch.set_num_threads(count)
        try:
            parts = [(logits[at : at + rows], asks[at : at + rows]) for at in range(0, 5, rows)]
            told.append([d for part, asked in parts for d in read(torch.from_numpy(part), asked)])
        finally:
            torch.set_num_threads(threads)
    for other in told[1:]:
        for a, b in zip(told[0], other, strict=True):
            assert (a.entropy, a.entropy_raw, a.drawn, a.drawn_prob, a.tail) == (
                b.entropy, b.entropy_raw, b.drawn, b.drawn_prob, b.tail,
            )  # fmt: skip
            assert np.array_equal(a.probs, b.probs)
