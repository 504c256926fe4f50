"""Golden values of the catalogue and traces by hand, for strategies from papers."""

import math

import numpy as np
import pytest
from numpy.random import Generator, Philox

from superpose.engines.toy import END, SPECIAL, ByteTokenizer
from superpose.strategies import parts
from superpose.strategy import Setting, Step, Stop, make_strategy
from superpose.types import Distribution, Mixture, Sampling

P = (0.5, 0.3, 0.2)  # already tempered; entropy 1.029653 nats, 0.937231 of ln 3
IDS = (11, 12, 13)
MARKER = SPECIAL["</think>"]
THINK = SPECIAL["<think>"]


def setting(**changed):
    common = {
        "seed": 7, "temperature": 1.0, "T_e": 50, "T_total": 100, "filters": Sampling(), "end_marker": (MARKER,),
        "end_of_text": frozenset({END}), "encode": ByteTokenizer().encode_template, "text": lambda i: f"word{i}",
    }  # fmt: skip
    return Setting(**{**common, **changed})


def belief(p=P, ids=IDS, drawn=11, entropy=None, entropy_raw=None, drawn_prob=0.5):
    p = np.asarray(p, np.float64)
    nats = float(-(p * np.log(p)).sum())
    return Distribution(
        np.array(ids, np.int32), p.astype(np.float32), 0.0, nats if entropy is None else entropy,
        nats if entropy_raw is None else entropy_raw, drawn, drawn_prob,
    )  # fmt: skip


def begin(name, run=None, **parameters):
    return make_strategy({"name": name, **parameters}).begin(run or setting())


def weights(fed: Mixture, ids=IDS):
    told = dict(zip(fed.ids.tolist(), fed.weights.astype(np.float64).tolist(), strict=True))
    return [told.get(i, 0.0) for i in ids]


# -- section 11 of the catalogue ------------------------------------------------------------------------------


def test_mixture_of_inputs():
    fed = begin("mixture_of_inputs", n=3, beta=1.0)(belief(drawn=12, drawn_prob=0.3), Step(0, 7))
    assert weights(fed) == pytest.approx([0.234308, 0.671969, 0.093723], abs=2e-6)
    assert fed.shown == 12


def test_mixture_of_inputs_with_the_drawn_token_outside_the_candidates():
    """H = 0.937231 over three, beta 1: 0.468616 goes to the belief, all the rest to the drawn token."""
    d = belief(p=(*P, 1e-9), ids=(*IDS, 14), drawn=99, drawn_prob=1e-10)
    fed = begin("mixture_of_inputs", n=3, beta=1.0)(d, Step(0, 7))
    assert weights(fed, (*IDS, 99)) == pytest.approx([0.234308, 0.140585, 0.093723, 0.531384], abs=2e-6)


def test_mixture_of_inputs_at_another_temperature_uses_temperature_1():
    """Believed at T = 2, the probabilities at T = 1 are their squares, renormalised: 25, 9, 4 of 38."""
    fed = begin("direct_mixture", setting(temperature=2.0), n=3)(belief(), Step(0, 7))
    assert weights(fed) == pytest.approx([25 / 38, 9 / 38, 4 / 38], abs=1e-6)


def test_selar():
    fed = begin("selar", n=3, top_k=0, top_p=1.0, threshold=0.5, contrast=1.0)(belief(drawn=13), Step(0, 7))
    assert weights(fed) == pytest.approx([0.031385, 0.581169, 0.387446], abs=2e-6)
    assert fed.reason == "gate: entropy 0.94 >= 0.5"
    assert fed.shown == 13


def test_selar_leaves_the_hull_only_below_its_bound():
    """w_1 = 1 - (1 + H)(1 - p_1) < 0 if p_1 < 0.483799 at H = 0.937231."""
    assert parts.affine_contrast(np.array([0.4838, 0.3162, 0.2]), 0.937231)[0] > 0
    assert parts.affine_contrast(np.array([0.4837, 0.3163, 0.2]), 0.937231)[0] < 0
    fed = begin("selar", n=3, top_k=0, top_p=1.0)(belief(p=(0.4, 0.35, 0.25)), Step(0, 7))
    assert min(weights(fed)) < 0
    assert sum(weights(fed)) == pytest.approx(1)


def test_selar_gate_closed_or_overridden_feeds_the_drawn_token():
    sure = begin("selar", n=3)(belief(p=(0.98, 0.01, 0.01), drawn=12), Step(0, 7))
    assert (sure.kind, sure.ids.tolist()) == ("sampled", [12])
    digit = begin("selar", setting(text=lambda i: " 7"), n=3)(belief(drawn=12), Step(0, 7))
    assert (digit.kind, digit.ids.tolist()) == ("sampled", [12])


