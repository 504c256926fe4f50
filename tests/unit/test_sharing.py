"""What prompts begin with is read once, short prompts do not wait for long ones, memory bounds who is let in."""

import threading
import time
from dataclasses import replace

import pytest

from superpose.engine import OutOfMemory
from superpose.engines.toy import ToyEngine
from superpose.problems import BadInput
from superpose.reading import FIRST
from superpose.runner import Runner
from superpose.spec import make_spec
from superpose.store import Store

CHUNK = 8


class Watched(ToyEngine):
    """Tells what was read and when; lets the first run in only when all are there; can lack memory."""

    def __init__(self, **options):
        super().__init__(**options)
        self.info = replace(self.info, chunk=CHUNK)
        self.calls = []
        self.go = threading.Event()
        self.room = None  # positions of all lanes together
        self.forks = True

    def open(self):
        assert self.go.wait(10)
        return super().open()

    def prefill(self, lane, inputs, ask):
        self.calls.append(("read", len(inputs)))
        return super().prefill(lane, inputs, ask)

    def step(self, lanes, inputs, asks):
        self.calls.append(("step", len(lanes)))
        return super().step(lanes, inputs, asks)

    def fork(self, src, upto):
        if not self.forks:
            raise OutOfMemory("no memory")
        self.calls.append(("fork", upto))
        return super().fork(src, upto)

    def fits(self, lengths):
        return self.room is None or sum(lengths) <= self.room


@pytest.fixture
def lab():
    made = []

    def make(**options):
        engine = Watched(**options)
        store = Store(None)
        made.append(Runner(engine, store))
        return engine, made[-1], store

    yield make
    for runner in made:
        runner.close()


def wait(store, run):
    end = time.monotonic() + 20
    while store.status(run) in ("queued", "running"):
        assert time.monotonic() < end, "the run did not end"
        time.sleep(0.002)
    return store.record(run)


def steps(record):
    return [{key: value for key, value in step.items() if key != "t_ms"} for step in record["steps"]]


def together(lab, specs, forks=True):
    """Records of the runs when all of them wait before the first is read, and what the engine did."""
    engine, runner, store = lab()
    engine.forks = forks
    runs = [runner.submit(make_spec(spec)) for spec in specs]
    engine.go.set()
    return [wait(store, run) for run in runs], engine.calls


def alone(lab, spec):
    engine, runner, store = lab()
    engine.go.set()
    return wait(store, runner.submit(make_spec(spec))), engine.calls


def read(calls):
    return sum(count for what, count in calls if what == "read")


SAME = [
    {"user": "the very same prompt", "strategy": name, "T_e": 6, "T_total": 12, "seed": 3, "temperature": temperature}
    for name, temperature in [("non_uniform", 0.7), ("dirichlet", 1.0), ("sample", 0.0), ("top_n_sigma", 1.2)]
]
ENDS = [
    {"user": "a beginning that is shared by both of them, " + end, "T_e": 3, "T_total": 6, "seed": 1}
    for end in ("A", "BCD")
]


@pytest.mark.parametrize("forks", [True, False])
def test_runs_of_one_prompt_read_it_once_and_are_what_each_is_alone(lab, forks):
    records, calls = together(lab, SAME, forks)
    singles = [alone(lab, spec) for spec in SAME]
    assert read(calls) == (1 if forks else 4) * read(singles[0][1])
    for record, (single, _) in zip(records, singles, strict=True):
        assert steps(record) == steps(single)
        assert record["status"] == "finished"
        assert record["timing"]["prefill_s"] > 0


def test_prompts_share_whole_chunks_of_what_they_begin_with(lab):
    records, calls = together(lab, ENDS)
    singles = [alone(lab, spec) for spec in ENDS]
    total = len(singles[1][0]["prompt"]["token_ids"])
    same = len(singles[0][0]["prompt"]["text"].split("A<")[0])  # bytes are the toy's tokens
    (upto,) = [count for what, count in calls if what == "fork"]
    assert 0 < upto == upto // CHUNK * CHUNK <= same + CHUNK
    assert read(calls) == len(singles[0][0]["prompt"]["token_ids"]) + total - upto
    assert [steps(record) for record in records] == [steps(single) for single, _ in singles]


def test_a_late_run_shares_what_a_live_lane_holds(lab):
    engine, runner, store = lab(step_s=0.01)
    engine.go.set()
    first = runner.submit(make_spec({**ENDS[0], "T_e": 50, "T_total": 100}))
    while not any(what == "step" for what, _ in engine.calls):
        time.sleep(0.001)
    second = runner.submit(make_spec(ENDS[1]))
    record = wait(store, second)
    assert any(what == "fork" for what, _ in engine.calls)
    assert steps(record) == steps(alone(lab, ENDS[1])[0])
    runner.cancel(first)


def test_a_fork_of_a_live_run_shares_its_prompt(lab):
    engine, runner, store = lab(step_s=0.01)
    engine.go.set()
    first = runner.submit(make_spec({**ENDS[0], "T_e": 20, "T_total": 60}))
    while len(store.record(first)["steps"]) < 8:
        time.sleep(0.005)
    child = runner.submit(make_spec({**ENDS[0], "T_e": 20, "T_total": 60, "fork": {"run": first, "step": 5}}))
    records = [wait(store, run) for run in (first, child)]
    assert ("fork", len(records[0]["prompt"]["token_ids"])) in engine.calls
    assert steps(records[0]) == steps(records[1])
    assert records[1]["replay"]["words"] == "replay exact"


