"""Forks: a child is its parent up to the step, and from there on its own."""

import json

import numpy as np
import pytest

from superpose.engines.toy import ToyEngine
from superpose.imports import read
from superpose.problems import BadInput
from superpose.spec import make_spec
from tests.unit.runs import LONG, ended, fork, run_to_end, told, types, until

STRATEGIES = ["non_uniform", "dirichlet", "nucleus", "sample", "mixture_of_inputs", "soft_tokens", "selar"]
STATEFUL = ["soft_thinking", "swi_reasoning", "think_router"]


@pytest.mark.parametrize("strategy", [*STRATEGIES, *STATEFUL])
@pytest.mark.parametrize("at", [0, 1, 17, 33, 45])
def test_a_fork_without_an_edit_is_its_parent(lab, strategy, at):
    runner, store = lab()
    given = {"strategy": strategy, "T_e": 30, "T_total": 60, "temperature": 0.9, "answer": {"temperature": 0.5}}
    parent = run_to_end(runner, store, **given)
    step = min(at, len(parent["steps"]) - 1)
    child = fork(runner, store, parent["id"], step)
    assert told(child) == told(parent)
    assert [child[phase] for phase in ("thinking", "answer", "text")] == [
        parent[phase] for phase in ("thinking", "answer", "text")
    ]
    replay = child["replay"]
    assert (replay["steps"], replay["error"]) == (step, 0)
    assert replay["words"] == ("replay exact" if step else "nothing to replay")
    assert replay["state"] == ("rebuilt" if strategy in STATEFUL else "none")
    assert child["spec"]["fork"] == {"run": parent["id"], "step": step, "mixture": None}


@pytest.mark.parametrize("strategy", ["non_uniform", "sample", "mixture_of_inputs"])
@pytest.mark.parametrize("step", [0, 9, 31, 40])
def test_an_edit_changes_its_step_and_what_follows(lab, strategy, step):
    runner, store = lab()
    parent = run_to_end(runner, store, strategy=strategy, T_e=30, T_total=60)
    edit = {"ids": [65, 66, 67], "weights": [0.5, 0.25, 0.25], "combine": "sum"}
    child = fork(runner, store, parent["id"], step, edit)
    assert told(child)[:step] == told(parent)[:step]
    edited = child["steps"][step]
    assert (edited["kind"], edited["reason"], edited["token"]["id"]) == ("mixture", "edited by hand", 65)
    assert [(fed["id"], fed["weight"]) for fed in edited["fed"]] == [(65, 0.5), (66, 0.25), (67, 0.25)]
    assert edited["believed"] == parent["steps"][step]["believed"]
    assert edited["phase"] == parent["steps"][step]["phase"]
    assert child["steps"][step + 1]["entropy"] != parent["steps"][step + 1]["entropy"]


def test_one_id_of_weight_one_is_a_forced_token_and_enters_the_text(lab):
    runner, store = lab()
    parent = run_to_end(runner, store, T_e=10, T_total=40)
    child = fork(runner, store, parent["id"], 30, {"ids": [90], "weights": [1]})
    forced = child["steps"][30]
    assert (forced["kind"], forced["token"]["text"], forced["reason"]) == ("injected", "Z", "forced by hand")
    assert "Z" in child["answer"]["text"]


def test_forks_of_forks_keep_their_luck_and_outlive_their_parents(lab):
    runner, store = lab()
    parent = run_to_end(runner, store, strategy="soft_tokens", T_e=30, T_total=60)
    child = fork(runner, store, parent["id"], 10, {"ids": [65], "weights": [1]}, seed=99)
    assert child["steps"][9]["noise_seed"] == 3  # noise of the copied steps is the parent's
    grandchild = fork(runner, store, child["id"], 20)
    earlier = fork(runner, store, child["id"], 4, seed=3)  # before the child has a step of its own
    assert told(earlier) == told(parent)
    store.delete(parent["id"])
    again = fork(runner, store, child["id"], 20)
    for each in (grandchild, again):
        assert told(each) == told(child)
        assert each["replay"]["error"] == 0


