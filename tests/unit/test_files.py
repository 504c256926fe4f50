"""Runs as files: what is exported comes back the same; what is broken or hostile is refused whole, in one sentence."""

import csv
import io
import json
import time

import pytest

from superpose.engines.toy import ToyEngine
from superpose.exports import export, file_name
from superpose.imports import CUT_OFF, MAX_BYTES, MAX_RUNS, read
from superpose.problems import BadInput
from superpose.runner import Runner
from superpose.spec import make_spec
from superpose.store import Store
from superpose.store_list import Query

LONG = {"user": "x", "T_e": 6, "T_total": 16, "end_probability": None, "seed": 3}


@pytest.fixture(scope="module")
def store():
    """Runs of many kinds, each under its name: how they ended, what they were fed, where they came from."""
    store = Store(None)
    runner = Runner(ToyEngine(step_s=0.001), store)

    def run(name, wait=True, **spec):
        made = runner.submit(make_spec({**LONG, **spec}))
        store.annotate(made, name, ["a tag", name])
        while wait and store.live([made]):
            time.sleep(0.002)
        return made

    parent = run("mixture")
    run("no thinking", T_e=0, system="be brief")
    run("all thinking", T_e=16)
    run("wide", strategy={"name": "nucleus", "top_p": 1.0})
    run("switching", strategy="swi_reasoning")
    run("noisy", strategy="soft_tokens")
    run("😀 \u2028 = \x00 </script>", user="😀 \u2028\x00", temperature=1.5)
    run("fork", fork={"run": parent, "step": 4, "mixture": {"ids": [65, 66], "weights": [0.5, 0.5], "combine": "max"}})
    run("forced", fork={"run": parent, "step": 3, "mixture": {"ids": [67], "weights": [1.0]}}, strategy="sample")
    paused = run("paused", wait=False, T_total=4000)
    while len(store.record(paused)["steps"]) < 3:
        time.sleep(0.002)
    runner.pause(paused)
    while store.status(paused) != "paused":
        time.sleep(0.002)
    runner.resume(paused)
    while store.status(paused) == "paused":
        time.sleep(0.002)
    runner.cancel(paused)
    while store.live([paused]):
        time.sleep(0.002)
    never = store.create({**store.spec(parent)})
    store.annotate(never, "never begun", [])
    store.append([(never, {"type": "run_cancelled"})])
    lost = store.create({**store.spec(parent)})
    store.annotate(lost, "lost", [])
    store.append([(lost, {"type": "run_failed", "error": "boom"})])
    store.annotate(store.create(store.spec(parent)), "queued", [])
    runner.close()
    return store


def ids(store):
    return {row["name"]: row["id"] for row in store.summaries(Query(limit=200)).runs}


def exported(store, runs, form, listed=False):
    return "".join(export(store, runs, form, listed)).encode()


def moved(store, run):
    return {key: value for key, value in store.record(run).items() if key != "id"}


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_what_is_exported_comes_back_the_same(store, form):
    elsewhere = Store(None)
    names = [name for name in ids(store) if name != "queued"]
    assert len(names) == 12
    for name in names:
        (run,) = elsewhere.adopt(read(exported(store, [ids(store)[name]], form)))
        assert moved(elsewhere, run) == moved(store, ids(store)[name]), name
        assert run != ids(store)[name]
        (row,) = elsewhere.summaries(Query(limit=1, search=f'"{name}"' if name.isascii() else name)).runs
        (old,) = [row for row in store.summaries(Query(limit=200)).runs if row["name"] == name]
        assert row == {**old, "id": run, "imported": True}
        again = exported(elsewhere, [run], "json")
        assert again.replace(run.encode(), ids(store)[name].encode()) == exported(store, [ids(store)[name]], "json")


