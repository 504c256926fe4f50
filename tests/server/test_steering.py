"""Pause, resume, step and fork over HTTP, in every state of a run, by two clients at once."""

import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.server.test_http import Lab

LONG = {"user": "What is 25 + 17?", "T_e": 400, "T_total": 800, "end_probability": None, "seed": 7}
SHORT = {"user": "What is 25 + 17?", "T_e": 10, "T_total": 40, "seed": 7}


GIVES_UP = '''
from superpose.strategy import Strategy
from superpose.types import Mixture


class GivesUp(Strategy, name="test_gives_up"):
    """Raises at its seventh step."""

    def support(self):
        return 1

    def mix(self, d, step):
        if step.index == 6:
            raise RuntimeError("enough")
        return Mixture.token(int(d.ids[0]))
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    file = tmp_path_factory.mktemp("own") / "gives_up.py"
    file.write_text(GIVES_UP)
    made = Lab(tmp_path_factory.mktemp("data"), "--strategies", str(file))
    yield made
    made.stop()


def act(lab, run, name, body=None):
    return lab.http.post(f"/api/runs/{run}/{name}", **({} if body is None else {"json": body}))


def record(lab, run):
    return lab.http.get(f"/api/runs/{run}").json()


def until(holds, seconds=15.0):
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
    return found


def over(lab, run):
    return until(lambda: (r := record(lab, run))["status"] in ("finished", "cancelled", "failed") and r, 30)


def steps_of(found):
    return [{key: value for key, value in step.items() if key != "t_ms"} for step in found["steps"]]


def reach(lab, phase):
    """A live run that is in this phase, paused there."""
    short = {"thinking": {}, "transition": {"T_e": 3, "transition": "</think>" + "wait " * 60}, "answer": {"T_e": 0}}
    run = lab.post(**{**LONG, **short[phase]})
    until(lambda: any(step["phase"] == phase for step in record(lab, run)["steps"]))
    assert act(lab, run, "pause").status_code == 202
    until(lambda: record(lab, run)["status"] == "paused")
    assert record(lab, run)["steps"][-1]["phase"] == phase
    return run


@pytest.mark.parametrize("phase", ["thinking", "transition", "answer"])
def test_pause_step_resume_and_fork_in_every_phase(lab, phase):
    run = reach(lab, phase)
    at = len(record(lab, run)["steps"])
    assert act(lab, run, "step").json() == {"id": run, "status": "paused"}
    until(lambda: len(record(lab, run)["steps"]) == at + 1)
    assert act(lab, run, "step", {"n": 3}).status_code == 202
    until(lambda: len(record(lab, run)["steps"]) == at + 4)
    time.sleep(0.1)
    paused = record(lab, run)
    assert (len(paused["steps"]), paused["status"]) == (at + 4, "paused")
    edit = {"ids": [65, 66], "weights": [0.5, 0.5]}
    child = act(lab, run, "fork", {"step": at + 1, "mixture": edit, "T_e": at + 20, "T_total": at + 40}).json()["id"]
    found = over(lab, child)
    assert steps_of(found)[: at + 1] == steps_of(paused)[: at + 1]
    assert [fed["id"] for fed in found["steps"][at + 1]["fed"]] == [65, 66]
    assert found["replay"]["words"] == "replay exact"
    assert act(lab, run, "resume").json()["status"] == "paused"  # until its event says otherwise
    until(lambda: len(record(lab, run)["steps"]) > at + 10)
    act(lab, run, "cancel")
    assert over(lab, run)["status"] == "cancelled"


def test_queued_and_reading_runs_pause_too(lab):
    busy = [lab.post(**LONG) for _ in range(16)]
    queued = lab.post(**SHORT)
    assert act(lab, queued, "step").status_code == 409
    assert act(lab, queued, "pause").status_code == 202
    until(lambda: record(lab, queued)["status"] == "paused")
    refused = act(lab, queued, "fork", {"step": 0})
    assert refused.status_code == 422 and "has not started" in refused.json()["detail"]
    for run in busy:
        act(lab, run, "cancel")
    for run in busy:
        over(lab, run)
    assert record(lab, queued)["steps"] == []
    act(lab, queued, "resume")
    assert over(lab, queued)["status"] == "finished"


@pytest.mark.parametrize("how", ["finished", "failed", "cancelled"])
def test_a_run_that_is_over_can_only_be_branched_from(lab, how):
    run = lab.post(
        **(SHORT if how == "finished" else {**LONG, "strategy": "test_gives_up"} if how == "failed" else LONG)
    )
    if how == "cancelled":
        until(lambda: record(lab, run)["steps"])
        act(lab, run, "cancel")
    found = over(lab, run)
    assert found["status"] == how
    for name, done in (("pause", "paused"), ("resume", "resumed"), ("step", "stepped")):
        refused = act(lab, run, name)
        assert refused.status_code == 409
        assert refused.json()["detail"] == f"run {run} is {found['status']}; only a live run can be {done}"
    at = min(4, len(found["steps"]))
    changes = {"T_e": 10, "T_total": 40, "strategy": "non_uniform"}
    child = over(lab, act(lab, run, "fork", {"step": at, **changes}).json()["id"])
    assert steps_of(child)[:at] == steps_of(found)[:at]
    assert child["status"] == "finished"


def test_two_clients_at_once(lab):
    """Every wish gets an answer, events alternate, and the run is what it would have been."""
    alone = over(lab, lab.post(**{**LONG, "T_e": 60, "T_total": 120}))
    run = lab.post(**{**LONG, "T_e": 60, "T_total": 120})
    answers = []

    def client(names):
        for name in names * 10:
            answers.append(act(lab, run, name).status_code)

    threads = [threading.Thread(target=client, args=(names,)) for names in (["pause", "step"], ["resume", "pause"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    act(lab, run, "resume")
    assert set(answers) <= {202, 409}
    found = over(lab, run)
    assert steps_of(found) == steps_of(alone)
    with lab.http.stream("GET", f"/api/runs/{run}/events?after=-1") as stream:
        told = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    # One that was paused before it started says so again when it has started for a single step.
    after = [two["type"] for one, two in itertools.pairwise(told) if one["type"] != "run_started"]
    switches = [kind for kind in after if kind in ("run_paused", "run_resumed")]
    assert all(one != two for one, two in itertools.pairwise(switches))
    assert [event["seq"] for event in told] == list(range(len(told)))


def test_a_fork_of_an_imported_run_whose_model_is_missing(lab):
    parent = over(lab, lab.post(**SHORT))
    foreign = json.loads(json.dumps(parent))
    foreign["spec"]["model"] = "somebody/else"
    imported = lab.http.post("/api/import", content=json.dumps(foreign)).json()["ids"][0]
    refused = act(lab, imported, "fork", {"step": 3})
    assert refused.status_code == 422 and "'somebody/else' is not loaded" in refused.json()["detail"]
    child = over(lab, act(lab, imported, "fork", {"step": 3, "model": "toy"}).json()["id"])
    assert steps_of(child) == steps_of(parent)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "fork.step", "must be a whole number"),
        ({"step": 1.5}, "fork.step", "whole number"),
        ({"step": 10**9}, "fork.step", "at most"),
        ({"step": 99}, "fork.step", "the steps that the run has"),
        ({"step": 2, "user": "x"}, "user", "a fork cannot change 'user'"),
        ({"step": 2, "fork": None}, "fork", "a fork cannot change 'fork'"),
        ({"step": 2, "mixture": {"ids": [1], "weights": [2]}}, "fork.mixture", "sum to 1"),
        ({"step": 2, "mixture": {"ids": list(range(300)), "weights": [1 / 300] * 300}}, "fork.mixture.ids", "at most"),
        ({"step": 2, "mixture": 7}, "fork.mixture", "JSON object"),
        ({"step": 2, "strategy": "nobody"}, "strategy", "unknown strategy"),
        ({"step": 9, "T_total": 5, "T_e": 2}, "T_total", "above"),
        ([1], "", "JSON object"),
    ],
)
def test_wrong_forks_get_a_sentence(lab, body, field, words):
    run = lab.post(**SHORT)
    over(lab, run)
    refused = act(lab, run, "fork", body)
    assert refused.status_code == 422, refused.text
    assert refused.json()["field"] == field and words in refused.json()["detail"]


def test_wrong_steps_and_unknown_runs_get_a_sentence(lab):
    run = reach(lab, "thinking")
    for body in ({"n": 0}, {"n": 10**6}, {"n": "two"}, {"m": 1}):
        assert act(lab, run, "step", body).status_code == 422
    act(lab, run, "cancel")
    for name in ("pause", "resume", "step", "fork", "cancel"):
        assert act(lab, "nobody", name, {"step": 1} if name == "fork" else None).status_code == 404


def test_what_another_server_runs_is_steered_there(lab):
    other = Lab(lab.data)
    try:
        run = reach(other, "thinking")
        for name in ("step", "pause", "resume", "cancel"):
            refused = act(lab, run, name)
            assert (refused.status_code, refused.json()["detail"]) == (
                409,
                f"run {run} is live in another process; steer it there",
            )
        act(other, run, "resume")
        until(lambda: record(other, run)["status"] == "running")
        assert "is not paused; pause it first" in act(other, run, "step").json()["detail"]
    finally:
        other.stop()
    assert record(lab, run)["error"].startswith("superpose was stopped while this run was live")  # SIGTERM


EDIT = {"ids": [65, 66, 90], "weights": [0.5, 0.25, 0.25]}


def measure(lab, mixture=EDIT, **body):
    return lab.http.post("/api/mixture", json={"mixture": mixture, **body})


def test_a_mixture_is_measured_beside_a_live_run_and_as_a_fork_records_it(lab):
    run = reach(lab, "thinking")
    act(lab, run, "resume")
    before = len(record(lab, run)["steps"])
    answers = [measure(lab, model="toy").json() for _ in range(20)]
    assert record(lab, run)["status"] == "running" and len(record(lab, run)["steps"]) > before
    assert all(answer == answers[0] for answer in answers)
    near = answers[0]["nearest"]
    assert [token["cosine"] for token in near] == sorted((token["cosine"] for token in near), reverse=True)
    assert (near[0]["id"], near[0]["text"], len(near)) == (65, "A", 3)
    child = over(lab, act(lab, run, "fork", {"step": 3, "mixture": EDIT, "T_e": 5, "T_total": 9}).json()["id"])
    assert answers[0]["norm_ratio"] == pytest.approx(child["steps"][3]["norm_ratio"], rel=1e-5)
    act(lab, run, "cancel")


def test_mixtures_that_cannot_be_measured_get_a_sentence(lab):
    for mixture, field, words in (
        ({"ids": [1], "weights": [2]}, "mixture", "must sum to 1"),
        ({"ids": [1, 2, 3], "weights": [0.5, 0.25, 0.25], "combine": "slerp"}, "mixture", "two ids"),
        ({"ids": [70_000], "weights": [1]}, "mixture.ids", "must be below 263; got 70000"),
        ({"ids": [1], "weights": [1], "combine": "mean"}, "mixture.combine", "must be one of"),
        (None, "mixture", "JSON object"),
    ):
        refused = measure(lab, mixture)
        assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text
        assert words in refused.json()["detail"]
    refused = measure(lab, model="somebody/else")
    assert refused.status_code == 422 and "'somebody/else' is not loaded" in refused.json()["detail"]


def cpu_s(pid):
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["cancel", "pause"])
def test_nothing_is_computed_after_a_stop_or_in_a_pause(lab, how):
    run = lab.post(**LONG)
    until(lambda: len(record(lab, run)["steps"]) > 3)
    act(lab, run, how)
    seen = len(record(lab, run)["steps"])
    until(lambda: record(lab, run)["status"] in ("cancelled", "paused"))
    at = len(record(lab, run)["steps"])
    assert at - seen <= 1  # the one that was in flight
    used = cpu_s(lab.process.pid)
    time.sleep(1.0)
    assert cpu_s(lab.process.pid) - used < 0.1
    assert len(record(lab, run)["steps"]) == at
    act(lab, run, "cancel")
