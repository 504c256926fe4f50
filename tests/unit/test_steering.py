"""Pause, single steps, resume: a run goes on as if nothing had been."""

import json
import sys
import threading
import time
from dataclasses import replace

import pytest

from superpose.engines.toy import ToyEngine
from superpose.spec import make_spec
from superpose.store import Store
from tests.unit.runs import LONG, ended, run_to_end, told, types, until


def test_a_paused_run_waits_steps_and_goes_on_as_if_nothing_had_been(lab):
    runner, store = lab(ToyEngine(step_s=0.003))
    alone = run_to_end(runner, store)
    run = runner.submit(make_spec(LONG))
    until(lambda: len(store.record(run)["steps"]) > 4)
    assert runner.pause(run)
    until(lambda: store.status(run) == "paused")
    at = len(store.record(run)["steps"])
    time.sleep(0.05)
    assert len(store.record(run)["steps"]) == at
    assert runner.advance(run, 2)
    until(lambda: len(store.record(run)["steps"]) == at + 2)
    time.sleep(0.05)
    assert (len(store.record(run)["steps"]), store.status(run)) == (at + 2, "paused")
    time.sleep(0.2)
    assert runner.advance(run, 1)
    until(lambda: len(store.record(run)["steps"]) == at + 3)
    time.sleep(0.2)
    assert runner.resume(run)
    record = ended(store, run)
    assert told(record) == told(alone)
    assert all(step["t_ms"] < 150 for step in record["steps"][at : at + 5])  # waits are no part of a step
    assert record["replay"] is None  # its lane was there all the time
    pauses = [event for event in types(store, run) if event.startswith("run_")]
    assert pauses == ["run_queued", "run_started", "run_paused", "run_resumed", "run_finished"]
    assert record["timing"]["decode_s"] < 0.09 + sum(s["t_ms"] for s in record["steps"]) / 1000  # no pause in it


def test_a_pause_that_outlives_its_lane_goes_on_by_replay(lab):
    runner, store = lab(ToyEngine(step_s=0.003), hold_s=0.03)
    alone = run_to_end(runner, store)
    run = runner.submit(make_spec(LONG))
    until(lambda: len(store.record(run)["steps"]) > 4)
    runner.pause(run)
    until(lambda: "lane_released" in types(store, run))
    assert runner.advance(run, 1)
    until(lambda: "replayed" in types(store, run))
    until(lambda: types(store, run).count("lane_released") == 2)
    runner.resume(run)
    record = ended(store, run)
    assert told(record) == told(alone)
    assert record["replay"] is None  # a fork's, not a pause's


def test_a_released_lane_is_read_again_in_parts_while_others_step(lab):
    read = []

    class Watched(Store):
        """Notes who reads the steps of which run, and how many."""

        def events(self, runs, after, limit=512):
            assert threading.current_thread().name != "superpose-toy", "a whole record on the engine's thread"
            return super().events(runs, after, limit)

        def steps(self, run, at, most):
            found = super().steps(run, at, most)
            read.append((run, at, len(found)))
            return found

    engine = ToyEngine(step_s=0.002)
    engine.info = replace(engine.info, chunk=8)
    runner, store = lab(engine, Watched(None), hold_s=0.02)
    given = {"strategy": {"name": "nucleus", "top_p": 1.0}, "temperature": 4.0}  # larger mixtures than events list
    alone = run_to_end(runner, store, **given)
    run = runner.submit(make_spec({**LONG, **given}))
    until(lambda: len(store.record(run)["steps"]) > 20)
    runner.pause(run)
    until(lambda: "lane_released" in types(store, run))
    at = len(store.record(run)["steps"])
    assert read == []  # giving up costs nothing
    runner.resume(run)
    assert told(ended(store, run)) == told(alone)
    assert read == [(run, first, min(8, at - first)) for first in range(0, at, 8)]


def test_a_run_that_needs_a_lane_takes_it_from_one_that_waits(lab):
    runner, store = lab(ToyEngine(step_s=0.003, max_lanes=1))
    alone = run_to_end(runner, store)
    first = runner.submit(make_spec(LONG))
    until(lambda: store.record(first)["steps"])
    runner.pause(first)
    until(lambda: store.status(first) == "paused")
    assert told(run_to_end(runner, store)) == told(alone)
    runner.resume(first)
    assert told(ended(store, first)) == told(alone)