def test_events_come_back_one_by_one(store):
    elsewhere = Store(None)
    run = ids(store)["paused"]
    (new,) = elsewhere.adopt(read(exported(store, [run], "jsonl")))
    old_events = [stored.data.replace(run, new) for stored in store.events([run], 0, -1)]
    assert [stored.data for stored in elsewhere.events([new], 0, -1)] == old_events
    assert "run_paused" in {stored.type for stored in elsewhere.events([new], 0, -1)}


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_many_runs_come_together_as_one_family(store, form):
    elsewhere = Store(None)
    known = ids(store)
    new = elsewhere.adopt(read(exported(store, [known["fork"], known["mixture"], known["forced"]], form, listed=True)))
    by_name = {elsewhere.label(run)["name"]: run for run in new}
    told = elsewhere.family(by_name["forced"])
    assert told["root"] == by_name["mixture"]
    assert {row["name"]: (row["parent"], row["step"], row["edit"]) for row in told["runs"]} == {
        "mixture": (None, None, None),
        "fork": (by_name["mixture"], 4, "weights edited"),
        "forced": (by_name["mixture"], 3, "forced `C`"),
    }
    assert elsewhere.spec(by_name["fork"])["fork"]["run"] == known["mixture"]  # what was recorded stays


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_run_that_was_live_ends_honestly(store, form):
    elsewhere = Store(None)
    (run,) = elsewhere.adopt(read(exported(store, [ids(store)["queued"]], form)))
    assert (elsewhere.status(run), elsewhere.record(run)["error"]) == ("failed", CUT_OFF)
    assert elsewhere.live([run]) == set()


def test_an_imported_run_can_be_forked(store):
    elsewhere = Store(None)
    run = ids(store)["mixture"]
    (new,) = elsewhere.adopt(read(exported(store, [run], "json")))
    runner = Runner(ToyEngine(), elsewhere)
    spec = {**elsewhere.spec(new), "fork": {"run": new, "step": 5, "mixture": None}}
    child = runner.submit(make_spec(spec))
    while elsewhere.live([child]):
        time.sleep(0.002)
    runner.close()
    tokens = [step["token"]["id"] for step in store.record(run)["steps"]]
    assert [step["token"]["id"] for step in elsewhere.record(child)["steps"]] == tokens
    assert [row["parent"] for row in elsewhere.family(new)["runs"]] == [None, new]


def test_fields_of_a_newer_superpose_are_kept(store):
    lines = [json.loads(line) for line in exported(store, [ids(store)["mixture"]], "jsonl").splitlines()]
    lines[0]["spec"]["luck"] = {"charm": [1, 2.5, None, "é"]}
    lines[4]["heat"] = {"of": ["all", {"layers": 1e-9}]}
    elsewhere = Store(None)
    (run,) = elsewhere.adopt(read("\n".join(map(json.dumps, lines)).encode()))
    record = elsewhere.record(run)
    assert record["spec"]["luck"] == lines[0]["spec"]["luck"]
    assert [step for step in record["steps"] if step.get("heat") == lines[4]["heat"]]
    pretty = json.dumps(record, indent=2).encode()
    (again,) = elsewhere.adopt(read(b"\xef\xbb\xbf" + pretty))
    assert moved(elsewhere, again) == moved(elsewhere, run)


