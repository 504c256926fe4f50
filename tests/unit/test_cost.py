"""What keeps a step cheap gives the numbers of the plain way; and the price of a whole vocabulary, against numpy's."""

import time

import numpy as np
import pytest
from numpy.random import Philox

from superpose import rng
from superpose.engines.toy import END, ByteTokenizer
from superpose.strategies import parts
from superpose.strategy import Setting, Step, make_strategy
from superpose.types import Distribution, Mixture, Sampling

VOCABULARY = 152_000
SETTING = Setting(
    seed=7, temperature=0.8, T_e=50, T_total=10**6, filters=Sampling(), end_marker=(5,), end_of_text=frozenset({END}),
    encode=ByteTokenizer().encode_template, text=lambda token: "word",
)  # fmt: skip


def whole():
    """A belief over a whole vocabulary, as flat as models are when they are unsure."""
    random = np.random.default_rng(0)
    z = np.sort(random.normal(0, 3, VOCABULARY))[::-1]
    p = np.exp(z - z[0])
    p = (p / p.sum()).astype(np.float32)
    ids = random.permutation(VOCABULARY).astype(np.int32)
    return Distribution(ids, p, 0.0, 5.0, 5.0, int(ids[1]), float(p[1]))


@pytest.mark.parametrize("count", [1, 3, 64, 65, 5000])
@pytest.mark.parametrize("order", ["likeliest first", "any", "likeliest last", "ties"])
def test_the_heaviest_are_those_of_a_stable_sort(count, order):
    random = np.random.default_rng(count)
    weights = np.sort(random.dirichlet(np.full(count, 0.3)))[::-1]
    if order == "any":
        weights = random.permutation(weights)
        weights[random.random(count) < 0.3] *= -1
    elif order == "likeliest last":
        weights = weights[::-1]
    elif order == "ties":
        weights = random.integers(1, 4, count).astype(float)
    fed = Mixture(np.arange(count, dtype=np.int32), (weights / weights.sum()).astype(np.float32))
    expected = np.argsort(-np.abs(fed.weights), kind="stable")[:64]
    assert fed.heaviest(64).tolist() == expected.tolist()


@pytest.mark.parametrize("wanted", [0.5, 1.0, 2.0])
def test_float32_is_enough_to_retemper_a_whole_vocabulary(wanted):
    d = whole()
    ids, p = parts.retempered(parts.vocabulary(d), 0.8, wanted)
    exact = d.probs.astype(np.float64) ** (0.8 / wanted)
    exact /= exact.sum()
    assert np.array_equal(ids, d.ids[: len(ids)])
    assert p == pytest.approx(exact[: len(p)], rel=1e-5, abs=1e-12)
    assert exact[len(p) :].sum() < 2e-7  # what was left out


def test_places_are_drawn_as_numpy_draws_them():
    p = np.random.default_rng(1).dirichlet(np.ones(30))
    for seed in range(200):
        ours = parts.drawn(p, 5, True, rng.generator(seed, 0, "weights"))
        assert ours.tolist() == rng.generator(seed, 0, "weights").choice(30, 5, True, p).tolist()


def test_a_generator_is_philox_of_its_key():
    seed = 2**53 - 1
    expected = np.random.Generator(Philox(key=[seed, 9 << 8 | 2])).random(100)
    assert np.array_equal(rng.generator(seed, 9, "weights").random(100), expected)


def test_a_generator_starts_anew_whatever_was_drawn_before():
    def draws(of):
        return [of.integers(0, 9, 3, dtype=np.uint32).tolist(), of.standard_gamma([0.1, 0.9]).tolist()]

    expected = draws(np.random.Generator(Philox(key=[3, 4 << 8 | 2])))
    rng.generator(5, 1, "noise").integers(0, 9, 1, dtype=np.uint32)  # leaves half a number in the buffer
    assert draws(rng.generator(3, 4, "weights")) == expected
    assert draws(rng.generator(3, 4, "weights")) == expected


def test_every_subset_is_equally_likely():
    c = parts.Candidates(np.arange(5, dtype=np.int32), np.array([0.4, 0.3, 0.15, 0.1, 0.05]))
    picked = [tuple(parts.random_subset(c, 2, rng.generator(s, 0, "weights")).ids.tolist()) for s in range(5000)]
    counts = {subset: picked.count(subset) for subset in set(picked)}
    assert len(counts) == 10 and all(a < b for a, b in counts)  # all pairs, likeliest first
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 27.9  # chi-square, 9 degrees, 0.1 %


@pytest.mark.parametrize(
    "name", ["non_uniform", "dirichlet", "multiplex", "random_subset", "selar", "stochastic_soft_thinking"]
)
def test_a_few_candidates_cost_microseconds(name):
    """At most nine times numpy's softmax of them, which is 4 to 8 microseconds; the dearest, dirichlet, is at six."""
    random = np.random.default_rng(0)
    p = np.sort(random.dirichlet(np.ones(64)))[::-1].astype(np.float32)
    d = Distribution(np.arange(64, dtype=np.int32), p, 0.0, 3.0, 3.0, 1, float(p[1]))
    strategy = make_strategy({"name": name, **({"k": 64} if name in ("non_uniform", "dirichlet") else {})})
    mix, scores = strategy.begin(SETTING), np.log(p)
    ours, numpys = [], []
    for _ in range(300):
        begun = time.perf_counter()
        np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        between = time.perf_counter()
        mix(d, Step(0, 1))
        numpys.append(between - begun)
        ours.append(time.perf_counter() - between)
    assert min(ours) < 9 * min(numpys)


@pytest.mark.parametrize("name", ["hrpo_like", "soft_tokens", "swi_reasoning", "top_n_sigma"])
def test_a_whole_vocabulary_costs_a_few_passes(name):
    """At most four times numpy's logarithms and exponentials of it; it is one to two, and was seven to nine."""
    d = whole()
    mix = make_strategy(name).begin(SETTING)
    ours, numpys = [], []
    for i in range(15):  # in turn, and the quickest of each: other programs want the cores too
        begun = time.perf_counter()
        np.exp(np.log(d.probs))
        between = time.perf_counter()
        mix(d, Step(i, 1))
        numpys.append(between - begun)
        ours.append(time.perf_counter() - between)
    assert min(ours) < 4 * min(numpys)
