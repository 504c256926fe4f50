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