@pytest.mark.parametrize(
    ("tau", "golden"), [(0.5, (0.231433, 0.751928, 0.016638)), (1.0, (0.325666, 0.587013, 0.087320))]
)
def test_gumbel_softmax(tau, golden):
    assert parts.gumbel_softmax(np.array(P), tau, np.array([0.1, 1.2, -0.3])) == pytest.approx(golden, abs=2e-6)


def test_hrpo_norm():
    """p / |p|: a sum of (0.811107, 0.486664, 0.324443), here weights that sum to 1 and the factor that restores it."""
    fed = begin("hrpo_like", a=0.0)(belief(), Step(0, 7))
    assert np.array(weights(fed)) * fed.rescale == pytest.approx([0.811107, 0.486664, 0.324443], abs=2e-6)
    fed = begin("hrpo_like", a=0.8)(belief(drawn=12), Step(0, 7))
    expected = 0.6 * np.array([0.811107, 0.486664, 0.324443]) + [0, 0.8, 0]
    assert np.array(weights(fed)) * fed.rescale == pytest.approx(expected, abs=2e-6)


def test_multiplex_weights():
    places, by_p = parts.counted(np.array(P), np.array([0, 0, 1]), by_probability=True)
    assert places.tolist() == [0, 1]
    assert by_p == pytest.approx([0.769231, 0.230769], abs=2e-6)
    assert parts.counted(np.array(P), np.array([0, 0, 1]), by_probability=False)[1] == pytest.approx([2 / 3, 1 / 3])


def test_multiplex_draws_follow_p_and_the_first_decides_the_end():
    run = begin("multiplex", draws=1, top_p=1.0)
    firsts = [int(run(belief(), Step(i, 3)).ids[0]) for i in range(3000)]
    for token, p in zip(IDS, P, strict=True):
        assert np.mean(np.array(firsts) == token) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 3000))
    assert isinstance(begin("multiplex")(belief(p=(0.999, 0.001), ids=(MARKER, 12)), Step(0, 1)), Stop)
    differing = begin("multiplex", draws=3, replacement=False, top_p=1.0)(belief(), Step(0, 1))
    assert sorted(differing.ids.tolist()) == list(IDS)


def test_power():
    golden = (0.608280, 0.259630, 0.132090)
    assert parts.power(np.array(P), 1 / 0.6) == pytest.approx(golden, abs=2e-6)
    assert weights(begin("power", k=3)(belief(), Step(0, 1))) == pytest.approx([1 / 3] * 3)


# -- Soft Thinking --------------------------------------------------------------------------------------------


def test_soft_thinking_filters_in_order_then_caps():
    """top-k 4 -> (.4,.3,.2,.1); top-p .85 -> (4,3,2)/9; min-p .6 of 4/9 drops 2/9 -> (4,3)/7; n 1 keeps the first."""
    d = belief(p=(0.36, 0.27, 0.18, 0.09, 0.1 - 1e-12), ids=(1, 2, 3, 4, 5))
    d = Distribution(d.ids, np.array([0.36, 0.27, 0.18, 0.09, 0.05], np.float32), 0.05, 1.0, 1.0, 1, 0.36)
    common = {"top_k": 4, "top_p": 0.85, "min_p": 0.6}
    assert weights(begin("soft_thinking", n=9, **common)(d, Step(0, 1)), (1, 2, 3)) == pytest.approx([4 / 7, 3 / 7, 0])
    assert weights(begin("soft_thinking", n=1, **common)(d, Step(0, 1)), (1, 2)) == pytest.approx([1, 0])


def test_cold_stop_counts_on_end_and_starts_anew():
    run = begin("soft_thinking", entropy_threshold=0.1, patience=3)
    nats = [0.05, 0.05, 0.1, 0.05, 0.05, 0.05]  # 0.1 is not below the threshold
    told = [run(belief(p=(0.9, 0.1), ids=(1, 2), entropy=h), Step(i, 1)) for i, h in enumerate(nats)]
    assert [isinstance(fed, Stop) for fed in told] == [False] * 5 + [True]
    assert told[-1].reason == "Cold Stop: entropy < 0.1 for 3 steps"
    fresh = make_strategy({"name": "soft_thinking", "entropy_threshold": 0.1, "patience": 2})
    one, two = fresh.begin(setting()), fresh.begin(setting())
    sure = belief(p=(0.9, 0.1), ids=(1, 2), entropy=0.01)
    one(sure, Step(0, 1))
    assert not isinstance(two(sure, Step(0, 1)), Stop)  # runs do not share the counter