def test_another_strategy_goes_on_from_the_step_in_phases_of_its_own(lab):
    runner, store = lab()
    thinking = run_to_end(runner, store, T_e=30, T_total=60)
    whole = fork(runner, store, thinking["id"], 12, strategy={"name": "mixture_of_inputs"})
    assert {step["phase"] for step in whole["steps"]} == {"answer"}
    assert whole["answer"]["steps"] == len(whole["steps"])
    assert whole["replay"]["state"] == "new"
    back = fork(runner, store, whole["id"], 20, strategy={"name": "soft_thinking"})
    assert [step["phase"] for step in back["steps"][:21]] == ["thinking"] * 21
    assert back["thinking"]["steps"] == 30
    fewer = fork(runner, store, thinking["id"], 12, T_e=5)
    assert fewer["thinking"]["steps"] == 12 and fewer["steps"][12]["phase"] == "transition"


@pytest.mark.parametrize("transition", ["</think><think>", ""])
@pytest.mark.parametrize("T_e", [12, 5])
def test_an_edit_after_the_last_thinking_step_is_none(lab, T_e, transition):
    """The child is the run that its own settings make: there too T_e steps of thinking were over before this step."""
    runner, store = lab()
    settings = {"transition": transition, "answer": {"temperature": 0.5}}
    longer = run_to_end(runner, store, T_e=30, T_total=60, **settings)
    itself = run_to_end(runner, store, T_e=12, T_total=60, **settings)
    edit = {"ids": [65, 66], "weights": [0.5, 0.5]}
    child = fork(runner, store, longer["id"], 12, edit, T_e=T_e)
    assert child["thinking"]["steps"] == 12 and child["thinking"]["reason"] == f"T_e = {T_e} reached"
    assert (child["steps"][12]["phase"], child["steps"][12]["reason"]) == (
        "transition" if transition else "answer",
        "edited by hand",
    )
    assert told(child) == told(fork(runner, store, itself["id"], 12, edit))


def test_a_chat_that_may_think_later_stays_a_chat(lab):
    """Its child has T_e, but never thought: neither a child of that one nor a page may take it for what it is not."""
    runner, store = lab()
    chat = run_to_end(runner, store, T_e=0, T_total=60)
    child = fork(runner, store, chat["id"], 10, T_e=20)
    again = fork(runner, store, child["id"], 15)
    assert {step["phase"] for step in child["steps"]} == {"answer"}
    assert child["thinking"] == {
        "text": "", "steps": 0, "ended_by": "T_e", "reason": "T_e was 0 in the run that this one continues",
    }  # fmt: skip
    assert types(store, child["id"])[:3] == ["run_queued", "phase_ended", "step"]
    assert told(again) == told(child) and again["thinking"] == child["thinking"]
    assert fork(runner, store, chat["id"], 0, T_e=20)["thinking"]["steps"] == 20  # nothing to continue: it thinks
    (imported,) = store.adopt(read(json.dumps(child).encode()))
    assert store.record(imported)["thinking"] == child["thinking"]


def test_a_stopped_or_finished_run_can_be_continued(lab):
    runner, store = lab(ToyEngine(step_s=0.002))
    run = runner.submit(make_spec(LONG))
    until(lambda: len(store.record(run)["steps"]) > 8)
    runner.cancel(run)
    stopped = ended(store, run)
    child = fork(runner, store, run, len(stopped["steps"]))
    assert told(child) == told(run_to_end(runner, store))
    assert child["replay"]["error"] is None and "not compared" in child["replay"]["words"]
    longer = fork(runner, store, child["id"], len(child["steps"]), T_total=120)
    assert longer["answer"]["steps"] > child["answer"]["steps"]


def test_a_large_mixture_is_replayed_whole(lab):
    """The toy's vocabulary is larger than what an event lists."""
    runner, store = lab()
    parent = run_to_end(runner, store, strategy={"name": "nucleus", "top_p": 1.0}, T_e=20, T_total=40, temperature=4.0)
    assert any("fed_rest" in step for step in parent["steps"])
    child = fork(runner, store, parent["id"], 15)
    assert told(child) == told(parent)
    store._db.execute("DELETE FROM feeds")
    partial = fork(runner, store, parent["id"], 15)
    assert "only the heaviest candidates were kept" in partial["replay"]["words"]
    assert partial["replay"]["error"] > 0


