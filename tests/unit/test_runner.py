"""Many runs over one engine: alone and together are the same, one run's failure is its own."""

import json
import threading
import time

import pytest

from superpose.engine import EngineError, OutOfMemory
from superpose.engines.toy import ToyEngine
from superpose.exports import export
from superpose.imports import read
from superpose.problems import BadInput
from superpose.runner import Runner
from superpose.spec import make_spec
from superpose.store import Store
from superpose.store_list import Query
from superpose.strategy import Stop, Strategy
from superpose.types import Mixture


@pytest.fixture(autouse=True, scope="module")
def _bomb():
    """Registered here and not at import, so that no other test module sees it."""

    class Bomb(Strategy, name="test_bomb"):
        """Raises at its third step; for tests.

        Formula: none.
        """

        def support(self) -> int:
            return 1

        def mix(self, d, step):
            if step.index == 2:
                raise RuntimeError("boom")
            return Mixture.token(d.drawn, "sampled")

    yield
    del Strategy.registry[Bomb.name]


@pytest.fixture
def lab():
    """Makes runners over one store; closes them."""
    made = []

    def make(engine=None):
        store = Store(None)
        made.append(Runner(engine or ToyEngine(), store))
        return made[-1], store

    yield make
    for runner in made:
        runner.close()


def wait(store, run, seconds=10.0):
    end = time.monotonic() + seconds
    while store.status(run) in ("queued", "running"):
        assert time.monotonic() < end, "the run did not end"
        time.sleep(0.002)
    return store.record(run)


def tokens(record):
    return [(s["kind"], s["token"]["id"], [(f["id"], f["weight"]) for f in s["fed"]]) for s in record["steps"]]


SPECS = [
    {"user": "one", "strategy": "non_uniform", "T_e": 12, "seed": 1},
    {"user": "a longer second prompt", "strategy": "dirichlet", "T_e": 30, "seed": 2},
    {"user": "three", "strategy": "nucleus", "T_e": 5, "seed": 3},
    {"user": "four", "strategy": "sample", "T_e": 40, "seed": 4},
]


def test_together_equals_alone(lab):
    alone = []
    for spec in SPECS:
        runner, store = lab()
        alone.append(wait(store, runner.submit(make_spec(spec))))
    runner, store = lab(ToyEngine(max_lanes=3))  # one has to wait for a lane
    ids = [runner.submit(make_spec(spec)) for spec in SPECS]
    together = [wait(store, run) for run in ids]
    assert [tokens(record) for record in together] == [tokens(record) for record in alone]
    assert all(record["status"] == "finished" for record in together)


def test_the_same_spec_gives_the_same_tokens_and_another_seed_others(lab):
    runner, store = lab()
    one, two, other = (
        wait(store, runner.submit(make_spec({"user": "x", "strategy": "dirichlet", "seed": seed})))
        for seed in (1, 1, 2)
    )
    assert tokens(one) == tokens(two)
    assert tokens(one) != tokens(other)


def test_cancel_stops_within_one_step(lab):
    engine = ToyEngine(step_s=0.02)
    runner, store = lab(engine)
    run = runner.submit(make_spec({"user": "x", "T_e": 200, "T_total": 200, "end_probability": None}))
    while len(store.record(run)["steps"]) < 3:
        time.sleep(0.002)
    before = len(store.record(run)["steps"])
    assert runner.cancel(run)
    record = wait(store, run)
    assert record["status"] == "cancelled"
    assert len(record["steps"]) - before <= 2  # the one in flight when we looked, and the one when we asked
    assert record["thinking"]["ended_by"] == "cancelled"
    end = time.monotonic() + 5
    while runner.cancel(run):  # it leaves its lane a moment after its end is written
        assert time.monotonic() < end


def test_cancel_while_queued_and_in_prefill(lab):
    class SlowPrefill(ToyEngine):
        def prefill(self, lane, inputs, ask):
            time.sleep(0.05)
            return super().prefill(lane, inputs, ask)

    runner, store = lab(SlowPrefill(max_lanes=1))
    reading = runner.submit(make_spec({"user": "y" * 3000}))
    queued = runner.submit(make_spec({"user": "x"}))
    assert runner.cancel(queued)
    while store.status(reading) == "queued":
        time.sleep(0.001)
    assert runner.cancel(reading)
    for run in (queued, reading):
        record = wait(store, run)
        assert (record["status"], record["steps"]) == ("cancelled", [])
    assert wait(store, runner.submit(make_spec({"user": "x"})))["status"] == "finished"  # the lane is free again


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_the_end_of_the_process_is_told_as_the_reason(lab, form):
    runner, store = lab(ToyEngine(step_s=0.005))
    mine, live = (runner.submit(make_spec({"user": "x", "T_e": 900, "T_total": 900, "seed": 1})) for _ in range(2))
    while not store.record(live)["steps"]:
        time.sleep(0.002)
    runner.cancel(mine)
    wait(store, mine)
    runner.close()
    record = store.record(live)
    assert (record["status"], record["error"]) == (
        "cancelled",
        "superpose was stopped while this run was live; what it had is kept",
    )
    assert record["thinking"]["reason"] == f"superpose was stopped at step {len(record['steps'])}"
    assert store.record(mine)["error"] is None  # somebody asked for that
    again = store.record(store.adopt(read("".join(export(store, [live], form, listed=False)).encode()))[0])
    assert {**again, "id": live} == record