def test_a_short_prompt_does_not_wait_for_a_long_one(lab):
    specs = [{"user": "long " * 40, "T_e": 2, "T_total": 4}, {"user": "short", "T_e": 2, "T_total": 4}]
    engine, runner, store = lab()
    long, short = (runner.submit(make_spec(spec)) for spec in specs)
    engine.go.set()
    wait(store, long)
    took = {run: store.record(run)["timing"]["prefill_s"] for run in (long, short)}
    assert wait(store, short)["status"] == "finished"
    assert took[short] < took[long]


def test_a_long_prompt_does_not_wait_for_all_the_short_ones_that_come_after_it(lab):
    engine, runner, store = lab()
    specs = [{"user": f"{number}", "T_e": 0, "T_total": 1} for number in range(200)]
    long, *short = (runner.submit(make_spec(spec)) for spec in [{"user": "long " * 40, "T_total": 4}, *specs])
    engine.go.set()
    for run in (long, *short):
        wait(store, run)
    ended = [stored.run for stored in store.events([long, *short], 0, -1) if stored.type == "run_finished"]
    chunks = -(-len(store.record(long)["prompt"]["token_ids"]) // CHUNK)
    assert chunks > 10
    assert ended.index(long) < FIRST * chunks + 4 < len(short)


def test_live_lanes_step_between_the_chunks_of_a_prompt(lab):
    engine, runner, store = lab()
    engine.go.set()
    runner.submit(make_spec({"user": "first", "T_e": 50, "T_total": 400}))
    while not any(what == "step" for what, _ in engine.calls):
        time.sleep(0.001)
    wait(store, runner.submit(make_spec({"user": "much to read " * 20, "T_e": 2, "T_total": 4})))
    reads = [at for at, (what, _) in enumerate(engine.calls) if what == "read"]
    late = [at for at in reads if any(what == "step" for what, _ in engine.calls[:at])]
    assert len(late) > 10
    assert all(engine.calls[at + 1][0] == "step" for at in late)
    assert all(count <= CHUNK for what, count in engine.calls if what == "read")


def test_who_would_overfill_the_memory_waits_and_who_never_fits_is_told(lab):
    engine, runner, store = lab(step_s=0.002)
    engine.go.set()
    spec = {"user": "a prompt", "T_e": 20, "T_total": 60}
    needs = len(alone(lab, spec)[0]["prompt"]["token_ids"]) + 60 + 20  # with some room for the transition
    engine.room = 2 * needs
    runs = [runner.submit(make_spec({**spec, "seed": seed})) for seed in range(5)]
    most = 0
    while any(store.status(run) in ("queued", "running") for run in runs):
        most = max(most, len(engine._lanes))
        time.sleep(0.001)
    assert most == 2
    assert [store.status(run) for run in runs] == ["finished"] * 5
    with pytest.raises(BadInput, match=r"the memory of cpu cannot hold .* tokens of toy; lower T_total"):
        runner.submit(make_spec({**spec, "T_total": 2 * needs}))


def test_a_long_run_waits_for_live_ones_and_fails_in_words_where_it_does_not_fit_alone(lab):
    engine, runner, store = lab(step_s=0.002)
    engine.go.set()
    first = runner.submit(make_spec({"user": "first", "T_e": 20, "T_total": 80}))
    while not any(what == "step" for what, _ in engine.calls):
        time.sleep(0.001)
    engine.room = 150
    long = runner.submit(make_spec({"user": "second", "T_e": 20, "T_total": 400}))  # not refused because of the first
    assert wait(store, first)["status"] == "finished"
    record = wait(store, long)
    assert record["status"] == "failed"
    assert record["error"].startswith("the memory of cpu cannot hold ")
    short = runner.submit(make_spec({"user": "third", "T_e": 2, "T_total": 4}))
    assert wait(store, short)["status"] == "finished"  # the lab lives on


def test_a_twin_has_read_its_prompt_even_if_the_one_it_was_read_with_fails(lab):
    class Failing(Watched):
        def rollback(self, lane, upto):
            raise OutOfMemory("no memory")

    engine, store = Failing(), Store(None)
    runner = Runner(engine, store)
    try:
        engine.go.set()
        spec = {"user": "the very same", "T_e": 4, "T_total": 8, "seed": 2, "temperature": 0.7}
        parent = runner.submit(make_spec(spec))
        wait(store, parent)
        engine.go.clear()
        fork = runner.submit(make_spec({**spec, "temperature": 1.1, "fork": {"run": parent, "step": 0}}))
        twin = runner.submit(make_spec({**spec, "seed": 3}))
        engine.go.set()
        assert wait(store, fork)["status"] == "failed"  # its belief at another temperature takes a rollback
        assert wait(store, twin)["timing"]["prefill_s"] > 0
    finally:
        runner.close()


def test_a_fork_is_no_twin_of_a_run_with_its_prompt(lab):
    spec = {"user": "the very same", "T_e": 6, "T_total": 12, "seed": 2, "temperature": 0.7}
    found = []
    for beside in ([], [{**spec, "seed": 3}]):
        engine, runner, store = lab()
        engine.go.set()
        parent = runner.submit(make_spec(spec))
        wait(store, parent)
        engine.go.clear()
        others = [runner.submit(make_spec(other)) for other in beside]
        fork = runner.submit(make_spec({**spec, "seed": 5, "fork": {"run": parent, "step": 4}}))
        engine.go.set()
        found.append(wait(store, fork))
        assert [wait(store, other)["status"] for other in others] == ["finished"] * len(others)
    without, beside = found
    assert steps(without) == steps(beside)
    assert without["replay"] == beside["replay"] and beside["replay"]["steps"] == 4