def test_a_fork_states_how_far_its_replay_is_off(lab):
    class Other(ToyEngine):
        """Reads a little differently."""

        def __init__(self):
            super().__init__(sway=0.3001)

    runner, store = lab()
    parent = run_to_end(runner, store)
    other, _ = lab(Other(), store)
    child = fork(other, store, parent["id"], 20)
    believed = {each["id"]: each["probability"] for each in child["steps"][20]["believed"]}
    error = max(abs(each["probability"] - believed[each["id"]]) for each in parent["steps"][20]["believed"])
    assert child["replay"]["error"] == pytest.approx(error, abs=1e-8) and error > 1e-6
    assert child["replay"]["words"] == f"replay differs by {child['replay']['error']:.2g}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"step": 999}, "fork.step"),
        ({"step": -1}, "fork.step"),
        ({"run": "nobody"}, "fork.run"),
        ({"mixture": {"ids": [1, 1], "weights": [0.5, 0.5]}}, "fork.mixture"),
        ({"mixture": {"ids": [1, 2], "weights": [0.5, 0.6]}}, "fork.mixture"),
        ({"mixture": {"ids": [1], "weights": [0.5, 0.5]}}, "fork.mixture"),
        ({"mixture": {"ids": [70_000], "weights": [1.0]}}, "fork.mixture"),
        ({"mixture": {"ids": [], "weights": []}}, "fork.mixture.ids"),
        ({"mixture": {"ids": [1], "weights": [float("nan")]}}, "fork.mixture.weights.0"),
        ({"mixture": {"ids": [True], "weights": [1.0]}}, "fork.mixture.ids.0"),
    ],
)
def test_a_fork_that_cannot_be_is_refused_in_words(lab, change, field):
    runner, store = lab()
    parent = run_to_end(runner, store, T_e=5, T_total=20)
    with pytest.raises(BadInput) as refused:
        spec = {**store.spec(parent["id"]), "fork": {"run": parent["id"], "step": 3, **change}}
        runner.submit(make_spec(spec))
    assert refused.value.field == field
    with pytest.raises(BadInput, match="T_total must be above the 3 steps"):
        fork(runner, store, parent["id"], 3, T_e=2, T_total=3)
    with pytest.raises(BadInput, match="reads the prompt as other tokens"):
        fork(runner, store, parent["id"], 3, user="another")


def test_a_record_with_tokens_of_a_larger_vocabulary_is_refused_and_harms_no_other_run(lab):
    runner, store = lab(ToyEngine(step_s=0.003))
    parent = run_to_end(runner, store, T_e=5, T_total=20)
    events = [json.loads(stored.data) for stored in store.events([parent["id"]], 0, limit=-1)]
    next(event for event in events if event["type"] == "step")["token"]["id"] = 70_000
    (foreign,) = store.adopt(read("\n".join(map(json.dumps, events)).encode()))
    other = runner.submit(make_spec(LONG))
    with pytest.raises(BadInput, match="token 70000 is not in the vocabulary"):
        fork(runner, store, foreign, 3)
    assert ended(store, other)["status"] == "finished"


def test_weights_that_no_embedding_can_hold_fail_their_own_run_only(lab):
    runner, store = lab(ToyEngine(step_s=0.003))
    parent = run_to_end(runner, store, T_e=5, T_total=20)
    other = runner.submit(make_spec(LONG))
    edit = {"ids": [65, 66, 67], "weights": [3e38, -3e38, 1.0]}
    child = fork(runner, store, parent["id"], 3, edit)
    assert (child["status"], child["error"]) == (
        "failed",
        "a mixture's weights are too large: its embedding is not of finite numbers",
    )
    frozen = {"temperature": 5e-324, "answer": {"temperature": 1e-310}}
    assert run_to_end(runner, store, **frozen)["status"] == "finished"
    assert ended(store, other)["status"] == "finished"