def test_tables_hold_every_step_and_no_formula(store):
    known = ids(store)
    lines = exported(store, [known["wide"], known["mixture"]], "csv").decode()
    rows = list(csv.DictReader(io.StringIO(lines, newline="")))
    steps = [(run, step) for run in (known["wide"], known["mixture"]) for step in store.record(run)["steps"]]
    assert len(rows) == len(steps)
    for row, (run, step) in zip(rows, steps, strict=True):
        assert (row["run"], int(row["step"]), row["phase"], row["kind"]) == (
            run,
            step["step"],
            step["phase"],
            step["kind"],
        )
        assert float(row["entropy"]) == step["entropy"]
        fed = [(int(token), float(weight)) for token, weight in (pair.split(":") for pair in row["fed"].split())]
        assert fed == [(f["id"], f["weight"]) for f in step["fed"]]
        assert float(row["top_fed_weight"]) == fed[0][1]
        assert row["token_text"].removeprefix("'") == step["token"]["text"].removeprefix("'")
        assert row["token_text"][:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
        assert row["reason"].removeprefix("'") == (step["reason"] or "")


def test_names_of_files_are_plain(store):
    run = ids(store)["mixture"]
    for name, file in {
        None: f"superpose-{run}.csv", "My Run!": f"superpose-my-run-{run}.csv",
        '"\r\nSet-Cookie: a=b; ../..': f"superpose-set-cookie-a-b-{run}.csv", "数": f"superpose-{run}.csv",
    }.items():  # fmt: skip
        store.annotate(run, name, [])
        assert file_name(store, [run], "csv") == file
    store.annotate(run, "mixture", ["a tag", "mixture"])
    assert file_name(store, [run, run], "jsonl") == "superpose-2-runs.jsonl"


# -- hostile files --------------------------------------------------------------------------------------------


def lines_of(store):
    return [json.loads(line) for line in exported(store, [ids(store)["mixture"]], "jsonl").splitlines()]


def refused(data):
    with pytest.raises(BadInput) as refusal:
        read(data if isinstance(data, bytes) else data.encode())
    sentence = str(refusal.value)
    assert refusal.value.field == "file"
    assert len(sentence) < 300
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "neither JSON nor JSON lines"),
        (b"  \n", "neither JSON nor JSON lines"),
        (b"PK\x03\x04" + bytes(99), "neither JSON nor JSON lines"),
        (b"\x1f\x8b\x08" + bytes(range(256)), "neither JSON nor JSON lines"),
        (b"{\xff\xfe", "neither JSON nor JSON lines"),
        (b"run,step\n", "neither JSON nor JSON lines"),
        (b"{", "is not valid JSON"),
        (b"[]", "the file holds 0 runs"),
        (b"{}", "the record: id is required"),
        (b"[1]", "record 1 of the list: the body must be a JSON object"),
        (b"[[]]", "must be a JSON object"),
        (b"[" * 100_000, "the file is nested too deeply"),
        (b'{"id":' * 100_000, "the file is nested too deeply"),
        (b'{"type": NaN}', "holds the number NaN"),
        (b'{"id": 1e999}', "only finite numbers are allowed"),
        (b'{"id": -Infinity}', "only finite numbers are allowed"),
        (b'{"id": ' + b"9" * 100_000 + b"}", "whole numbers must be within 9007199254740991"),
        (b'{"id": 9007199254740992}', "whole numbers must be within"),
        (b'{"id": "\\ud800"}', "lone surrogate"),
        (b'{"\\udfff": 1}', "lone surrogate"),
        (b'{"type": "luck"}', "line 1 is not an event that this superpose knows: type 'luck'"),
        (b'{"type": ["step"]}', "line 1 is not an event"),
        (b'{"type": "step"}', "line 1: run must be text"),
        (b'{"type": "step", "run": "a", "seq": 0}', "does not begin with run_queued"),
        (b'{"type": "run_queued", "run": "a", "seq": 0}', "line 1: run_queued.spec is required"),
        (b"{" + b" " * MAX_BYTES, "at most 64000000 are allowed"),
    ],
)  # fmt: skip
def test_files_that_are_no_runs_are_refused(data, sentence):
    assert sentence in refused(data)


def set_at(value, path, new):
    """The value with another one at the path; `...` takes it away."""
    for key in path[:-1]:
        value = value[key]
    if new is ...:
        del value[path[-1]]
    else:
        value[path[-1]] = new