@pytest.mark.parametrize("prompt", ["x", "y" * 3000])
def test_pausing_before_the_first_step(lab, prompt):
    class Slow(ToyEngine):
        def prefill(self, lane, inputs, ask):
            time.sleep(0.03)
            return super().prefill(lane, inputs, ask)

    runner, store = lab(Slow(max_lanes=1, step_s=0.002))
    busy = runner.submit(make_spec(LONG))
    waits = runner.submit(make_spec({**LONG, "user": prompt}))
    assert runner.pause(waits)
    until(lambda: store.status(waits) == "paused")
    ended(store, busy)
    time.sleep(0.05)
    assert not store.record(waits)["steps"]
    assert runner.advance(waits, 3)
    until(lambda: len(store.record(waits)["steps"]) == 3)
    assert runner.resume(waits)
    assert ended(store, waits)["status"] == "finished"


def test_resumed_before_it_has_started_it_is_queued_again(lab):
    runner, store = lab(ToyEngine(max_lanes=1, step_s=0.005))
    busy = runner.submit(make_spec({**LONG, "T_e": 3000, "T_total": 3000}))
    run = runner.submit(make_spec(LONG))
    runner.pause(run)
    until(lambda: store.status(run) == "paused")
    runner.resume(run)
    until(lambda: store.status(run) == "queued")
    runner.cancel(busy)
    assert ended(store, run)["status"] == "finished"


def test_what_is_over_cannot_be_steered_and_what_runs_cannot_be_stepped(lab):
    runner, store = lab(ToyEngine(step_s=0.003))
    over = run_to_end(runner, store)["id"]
    until(lambda: not runner.ahead())
    assert not any(act(over) for act in (runner.pause, runner.resume, lambda run: runner.advance(run, 1)))
    live = runner.submit(make_spec(LONG))
    assert not runner.advance(live, 1)
    assert runner.resume(live)  # nothing to do
    runner.pause(live)
    until(lambda: store.status(live) == "paused")
    assert runner.cancel(live)
    assert ended(store, live)["status"] == "cancelled"


def test_many_wishes_at_once_lose_nothing(lab):
    runner, store = lab(ToyEngine(step_s=0.001))
    alone = run_to_end(runner, store)
    runs = [runner.submit(make_spec(LONG)) for _ in range(6)]
    for round_ in range(12):
        for run in runs:
            (runner.pause if round_ % 2 else runner.resume)(run)
        time.sleep(0.004)
    for run in runs:
        runner.resume(run)
    for run in runs:
        assert told(ended(store, run)) == told(alone)


def test_steps_asked_for_before_a_run_went_on_are_forgotten(lab):
    class Gated(ToyEngine):
        """Makes no step while its gate is shut; tells when it waits there."""

        gate, waits = threading.Event(), threading.Event()

        def step(self, lanes, inputs, asks):
            self.waits.set()
            self.gate.wait(10)
            return super().step(lanes, inputs, asks)

    engine = Gated()
    runner, store = lab(engine, hold_s=0.02)
    run = runner.submit(make_spec({**LONG, "T_e": 8, "T_total": 12}))
    assert engine.waits.wait(10)
    runner.pause(run)
    runner.advance(run, 3)
    runner.resume(run)  # all three within a step
    engine.gate.set()
    assert ended(store, run)["status"] == "finished"
    assert "lane_released" not in types(store, run)


def switches(store, run):
    return [kind for kind in types(store, run) if kind in ("run_paused", "run_resumed")]