def test_a_fork_of_a_run_that_has_not_started_is_refused(lab):
    runner, store = lab(ToyEngine(max_lanes=1, step_s=0.01))
    runner.submit(make_spec(LONG))
    queued = runner.submit(make_spec(LONG))
    with pytest.raises(BadInput, match="has not started"):
        runner.submit(make_spec({**store.spec(queued), "fork": {"run": queued, "step": 0}}))


def test_a_live_run_can_be_branched_from(lab):
    runner, store = lab(ToyEngine(step_s=0.003))
    run = runner.submit(make_spec(LONG))
    until(lambda: len(store.record(run)["steps"]) > 10)
    child = fork(runner, store, run, 6)
    assert told(child) == told(ended(store, run))


def test_a_cold_stop_counts_the_steps_before_the_fork(lab):
    """Its patience is 12 steps: two runs of 8 on either side of the fork make it fire only if the state was rebuilt."""
    runner, store = lab()
    cold = {"name": "soft_thinking", "entropy_threshold": 20.0, "patience": 12}
    parent = run_to_end(runner, store, strategy=cold)
    assert (parent["thinking"]["steps"], parent["thinking"]["ended_by"]) == (11, "strategy")
    child = fork(runner, store, parent["id"], 8)
    assert (child["thinking"]["steps"], child["replay"]["state"]) == (11, "rebuilt")
    changed = fork(runner, store, parent["id"], 8, strategy={**cold, "patience": 13})
    assert (changed["thinking"]["steps"], changed["replay"]["state"]) == (8 + 12, "new")


def test_a_state_that_the_record_does_not_hold_is_restarted_and_says_so(lab):
    from superpose.strategy import Strategy
    from superpose.types import Mixture

    class Counts(Strategy, name="test_counts"):
        """Needs the whole vocabulary for its state; for tests."""

        def support(self):
            return 0

        def begin(self, run):
            seen = []

            def mix(d, step):
                seen.append(len(d.ids))
                return Mixture(np.array([65], np.int32), np.ones(1, np.float32), reason=f"{len(seen)} seen")

            return mix

    try:
        runner, store = lab()
        parent = run_to_end(runner, store, strategy="test_counts", T_e=20, T_total=30)
        child = fork(runner, store, parent["id"], 10)
    finally:
        del Strategy.registry["test_counts"]
    assert child["replay"]["state_words"] == "strategy state restarted"
    assert child["steps"][10]["reason"] == "1 seen" and parent["steps"][10]["reason"] == "11 seen"


@pytest.mark.parametrize(
    ("parent", "change"),
    [({"T_e": 10}, {"transition": "</think> So the answer is"}), ({"T_e": 0}, {"T_e": 20})],
)
def test_an_answer_that_has_begun_has_no_transition_before_it(lab, parent, change):
    runner, store = lab()
    run = run_to_end(runner, store, T_total=40, **parent)
    begun = next(step["step"] for step in run["steps"] if step["phase"] == "answer")
    child = fork(runner, store, run["id"], begun + 5, **change)
    assert told(child) == told(run)


def test_a_character_that_was_open_at_the_end_of_thinking_is_closed_once(lab):
    runner, store = lab()
    run = run_to_end(runner, store, T_e=10, T_total=40)
    broken = fork(runner, store, run["id"], 9, {"ids": [0xE2], "weights": [1]})
    assert broken["thinking"]["text"].endswith("\ufffd")
    child = fork(runner, store, broken["id"], 10, transition="")
    assert child["text"].count("\ufffd") == 1


def test_thinking_that_is_ended_at_once_has_its_transition(lab):
    runner, store = lab()
    run = run_to_end(runner, store, T_e=10, T_total=40)
    one, none = (fork(runner, store, run["id"], 5, T_e=most) for most in (1, 0))
    assert [step["phase"] for step in none["steps"][4:8]] == ["thinking", "transition", "transition", "answer"]
    assert told(none) == told(one)
    begun = fork(runner, store, run["id"], 0, T_e=0)
    assert {step["phase"] for step in begun["steps"]} == {"answer"}
    assert told(begun) == told(run_to_end(runner, store, T_e=0, T_total=40))
