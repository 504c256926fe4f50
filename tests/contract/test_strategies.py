"""Every registered strategy keeps the contract; a new one is tested by being registered."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superpose.engines.toy import END, SPECIAL, ByteTokenizer
from superpose.strategy import Setting, Step, Stop, Strategy, make_strategy, strategies
from superpose.types import Distribution, Mixture, Sampling

VOCAB = 40
NAMES = sorted(strategies())
SETTING = Setting(
    seed=7, temperature=0.8, T_e=50, T_total=250, filters=Sampling(), end_marker=(SPECIAL["</think>"],),
    end_of_text=frozenset({END}), encode=ByteTokenizer().encode_template, text=chr,
)  # fmt: skip


def belief(p, drawn=None, temperature_one=None):
    """The distribution of a full vector p [V] over ids that are not their rank."""
    p = np.asarray(p, np.float64)
    order = np.argsort(-p, kind="stable")
    nonzero = p[p > 0]
    drawn = int(order[0]) if drawn is None else drawn
    entropy = float(-(nonzero * np.log(nonzero)).sum())
    return Distribution(
        ids=(order * 3 + 1).astype(np.int32),
        probs=p[order].astype(np.float32),
        tail=0.0,
        entropy=entropy,
        entropy_raw=entropy,
        drawn=drawn * 3 + 1,
        drawn_prob=float(p[drawn]),
    )


def seen_by(strategy, d):
    """The belief cut to what the strategy says that it must see."""
    if strategy.support() == 0 and strategy.mass() == 1:
        return d
    reaching = int(np.searchsorted(np.cumsum(d.probs, dtype=np.float64), strategy.mass())) + 1
    count = strategy.support() or min(reaching, len(d.ids))
    tail = max(0.0, 1 - float(d.probs[:count].sum(dtype=np.float64)))
    return replace(d, ids=d.ids[:count], probs=d.probs[:count], tail=tail)


@st.composite
def beliefs(draw):
    """Peaked, flat, tied, single and partly zero distributions."""
    kind = draw(st.sampled_from(["random", "flat", "peaked", "single", "ties"]))
    size = draw(st.integers(1, VOCAB))
    if kind == "flat":
        p = np.full(size, 1 / size)
    elif kind == "peaked":
        p = np.array([1.0, *np.geomspace(1e-30, 1e-6, size - 1)]) if size > 1 else np.ones(1)
    elif kind == "single":
        p = np.eye(size)[draw(st.integers(0, size - 1))]
    elif kind == "ties":
        p = np.array(draw(st.lists(st.sampled_from([1.0, 2.0]), min_size=size, max_size=size)))
    else:
        p = np.array(draw(st.lists(st.floats(1e-12, 1.0), min_size=size, max_size=size)))
    p = p / p.sum()
    return belief(p, draw(st.sampled_from(np.flatnonzero(p).tolist())))


@pytest.mark.parametrize("name", NAMES)
@given(d=beliefs(), seed=st.integers(0, 2**53 - 1), index=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_mixture_is_sound_and_repeatable(name, d, seed, index):
    strategy = make_strategy(name)
    d = seen_by(strategy, d)
    step = Step(index, seed)
    fed = strategy.begin(SETTING)(d, step)
    assert isinstance(fed, Mixture | Stop)
    if isinstance(fed, Stop):
        assert fed.reason
        return
    assert np.isfinite(fed.weights).all()
    assert abs(float(fed.weights.sum(dtype=np.float64)) - 1) < 1e-5
    assert not strategy.hull or (fed.weights >= 0).all()
    believed = {*d.ids.tolist(), d.drawn}
    anchors = {SPECIAL["<think>"], SPECIAL["</think>"], ord("\n")} if name == "swi_reasoning" else set()
    assert set(fed.ids.tolist()) <= believed | anchors
    again = strategy.begin(SETTING)(d, step)
    assert np.array_equal(fed.ids, again.ids)
    assert np.array_equal(fed.weights, again.weights)


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(name):
    strategy = make_strategy(name)
    document = json.loads(json.dumps(strategy.to_json()))
    assert document["name"] == name
    assert make_strategy(document) == strategy


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_described_and_bounded(name):
    about = strategies()[name].describe()
    assert about["help"].endswith((".", "`."))
    assert "Formula:" in about["doc"]
    for field, schema in about["schema"]["properties"].items():
        assert schema.get("description"), f"{name}.{field} has no description"
        assert "default" in schema
        if schema["type"] in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & set(schema), f"{name}.{field} has no lower bound"
            assert {"maximum", "exclusiveMaximum"} & set(schema), f"{name}.{field} has no upper bound"


@pytest.mark.parametrize("name", NAMES)
def test_support_is_enough(name):
    """Seeing more than it asked for changes nothing that is fed."""
    strategy = make_strategy(name)
    assert 0 <= strategy.support() <= 256
    assert 0 < strategy.mass() <= 1
    random = np.random.default_rng(4)
    d = belief(random.dirichlet(np.full(300, 0.05)))
    few = strategy.begin(SETTING)(seen_by(strategy, d), Step(1, 2))
    many = strategy.begin(SETTING)(d, Step(1, 2))
    assert dict(zip(few.ids.tolist(), few.weights.tolist(), strict=True)) == pytest.approx(
        dict(zip(many.ids.tolist(), many.weights.tolist(), strict=True)), abs=1e-6
    )


def test_the_mission_is_complete():
    six = ["non_uniform", "element_wise_max", "inverse_p", "dirichlet", "nucleus", "answer_directly_element_wise_max"]
    assert set(six) | {"sample"} <= set(strategies())
    transitions = {name: strategies()[name].transition for name in NAMES}
    assert transitions["answer_directly_element_wise_max"] == "</think><answer>"
    assert transitions["sample"] == ""
    assert {transitions[name] for name in six[:-1]} == {"</think><think>"}


def test_a_name_is_taken_once():
    with pytest.raises(TypeError, match="taken"):

        class Other(Strategy, name="nucleus"):
            """Another."""


# -- golden values, by hand ---------------------------------------------------------------------------------

P = [0.5, 0.3, 0.2]
STEP = Step(0, 7)


@pytest.mark.parametrize(
    ("strategy", "p", "weights", "combine"),
    [
        ("non_uniform", P, [0.5, 0.3, 0.2], "sum"),
        ({"name": "non_uniform", "k": 2}, P, [0.625, 0.375], "sum"),
        ({"name": "non_uniform", "k": 1}, P, [1.0], "sum"),
        ("element_wise_max", P, [0.5, 0.3, 0.2], "max"),
        ({"name": "answer_directly_element_wise_max", "k": 2}, P, [0.625, 0.375], "max"),
        # 1/p = 2, 10/3, 5; their sum is 31/3
        ("inverse_p", P, [6 / 31, 10 / 31, 15 / 31], "sum"),
        ({"name": "inverse_p", "k": 2}, P, [0.375, 0.625], "sum"),
        ("nucleus", [0.5, 0.3, 0.15, 0.05], [10 / 19, 6 / 19, 3 / 19], "sum"),
        ({"name": "nucleus", "top_p": 0.7}, [0.7, 0.25, 0.05], [1.0], "sum"),
        ({"name": "nucleus", "top_p": 0.95}, [0.7, 0.25, 0.05], [14 / 19, 5 / 19], "sum"),
        ({"name": "nucleus", "top_p": 0.96}, [0.7, 0.25, 0.05], [0.7, 0.25, 0.05], "sum"),
    ],
)
def test_golden_weights(strategy, p, weights, combine):
    fed = make_strategy(strategy).begin(SETTING)(belief(p), STEP)
    assert fed.ids.tolist() == [1, 4, 7, 10][: len(weights)]
    assert fed.weights == pytest.approx(weights, abs=1e-6)
    assert fed.combine == combine
    assert fed.kind == "mixture"


def test_sample_feeds_the_drawn_token():
    fed = make_strategy("sample").mix(belief(P, drawn=2), STEP)
    assert fed.kind == "sampled"
    assert fed.ids.tolist() == [7]
    assert fed.weights.tolist() == [1.0]


def test_dirichlet_follows_its_distribution():
    """Mean c_i/c and variance m(1-m)/(c+1) of Dirichlet(c p), from 4,000 keyed draws."""
    for concentration in (1.0, 4.0):
        strategy = make_strategy({"name": "dirichlet", "k": 3, "concentration": concentration})
        draws = np.array([strategy.mix(belief(P), Step(i, 3)).weights for i in range(4000)], np.float64)
        variance = np.array(P) * (1 - np.array(P)) / (concentration + 1)
        assert draws.mean(0) == pytest.approx(P, abs=4 * np.sqrt(variance.max() / 4000))
        assert draws.var(0) == pytest.approx(variance, rel=0.1)


def test_dirichlet_is_keyed_by_seed_and_step():
    strategy = make_strategy("dirichlet")
    one = strategy.mix(belief(P), Step(4, 9)).weights
    assert np.array_equal(one, strategy.mix(belief(P), Step(4, 9)).weights)
    assert not np.array_equal(one, strategy.mix(belief(P), Step(5, 9)).weights)
    assert not np.array_equal(one, strategy.mix(belief(P), Step(4, 8)).weights)


def test_probability_zero_is_never_mixed():
    for name in NAMES:
        fed = make_strategy(name).begin(SETTING)(belief([0.0, 1.0, 0.0]), STEP)
        if name == "swi_reasoning":
            assert dict(zip(fed.ids.tolist(), fed.weights.tolist(), strict=True)) == pytest.approx({4: 0.9, 10: 0.1})
            continue
        assert fed.ids.tolist() == [4]
        assert fed.weights.tolist() == [1.0]


@pytest.mark.parametrize("name", NAMES)
def test_says_truly_whether_its_thinking_depends_on_the_seed(name):
    """Over beliefs whose drawn token changes with the seed, as the engine's does."""
    strategy = make_strategy(name)
    told = []
    for seed in range(6):
        mix = strategy.begin(replace(SETTING, seed=seed))
        beliefs = [belief(np.full(VOCAB, 1 / VOCAB), drawn=seed)] * 3
        fed = [mix(seen_by(strategy, d), Step(index, seed)) for index, d in enumerate(beliefs)]
        told.append(
            [(m.ids.tolist(), m.weights.tolist(), m.noise, m.shown) if isinstance(m, Mixture) else m for m in fed]
        )
    assert all(each == told[0] for each in told) == strategy.deterministic


@pytest.mark.parametrize("name", [name for name in NAMES if strategies()[name]().memory() == "nothing"])
def test_one_that_remembers_nothing_has_no_state(name):
    strategy = make_strategy(name)
    one, other = belief(np.geomspace(1, 1e-3, VOCAB) / np.geomspace(1, 1e-3, VOCAB).sum()), belief(np.eye(VOCAB)[3])
    used, fresh = strategy.begin(SETTING), strategy.begin(SETTING)
    for index in range(20):
        used(seen_by(strategy, other), Step(index, 7))
    told = [mix(seen_by(strategy, one), Step(20, 7)) for mix in (used, fresh)]
    assert all(isinstance(fed, Mixture) for fed in told)
    assert [(fed.ids.tolist(), fed.weights.tolist(), fed.reason) for fed in told[:1]] == [
        (fed.ids.tolist(), fed.weights.tolist(), fed.reason) for fed in told[1:]
    ]