def test_a_strategy_that_raises_fails_its_own_run_alone(lab):
    runner, store = lab()
    bad = runner.submit(make_spec({"user": "x", "strategy": "test_bomb"}))
    good = runner.submit(make_spec({"user": "x", "seed": 1}))
    failed = wait(store, bad)
    assert failed["status"] == "failed"
    assert failed["error"] == "strategy test_bomb failed at step 2: it raised RuntimeError: boom"
    assert len(failed["steps"]) == 2
    assert wait(store, good)["status"] == "finished"


def test_out_of_memory_fails_the_longest_run_and_the_others_go_on(lab):
    class Small(ToyEngine):
        def step(self, lanes, inputs, asks):
            if sum(self.length(lane) for lane in lanes) > 120:
                raise OutOfMemory("no memory left for 1 MB")
            return super().step(lanes, inputs, asks)

    runner, store = lab(Small(step_s=0.001))
    long = runner.submit(make_spec({"user": "y" * 70, "T_total": 100, "T_e": 100, "end_probability": None}))
    short = runner.submit(make_spec({"user": "x", "T_e": 10, "T_total": 30}))
    failed = wait(store, long)
    assert failed["status"] == "failed"
    assert failed["error"].startswith("out of memory at step ")
    assert len(failed["steps"]) > 5
    assert wait(store, short)["status"] == "finished"


class Afar(ToyEngine):
    """Makes its steps on a device of its own: what is to be done meanwhile is done in them, or not where they fail."""

    act = None
    fault = OutOfMemory("no memory left for 1 MB")

    def meanwhile(self, act):
        self.act = act

    def step(self, lanes, inputs, asks):
        act, self.act = self.act, None
        if sum(self.length(lane) for lane in lanes) > 150:
            raise self.fault
        beliefs = super().step(lanes, inputs, asks)
        if act is not None:
            act()
        return beliefs


def told(store, run):
    """What was recorded of a run, without its times."""
    timed = ("run", "t_ms", "timing", "queue_s", "prefill_s", "created_at")
    events = [json.loads(stored.data) for stored in store.events([run], 0, limit=-1)]
    return [{key: value for key, value in event.items() if key not in timed} for event in events]


def test_events_written_while_a_device_computes_are_the_same(lab):
    specs = [{"user": f"hi {i}", "seed": i, "T_e": 4 + i, "T_total": 12 + 3 * i} for i in range(4)]
    found = []
    for engine in (ToyEngine(), Afar()):
        runner, store = lab(engine)
        runs = [runner.submit(make_spec(spec)) for spec in specs]
        for run in runs:
            assert wait(store, run)["status"] == "finished"
        found.append([told(store, run) for run in runs])
    assert found[0] == found[1]


def test_what_led_to_a_pass_that_fails_is_written_before_its_failure(lab):
    runner, store = lab(Afar(step_s=0.001))
    long = runner.submit(make_spec({"user": "y" * 70, "T_total": 100, "T_e": 100, "end_probability": None}))
    short = runner.submit(make_spec({"user": "x", "T_e": 10, "T_total": 30}))
    failed = wait(store, long)
    assert failed["error"] == f"out of memory at step {len(failed['steps'])}: lower T_total or stop other runs"
    assert len(failed["steps"]) > 5
    assert [event["type"] for event in told(store, long)[-2:]] == ["step", "run_failed"]
    assert wait(store, short)["status"] == "finished"


@pytest.mark.parametrize("fault", [EngineError("the logits are not finite"), RuntimeError("the device is lost")])
def test_a_pass_that_fails_costs_no_event_and_no_run_that_had_ended(lab, fault):
    engine = Afar(step_s=0.001)
    engine.fault = fault
    runner, store = lab(engine)
    short = runner.submit(make_spec({"user": "x", "T_e": 4, "T_total": 12, "end_probability": None}))
    long = [runner.submit(make_spec({"user": "y" * 40, "T_total": 200, "T_e": 100, "seed": n})) for n in range(2)]
    failed = [wait(store, run) for run in long]
    assert wait(store, short)["status"] == "finished"
    for record, run in zip(failed, long, strict=True):
        types = [event["type"] for event in told(store, run)]
        assert types[-1] == "run_failed"
        assert types.count("run_failed") == 1
        assert [step["step"] for step in record["steps"]] == list(range(len(record["steps"])))
    if isinstance(fault, EngineError):  # one by one they fit: found to be at fault alone, later
        assert all(len(record["steps"]) > 30 for record in failed)
    else:
        assert {record["error"] for record in failed} == {"RuntimeError: the device is lost"}
        assert all(len(record["steps"]) > 5 for record in failed)