def test_wishes_that_are_taken_back_within_a_step_are_told(lab):
    """Else who asked waits for an event that never comes."""

    class Gated(ToyEngine):
        gate, waits = threading.Event(), threading.Event()

        def step(self, lanes, inputs, asks):
            self.waits.set()
            self.gate.wait(10)
            return super().step(lanes, inputs, asks)

    engine = Gated()
    runner, store = lab(engine)
    alone = run_to_end(*lab(), T_e=2000, T_total=2000)
    run, other = (runner.submit(make_spec({**LONG, "T_e": 2000, "T_total": 2000})) for _ in range(2))
    assert engine.waits.wait(10)
    runner.pause(other)
    runner.pause(run)
    runner.resume(run)
    engine.gate.set()
    until(lambda: switches(store, run) == ["run_paused", "run_resumed"])
    until(lambda: store.status(other) == "paused")
    engine.gate.clear()
    engine.waits.clear()
    assert engine.waits.wait(10)
    runner.resume(other)
    runner.pause(other)
    engine.gate.set()
    until(lambda: switches(store, other) == ["run_paused", "run_resumed", "run_paused"])
    assert (store.status(run), store.status(other)) == ("running", "paused")
    at = len(store.record(other)["steps"])
    time.sleep(0.05)
    assert len(store.record(other)["steps"]) == at
    runner.resume(other)
    for each in (run, other):
        runner.cancel(each)
        made = told(ended(store, each))
        assert made == told(alone)[: len(made)]


def test_single_steps_that_many_ask_for_are_each_made_once(lab):
    runner, store = lab()
    run = runner.submit(make_spec({**LONG, "T_e": 2000, "T_total": 2000}))
    runner.pause(run)
    until(lambda: store.status(run) == "paused")
    before, interval = len(store.record(run)["steps"]), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        clients = [threading.Thread(target=lambda: [runner.advance(run, 1) for _ in range(200)]) for _ in range(6)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        until(lambda: len(store.record(run)["steps"]) >= before + 1200, 30)
    finally:
        sys.setswitchinterval(interval)
    time.sleep(0.1)
    assert len(store.record(run)["steps"]) == before + 1200


def test_a_run_that_steps_before_it_was_resumed_is_told_to_be_paused(lab):
    runner, store = lab(ToyEngine(max_lanes=1, step_s=0.002), hold_s=60.0)
    busy = runner.submit(make_spec(LONG))
    run = runner.submit(make_spec(LONG))
    runner.pause(run)
    until(lambda: store.status(run) == "paused")
    ended(store, busy)
    runner.advance(run, 2)
    until(lambda: len(store.record(run)["steps"]) == 2)
    assert (store.status(run), store.record(run)["status"]) == ("paused", "paused")
    held = [json.loads(event.data)["held_s"] for event in store.events([run], 0) if event.type == "run_paused"]
    assert held == [0, 60]  # it has a cache now


def test_the_time_of_a_single_step_has_its_pass_in_it(lab):
    runner, store = lab(ToyEngine(step_s=0.02))
    run = runner.submit(make_spec({**LONG, "T_e": 5, "T_total": 10}))
    runner.pause(run)
    until(lambda: store.status(run) == "paused")
    before = len(store.record(run)["steps"])
    for more in range(1, 7):  # some are asked for in the pass of the one before, some after it
        runner.advance(run, 1)
        until(lambda: len(store.record(run)["steps"]) == before + more)  # noqa: B023
        time.sleep(0.05 if more % 2 else 0)
    runner.resume(run)
    record = ended(store, run)
    assert all(step["t_ms"] >= 19 for step in record["steps"][1:])
    assert record["timing"]["decode_s"] >= 0.019 * (len(record["steps"]) - 1)


def test_a_step_that_is_asked_for_before_the_pause_has_begun_is_made_in_the_pause(lab):
    class Gated(ToyEngine):
        gate, inside = threading.Event(), threading.Event()

        def norm_ratios(self, inputs):
            self.inside.set()
            assert self.gate.wait(10)
            return super().norm_ratios(inputs)

    engine = Gated()
    runner, store = lab(engine)
    run = runner.submit(make_spec(LONG))
    assert engine.inside.wait(10)  # it is in the midst of its first step
    assert runner.pause(run) and runner.advance(run, 1)
    engine.gate.set()
    until(lambda: len(store.record(run)["steps"]) == 2)
    assert [kind for kind in types(store, run) if kind in ("step", "run_paused")] == ["step", "run_paused", "step"]