def test_soft_thinking_stops_on_the_top_weight_only():
    stop = begin("soft_thinking")(belief(p=(0.6, 0.4), ids=(MARKER, 1)), Step(0, 1))
    assert stop == Stop(f"the top weight was `word{MARKER}`")
    assert isinstance(begin("soft_thinking")(belief(p=(0.6, 0.4), ids=(1, MARKER)), Step(0, 1)), Mixture)


def test_stochastic_soft_thinking_gumbel_argmax_is_a_draw_from_p():
    run = begin("stochastic_soft_thinking", top_p=1.0, min_p=0.0)
    heaviest = np.array([IDS[int(np.argmax(weights(run(belief(), Step(i, 5)))))] for i in range(3000)])
    for token, p in zip(IDS, P, strict=True):
        assert np.mean(heaviest == token) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 3000))


def test_stochastic_soft_thinking_dirichlet_stays_on_its_support():
    run = begin("stochastic_soft_thinking", noise="dirichlet", gamma=4.0, top_k=2, top_p=1.0, min_p=0.0)
    draws = np.array([weights(run(belief(), Step(i, 5))) for i in range(3000)])
    assert (draws[:, 2] == 0).all()
    mean, spread = 0.625, math.sqrt(0.625 * 0.375 / 5)
    assert draws[:, 0].mean() == pytest.approx(mean, abs=4 * spread / math.sqrt(3000))
    assert draws[:, 0].std() == pytest.approx(spread, rel=0.1)


def test_the_end_probability_rule_is_off_where_the_paper_has_its_own():
    from superpose.spec import make_spec

    assert make_spec({"user": "x", "strategy": "soft_thinking"}).end_probability is None
    assert make_spec({"user": "x", "strategy": "soft_thinking", "end_probability": 0.2}).end_probability == 0.2
    assert make_spec({"user": "x", "strategy": "non_uniform"}).end_probability == 0.05
    assert make_spec({"user": "x"}).end_probability == 0.05


# -- gates ----------------------------------------------------------------------------------------------------


def test_think_router_mixes_only_where_it_is_sure():
    run = begin("think_router", tau=0.5)
    unsure = run(belief(p=(0.49, 0.31, 0.2), drawn=13), Step(0, 1))
    assert (unsure.kind, unsure.ids.tolist(), unsure.reason) == ("sampled", [13], "gate: p_max 0.49 < 0.5")
    assert run(belief(), Step(1, 1)).kind == "mixture"


# -- SwiReasoning ---------------------------------------------------------------------------------------------


def swi(run, trace, drawn=13):
    """Kinds, weights on (11, 12, 13, <think>, </think>) and reasons along a trace of entropies."""
    told = []
    for i, h in enumerate(trace):
        y = drawn[i] if isinstance(drawn, list) else drawn
        told.append(run(belief(drawn=y, entropy_raw=h), Step(i, 1)))
    return told


def test_swi_reasoning_switches_locks_and_waits():
    """H_ref = 1.0. Step 2 falls below: to tokens, no dwell needed. Back needs H > 0.5 and a window of 3 steps."""
    run = begin("swi_reasoning", window=3, beta_0=0.7, alpha_0=0.6)
    told = swi(run, [1.0, 1.2, 0.5, 0.9, 0.9, 0.9, 0.8, 0.4])
    assert [fed.kind for fed in told] == [
        "mixture",
        "mixture",
        "mixture",
        "sampled",
        "sampled",
        "mixture",
        "mixture",
        "sampled",
    ]
    first = told[0]
    assert weights(first, (11, 12, 13, 10)) == pytest.approx([0.45, 0.27, 0.18, 0.1], abs=1e-6)  # a line break
    share = 0.7 + 0.3 * 2 / 100
    assert weights(told[2], (11, MARKER)) == pytest.approx([share * 0.5, 1 - share], abs=1e-6)
    assert told[2].reason == "to tokens, switch 1: entropy 0.50 fell"
    share = 0.6 + 0.4 * 5 / 100
    assert weights(told[5], (11, THINK)) == pytest.approx([share * 0.5, 1 - share], abs=1e-6)
    assert told[5].reason == "to mixtures: entropy 0.90 rose"
    assert told[6].reason.startswith("to tokens, switch 2")  # 0.8 < 0.9, the entropy of the last switch
    # Once `</think>` has been drawn there is no way back to mixtures.
    locked = begin("swi_reasoning", window=1)
    told = swi(locked, [1.0, 0.5, 0.9, 0.9, 0.9], drawn=[13, 13, MARKER, 13, 13])
    assert [fed.kind for fed in told] == ["mixture", "mixture", "sampled", "sampled", "sampled"]