def refuse_step_5(store, monkeypatch):
    """The store is full when it is first told of a step 5."""
    append, broken = store.append, []

    def full(batch, feeds=()):
        if not broken and any(event["type"] == "step" and event["step"] == 5 for _, event in batch):
            broken.append(batch)
            raise OSError("the disk is full")
        append(batch, feeds)

    monkeypatch.setattr(store, "append", full)


def test_a_store_that_fails_while_a_device_computes_fails_the_runs_and_the_lab_lives_on(lab, monkeypatch):
    runner, store = lab(Afar(step_s=0.001))
    refuse_step_5(store, monkeypatch)
    run = runner.submit(make_spec({"user": "x", "T_e": 10, "T_total": 30}))
    failed = wait(store, run)
    assert failed["error"] == "OSError: the disk is full"
    assert [step["step"] for step in failed["steps"]] == list(range(5))
    assert wait(store, runner.submit(make_spec({"user": "x", "T_e": 10, "T_total": 30})))["status"] == "finished"


def test_a_pass_that_fails_together_with_the_store_costs_no_step_in_silence(lab, monkeypatch):
    """Else runs went on without a step that nobody wrote."""

    class Both(Afar):
        def step(self, lanes, inputs, asks):
            act, self.act = self.act, None
            try:
                if act is not None:
                    act()
            except OSError as error:  # as an engine whose step fails all the same
                raise EngineError("the logits are not finite") from error
            return ToyEngine.step(self, lanes, inputs, asks)

    runner, store = lab(Both(step_s=0.001))
    refuse_step_5(store, monkeypatch)
    for run in [runner.submit(make_spec({"user": "x", "T_e": 10, "T_total": 30, "seed": n})) for n in range(2)]:
        failed = wait(store, run)
        assert failed["error"] == "OSError: the disk is full"
        assert [step["step"] for step in failed["steps"]] == list(range(len(failed["steps"])))


class Odd(ToyEngine):
    """Cannot step a lane whose prompt begins with "bad", nor measure lengths at all."""

    def __init__(self, **options):
        super().__init__(**options)
        self.bad = set()

    def prefill(self, lane, inputs, ask):
        if inputs[1:4].tolist() == list(b"bad"):
            self.bad.add(lane)
        return super().prefill(lane, inputs, ask)

    def step(self, lanes, inputs, asks):
        if self.bad & set(lanes):
            raise EngineError("the model's logits are not finite numbers")
        return super().step(lanes, inputs, asks)

    def norm_ratios(self, inputs):
        raise OutOfMemory("no memory left")


def test_a_lane_that_cannot_step_fails_alone_and_lengths_are_not_worth_a_run(lab, caplog):
    runner, store = lab(Odd(step_s=0.002))
    good = [runner.submit(make_spec({"user": f"good {i}", "seed": i})) for i in range(3)]
    bad = runner.submit(make_spec({"user": "bad"}))
    assert wait(store, bad)["error"] == "the model's logits are not finite numbers"
    assert "lengths of mixtures could not be told: no memory left" in caplog.text
    for run in good:
        record = wait(store, run)
        assert record["status"] == "finished"
        assert {s["norm_ratio"] for s in record["steps"]} == {None}


@pytest.mark.parametrize("fault", ["mass", "support", "stop", "begin"])
def test_any_fault_of_a_strategy_is_its_own_runs(lab, fault):
    class Fault(Strategy, name="test_fault"):
        """At fault in one place; for tests.

        Formula: none.
        """

        def support(self):
            return "5" if fault == "support" else 0

        def mass(self):
            if fault == "mass":
                raise KeyError("mass")
            return 0.9

        def begin(self, run):
            if fault == "begin":
                raise KeyError("begin")
            return self.mix

        def mix(self, d, step):
            return Stop(object())

    runner, store = lab(ToyEngine(step_s=0.002))
    good = runner.submit(make_spec({"user": "x", "T_total": 80}))
    try:
        run = runner.submit(make_spec({"user": "x", "strategy": "test_fault"}))
        assert "strategy test_fault" in wait(store, run)["error"]
    except BadInput as refused:
        assert "strategy test_fault" in str(refused)
    finally:
        del Strategy.registry["test_fault"]
    assert wait(store, good)["status"] == "finished"