def nest(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


SPOILED_STEPS = [
    (["step"], 7, "step 7 stands where step 2 belongs"), (["step"], -1, "at least 0"), (["step"], 2.0, "whole number"),
    (["step"], True, "step must be a whole number"), (["step"], ..., "step is required"),
    (["entropy"], None, "entropy must be a number"), (["entropy"], "1", "entropy must be a number"),
    (["entropy"], 1e300, "at most"), (["tail"], 1.5, "tail must be at most"), (["tail"], [], "tail must be a number"),
    (["phase"], "dream", "phase"), (["kind"], None, "kind"), (["combine"], "product", "combine"),
    (["fed"], [], "fed"), (["fed"], [{"id": 1, "text": "a", "weight": 1.0}] * 2, "names a token twice"),
    (["fed"], [{"id": i, "text": "a", "weight": 0.01} for i in range(65)], "fed must have at most 64"),
    (["fed", 0, "id"], 2**31, "id must be below"), (["fed", 0, "id"], -1, "id must be at least 0"),
    (["fed", 0, "id"], "5", "id must be a whole number"), (["fed", 0, "weight"], ..., "weight is required"),
    (["fed", 0, "text"], "x" * 10_001, "at most 10000 characters"), (["token"], None, "token must be"),
    (["token", "text"], 5, "text must be text"), (["believed", 0, "probability"], -0.5, "probability must be at least"),
    (["drawn"], None, "drawn"), (["fed_rest"], {}, "count is required"), (["norm_ratio"], -1, "norm_ratio"),
    (["t_ms"], True, "t_ms must be a number"), (["extra"], nest(500), "nested too deeply"),
    (["rescale"], "longer", "rescale"), (["text"], None, "text must be text"),
    (["believed"], [], "believed must have at least 1"), (["fed", 0, "weight"], 5, "step 2 cannot be fed: a mixture's"),
    (["rescale"], 0.0, "positive finite number"),
    (["combine"], "slerp", "step 2 cannot be fed: a mixture combines"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "sentence"), SPOILED_STEPS)
def test_spoiled_steps_are_refused_in_both_forms(store, path, value, sentence):
    lines = lines_of(store)
    set_at(next(line for line in lines if line["type"] == "step" and line["step"] == 2), path, value)
    assert sentence in refused("\n".join(map(json.dumps, lines)))
    record = store.record(ids(store)["mixture"])
    record = json.loads(json.dumps(record))
    set_at(record["steps"][2], path, value)
    assert sentence in refused(json.dumps(record))


SPOILED_SPECS = [
    (["user"], ..., "user is required"), (["user"], 5, "user must be text"), (["strategy"], "sample", "strategy"),
    (["strategy", "name"], "", "name must not be empty"), (["strategy", "name"], "x" * 101, "at most 100"),
    (["seed"], -1, "seed must be at least 0"), (["seed"], 1.5, "whole number"), (["model"], 5, "model must be text"),
    (["T_e"], None, "T_e must be a whole number"), (["luck"], nest(30), "nested too deeply"),
    (["luck"], "x" * 21_000, "at most 20000 are allowed"), (["fork"], {"run": "x"}, "fork.step is required"),
    (["fork"], {"run": "x", "step": 0, "mixture": {"ids": [], "weights": []}}, "ids"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "sentence"), SPOILED_SPECS)
def test_spoiled_specs_are_refused_in_both_forms(store, path, value, sentence):
    lines = lines_of(store)
    set_at(lines[0]["spec"], path, value)
    assert sentence in refused("\n".join(map(json.dumps, lines)))
    record = json.loads(json.dumps(store.record(ids(store)["mixture"])))
    set_at(record["spec"], path, value)
    assert sentence in refused(json.dumps(record))


SPOILED_RECORDS = [
    (["text"], "other", "text does not agree with its steps"),
    (["thinking", "text"], "?", "thinking.text is not the text of its steps"),
    (["thinking", "steps"], 99, "thinking does not agree"), (["answer", "ended_by"], "luck", "answer.ended_by"),
    (["luck"], 1, "luck is not a known field"), (["status"], "done", "status must be one of"),
    (["error"], "oh", "error does not agree"), (["created_at"], "yesterday", "a time must be written like"),
    (["created_at"], "2026-02-31T00:00:00Z", "is no time"), (["created_at"], "0001-01-01T00:00:00Z", "a time must"),
    (["created_at"], 5, "created_at must be text"), (["name"], "x" * 201, "name must have at most 200"),
    (["tags"], ["x"] * 21, "tags must have at most 20"), (["tags"], [""], "must not be empty"),
    (["steps"], {}, "steps must be a list"),
    (["steps"], None, "steps must be a list"), (["id"], "", "id must not be empty"), (["prompt"], [], "prompt"),
    (["prompt", "token_ids"], [2**31], "token_ids.0 must be below"),
    (["timing", "queue_s"], -1, "timing.queue_s must be at least"),
    (["steps", 1, "run"], "x", "steps does not agree"), (["steps", 1, "type"], "run_failed", "steps does not agree"),
    (["prompt"], None, "engine does not agree"), (["engine"], None, "prompt does not agree"),
    (["replay"], {"type": "run_failed"}, "replay"), (["engine"], "gpu", "engine must be a JSON object"),
    (["engine"], {str(i): i for i in range(101)}, "engine must have at most 100"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "sentence"), SPOILED_RECORDS)
def test_spoiled_records_are_refused(store, path, value, sentence):
    record = json.loads(json.dumps(store.record(ids(store)["mixture"])))
    set_at(record, path, value)
    assert sentence in refused(json.dumps(record))


def test_events_out_of_order_are_refused(store):
    lines = lines_of(store)

    def renumbered(order):
        return "\n".join(json.dumps({**lines[i], "seq": seq}) for seq, i in enumerate(order))

    last = len(lines) - 1
    steps = [place for place, line in enumerate(lines) if line["type"] == "step"]
    assert "goes on after run_finished" in refused(renumbered([*range(last), last, last]))
    assert "has run_started twice" in refused(renumbered([0, 1, 1, 2]))
    assert "has run_queued twice" in refused(renumbered([0, 0]))
    assert "step 1 stands where step 0 belongs" in refused(renumbered([0, 1, steps[1]]))
    assert "step 0 stands where step 1 belongs" in refused(renumbered([0, 1, steps[0], steps[0]]))
    assert "does not begin with run_queued" in refused(renumbered([1, 0]))
    plain = list(map(json.dumps, lines))
    assert "seq must be 1" in refused("\n".join([plain[0], plain[0]]))
    assert "seq must be 2" in refused("\n".join([*plain[:2], plain[3]]))
    assert "line 3 is not valid JSON" in refused("\n".join([*plain[:2], plain[2][:-5], *plain[3:]]))
    two = json.dumps([store.record(ids(store)["mixture"])] * 2)
    assert "two records with one id" in refused(two)


def test_too_many_runs_are_refused(store):
    first = lines_of(store)[0]
    lines = [json.dumps({**first, "run": str(number)}) for number in range(MAX_RUNS + 1)]
    assert f"run {MAX_RUNS + 1} of the file" in refused("\n".join(lines))
    assert len(read("\n".join(lines[:MAX_RUNS]).encode())) == MAX_RUNS


def test_a_store_that_fails_in_mid_import_keeps_nothing(store, monkeypatch):
    elsewhere = Store(None)
    found = read(exported(store, [ids(store)["mixture"], ids(store)["wide"]], "jsonl"))
    found[1].events.append({"type": "step", "phase": "answer", "text": "\ud800"})
    with pytest.raises(ValueError):
        elsewhere.adopt(found)
    assert elsewhere.summaries(Query()).runs == []
    assert elsewhere.adopt(found[:1])


def test_runs_that_claim_to_be_their_own_ancestors_are_harmless(store):
    elsewhere = Store(None)
    lines = [lines_of(store)[0] for _ in range(3)]
    for number, line in enumerate(lines):
        line["run"] = f"r{number}"
        line["spec"] = {**line["spec"], "fork": {"run": f"r{(number + 1) % 3}", "step": 0, "mixture": None}}
    new = elsewhere.adopt(read("\n".join(map(json.dumps, lines)).encode()))
    for run in new:
        assert {row["id"] for row in elsewhere.family(run)["runs"]} == set(new)