def test_swi_reasoning_as_t_goes_to_0_blends_beta_0():
    """The catalogue: .7 w + .3 e_end."""
    told = swi(begin("swi_reasoning", setting(T_total=10**9), beta_0=0.7), [1.0, 0.5])
    assert weights(told[1], (*IDS, MARKER)) == pytest.approx([0.35, 0.21, 0.14, 0.3], abs=1e-6)


def test_swi_reasoning_cap_forces_words_then_ends_within_its_budget():
    """N = 1: switches 1 and 2 force convergence words, the third terminates with a budget of 5."""
    run = begin(
        "swi_reasoning", window=0, max_switches=1, convergence_words="ab", termination_words="xyz", termination_budget=5
    )
    told = [run(belief(drawn=13, entropy_raw=1.0), Step(0, 1))]
    kinds, forced = [told[0].kind], []
    h, low = 1.0, True
    for i in range(1, 40):
        h = h - 0.01 if low else h + 0.02  # always falls in mixtures, always rises in tokens
        fed = run(belief(drawn=13, entropy_raw=h), Step(i, 1))
        if isinstance(fed, Stop):
            assert fed.reason == "terminated: more than 2 switches to tokens"
            break
        kinds.append(fed.kind)
        if fed.kind == "injected":
            forced.append(chr(int(fed.ids[0])))
        if fed.reason:
            low = fed.reason.startswith("to mixtures")
    else:
        raise AssertionError("the budget did not end the run")
    assert "".join(forced).startswith("ab")
    assert "".join(forced).endswith("xyz")
    # The third switch is one of the five steps, then x, y, z and one more.
    assert kinds[-4:-1] == ["injected"] * 3


def test_swi_reasoning_override_feeds_digits_and_letters():
    told = swi(begin("swi_reasoning", setting(text=lambda i: "7")), [1.0, 1.1])
    assert [(fed.kind, fed.ids.tolist()) for fed in told] == [("sampled", [13])] * 2


# -- the rest -------------------------------------------------------------------------------------------------


def test_soft_tokens_sharpen_and_carry_keyed_noise():
    fed = begin("soft_tokens", tau=0.5, gamma=0.33)(belief(), Step(4, 9))
    assert weights(fed) == pytest.approx([25 / 38, 9 / 38, 4 / 38], abs=1e-6)
    assert fed.noise == (0.33, 9, 4)
    assert begin("soft_tokens", tau=1e-4)(belief(), Step(4, 9)).ids.tolist() == [11]


def test_top_n_sigma_by_hand():
    """Logits 0, -1, -3, -4: mean -2, deviation sqrt(2.5) = 1.5811; n = 1 keeps those of at least -1.5811."""
    z = np.array([0.0, -1.0, -3.0, -4.0])
    p = np.exp(z) / np.exp(z).sum()
    fed = begin("top_n_sigma", n=1.0)(belief(p=p, ids=(1, 2, 3, 4)), Step(0, 1))
    assert fed.ids.tolist() == [1, 2]
    # The same logits believed at temperature 2 keep the same tokens.
    q = np.exp(z / 2) / np.exp(z / 2).sum()
    assert begin("top_n_sigma", setting(temperature=2.0))(belief(p=q, ids=(1, 2, 3, 4)), Step(0, 1)).ids.tolist() == [
        1,
        2,
    ]


def test_min_p_by_hand():
    assert begin("min_p", ratio=0.6)(belief(), Step(0, 1)).ids.tolist() == [11, 12]  # 0.3 >= 0.6 x 0.5 > 0.2


def test_random_subset_takes_each_pair_equally_often():
    run = begin("random_subset", k=3, subset=2)
    pairs = [tuple(run(belief(), Step(i, 2)).ids.tolist()) for i in range(3000)]
    for pair in ((11, 12), (11, 13), (12, 13)):
        assert pairs.count(pair) / 3000 == pytest.approx(1 / 3, abs=0.035)
    fed = run(belief(), Step(0, 2))
    assert fed.weights.tolist() == sorted(fed.weights.tolist(), reverse=True)


def test_slerp_takes_two():
    fed = begin("slerp")(belief(), Step(0, 1))
    assert (fed.combine, weights(fed)) == ("slerp", pytest.approx([0.625, 0.375, 0]))


def test_deterministic_noise_source():
    """The keyed noise is Philox's own standard normal, so that another program can make it again."""
    from superpose import rng

    expected = Generator(Philox(key=[9, 4 << 8 | 3])).standard_normal(8, np.float32)
    assert np.array_equal(rng.normal(9, 4, 8), expected)