def test_a_cancel_that_cannot_be_written_at_first_still_ends_the_run(lab):
    runner, store = lab(ToyEngine(step_s=0.002))
    append, failures = store.append, [OSError("no space left on device")]

    def once(batch, feeds=()):
        if failures and any(event["type"] == "run_cancelled" for _, event in batch):
            raise failures.pop()
        append(batch, feeds)

    store.append = once
    run = runner.submit(make_spec({"user": "x", "T_e": 200, "T_total": 200, "end_probability": None}))
    while not store.record(run)["steps"]:
        time.sleep(0.002)
    runner.cancel(run)
    assert wait(store, run)["status"] == "failed"


def test_a_store_that_stays_full_does_not_leave_runs_running(lab):
    runner, store = lab(ToyEngine(step_s=0.002))
    run = runner.submit(make_spec({"user": "x", "T_e": 200, "T_total": 200, "end_probability": None}))
    append = store.append

    def full(batch, feeds=()):
        raise OSError("no space left on device")

    store.append = full
    end = time.monotonic() + 5
    while store.status(run) != "failed":
        assert time.monotonic() < end
        time.sleep(0.01)
    store.append = append
    assert wait(store, runner.submit(make_spec({"user": "x"})))["status"] == "finished"


def test_a_failing_store_ends_the_runs_and_not_the_lab(lab):
    runner, store = lab(ToyEngine(step_s=0.001))
    append, broken = store.append, threading.Event()

    def full(batch, feeds=()):
        if broken.is_set() and any(event["type"] == "step" for _, event in batch):
            raise OSError("no space left on device")
        append(batch, feeds)

    store.append = full
    run = runner.submit(make_spec({"user": "x", "T_e": 200, "T_total": 200, "end_probability": None}))
    while len(store.record(run)["steps"]) < 3:
        time.sleep(0.002)
    broken.set()
    record = wait(store, run)
    assert (record["status"], record["error"]) == ("failed", "OSError: no space left on device")
    broken.clear()
    assert wait(store, runner.submit(make_spec({"user": "x"})))["status"] == "finished"


def test_a_spec_the_model_cannot_run_is_refused_before_it_exists(lab):
    runner, store = lab()
    with pytest.raises(BadInput):
        runner.submit(make_spec({"user": "x" * 5000}))
    assert store.summaries(Query()).runs == []


def test_the_record_is_complete_and_consistent(lab):
    runner, store = lab()
    record = wait(
        store, runner.submit(make_spec({"system": "be brief", "user": "x", "T_e": 6, "T_total": 40, "seed": 3}))
    )
    assert record["spec"]["model"] == "toy"
    assert record["prompt"]["text"] == "<|system|>be brief<|user|>x<|assistant|>"
    assert record["thinking"]["steps"] == 6
    assert [s["step"] for s in record["steps"]] == list(range(len(record["steps"])))
    assert record["answer"]["text"] == "".join(s["text"] for s in record["steps"] if s["phase"] == "answer")
    assert record["text"].startswith(record["thinking"]["text"] + "</think><think>")
    for s in record["steps"]:
        assert s["t_ms"] >= 0
        assert s["norm_ratio"] > 0
        assert sum(b["probability"] for b in s["believed"]) + s["tail"] == pytest.approx(1, abs=1e-5)
        assert sum(f["weight"] for f in s["fed"]) == pytest.approx(1, abs=1e-5)
        if s["kind"] == "sampled":
            assert s["norm_ratio"] == pytest.approx(
                runner.engine.norm_ratios([Mixture.token(s["token"]["id"])])[0], rel=1e-5
            )


def test_answer_temperature_applies_after_an_early_end_without_transition(lab):
    """The position is read out anew: greedy answers are the likeliest tokens from the first one on."""
    script = [{65: 0.5, 66: 0.3, 260: 0.2}] * 40
    runner, store = lab(ToyEngine(thinking=script, sway=0))
    spec = {"user": "x", "T_e": 9, "T_total": 30, "transition": "", "answer": {"temperature": 0}}
    for seed in range(5):
        record = wait(store, runner.submit(make_spec({**spec, "seed": seed})))
        assert record["thinking"]["ended_by"] == "end_marker"
        assert record["answer"]["text"] == "A" * 30
        assert {s["token"]["probability"] for s in record["steps"]} == {1.0}


def test_speed_counts_passes_and_not_the_first_step_that_needs_none(lab):
    runner, store = lab(ToyEngine(step_s=0.02))
    short, longer = (
        wait(store, runner.submit(make_spec({"user": "x", "T_e": 0, "T_total": total, "seed": 1})))["timing"]
        for total in (1, 4)
    )
    assert short["tokens_per_second"] == 0
    assert 3 / 0.5 < longer["tokens_per_second"] <= 3 / 0.06 + 1
