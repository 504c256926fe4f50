"""Durability and order: what append returned for is there, whatever happens next."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from functools import partial

import pytest

from superpose import store_checkpoint
from superpose.events import answered
from superpose.store import INTERRUPTED, LiveRun, Store, StoreUnusable
from superpose.store_events import UnknownRun
from superpose.store_list import Query
from superpose.store_schema import MIGRATIONS

SPEC = {"user": "hi", "model": "toy"}
END = {"type": "run_finished", "timing": {"tokens_per_second": 9.0}}


def step(number):
    return {"type": "step", "step": number, "phase": "answer", "kind": "sampled", "text": "x"}


def test_events_come_back_in_order_and_resume_after_any(tmp_path):
    store = Store(tmp_path)
    one, two = store.create(SPEC), store.create(SPEC)
    for number in range(5):
        store.append([(one, step(number)), (two, step(number))])
    seqs = [stored.seq for stored in store.events([one], 0)]
    assert seqs == list(range(6))
    for seq in seqs:
        later = store.events([one], store.position(one, seq))
        assert [stored.seq for stored in later] == seqs[seq + 1 :]
    both = store.events([one, two], 0)
    assert [stored.position for stored in both] == sorted(stored.position for stored in both)
    assert len(both) == 12
    assert store.position(one, -1) == 0


def test_a_failed_transaction_leaves_nothing_and_numbers_go_on(tmp_path):
    store = Store(tmp_path)
    run = store.create(SPEC)
    with pytest.raises(ValueError, match="JSON"):  # NaN is not JSON
        store.append([(run, step(0)), (run, {**step(1), "entropy": float("nan")})])
    store.append([(run, {**step(0), "text": "NaN, -Infinity"})])  # words are
    assert [(stored.seq, stored.type) for stored in store.events([run], 0)] == [(0, "run_queued"), (1, "step")]
    assert store.record(run)["steps"][0]["text"] == "NaN, -Infinity"


def test_a_refused_act_forgets_nothing_of_live_runs(tmp_path):
    store = Store(tmp_path)
    run = store.create(SPEC)
    store.append([(run, step(number)) for number in range(3)])
    with pytest.raises(LiveRun):
        store.delete(run)
    with pytest.raises(UnknownRun):
        store.annotate("nobody", None, [])
    (row,) = store.summaries(Query()).runs
    assert (row["steps"], row["answer"]) == (3, "xxx")


KILLED = """
import sys
from superpose.store import Store
store = Store(__import__("pathlib").Path(sys.argv[1]))
run = store.create({"user": "hi"})
store.append([(run, {"type": "run_started", "prompt": None, "engine": None, "queue_s": 0})])
print(run, flush=True)
number = 0
while True:
    store.append([(run, {"type": "step", "step": number, "phase": "thinking", "kind": "mixture", "text": "x"})])
    print(number, flush=True)
    number += 1
"""


def test_kill_9_in_mid_run_keeps_every_acknowledged_event(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    run = child.stdout.readline().strip()
    acknowledged = [int(child.stdout.readline()) for _ in range(200)]
    os.kill(child.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout.read().split()]
    child.wait()
    store = Store(tmp_path)
    assert store.status(run) == "running"
    assert store.recover() == 1
    record = store.record(run)
    assert (record["status"], record["error"]) == ("failed", INTERRUPTED)
    steps = [s["step"] for s in record["steps"]]
    assert steps[: len(acknowledged)] == acknowledged
    assert len(steps) - len(acknowledged) in (0, 1)  # one may be written and not yet told
    assert store.recover() == 0


def test_live_runs_of_another_living_process_are_left_alone(tmp_path):
    first, second = Store(tmp_path), Store(tmp_path)
    run = first.create(SPEC)
    assert second.recover() == 0
    first.close()
    assert second.recover() == 1
    assert second.status(run) == "failed"


def test_writers_in_threads_lose_nothing(tmp_path):
    store = Store(tmp_path)
    runs = [store.create(SPEC) for _ in range(4)]

    def write(run):
        for number in range(50):
            store.append([(run, step(number))])

    threads = [threading.Thread(target=write, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        assert [stored.seq for stored in store.events([run], 0)] == list(range(51))


def test_delete_hides_at_once_and_restore_brings_back(tmp_path):
    store = Store(tmp_path)
    run, other = store.create(SPEC), store.create(SPEC)
    for act in (store.delete, lambda run: store.delete(other, run)):
        with pytest.raises(LiveRun, match=f"{run}|{other}"):
            act(run)
    store.append([(run, END), (other, END)])
    store.delete(run)
    assert store.live([run, "x"]) == set()
    for act in (store.status, store.record, store.delete, store.label, lambda run: store.annotate(run, "x", [])):
        with pytest.raises(UnknownRun):
            act(run)
    assert [row["id"] for row in store.summaries(Query()).runs] == [other]
    store.restore(run, other)
    assert store.record(run)["status"] == "finished"
    with pytest.raises(UnknownRun):
        store.delete(other, "nope")
    assert store.status(other) == "finished"  # all or none
    with pytest.raises(UnknownRun):
        store.restore("nope")


def test_deleted_runs_are_purged_after_some_minutes_bit_by_bit(tmp_path, monkeypatch):
    store = Store(tmp_path)
    run, kept = store.create({**SPEC, "user": "remarkable"}), store.create(SPEC)
    store.append([(run, step(number)) for number in range(1200)])
    store.append([(run, END), (kept, END)])
    store.annotate(run, "first", ["tagged"])
    store.delete(run)
    store.purge()
    assert len(store.events([run], 0, -1)) == 1202  # it can still be restored
    store.close()
    monkeypatch.setattr("superpose.store._KEPT", timedelta(0))
    monkeypatch.setattr("superpose.store.time.monotonic", iter(range(100)).__next__)  # one look at the clock a slice
    store = Store(tmp_path)
    assert 0 < len(store.events([run], 0, -1)) < 1202
    with pytest.raises(UnknownRun):  # half a run is none
        store.restore(run)
    store.purge(10)
    assert store.events([run], 0) == []
    with pytest.raises(UnknownRun):
        store.restore(run)
    file = sqlite3.connect(tmp_path / "runs.sqlite3")
    for table in ("runs", "words"):
        assert file.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
    assert file.execute("SELECT count(*) FROM tags").fetchone() == (0,)
    file.execute("INSERT INTO trigrams (trigrams, rank) VALUES ('integrity-check', 1)")


def test_outcomes_hold_the_whole_answer_once_a_run_is_over(tmp_path):
    store = Store(tmp_path)
    run = store.create({**SPEC, "seed": 5})
    thought = {**step(0), "phase": "thinking", "kind": "mixture", "text": "hm"}
    store.append([(run, thought), *((run, step(number)) for number in range(1, 501))])
    assert store.outcomes([run]) == [{"id": run, "status": "queued", "seed": 5, "steps": 501, "answer": None}]
    store.append(
        [
            (run, {"type": "phase_ended", "phase": "answer", "ended_by": "T_total", "reason": "", "text": "!"}),
            (run, {"type": "run_finished"}),
        ]
    )
    assert store.outcomes([run]) == [
        {"id": run, "status": "finished", "seed": 5, "steps": 501, "answer": "x" * 500 + "!"}
    ]
    with pytest.raises(UnknownRun):
        store.outcomes([run, "nowhere"])


def test_unknown_runs(tmp_path):
    store = Store(tmp_path)
    for act in (store.status, store.record, store.delete, store.label):
        with pytest.raises(UnknownRun):
            act("nope")
    with pytest.raises(UnknownRun):
        store.append([("nope", step(0))])


def test_a_file_of_version_1_is_brought_up_to_date(tmp_path):
    (tmp_path / "live").mkdir()
    file = sqlite3.connect(tmp_path / "runs.sqlite3")
    file.executescript(MIGRATIONS[0] + "; PRAGMA user_version = 1")
    for number, tags in enumerate((["kept", "kept"], [])):
        spec = {"user": f"Straße {number}", "system": "s", "strategy": {"name": "nucleus"}, "model": "toy", "seed": 7}
        created = f"2025-03-0{number + 1}T10:00:00.123+00:00"
        file.execute(
            "INSERT INTO runs VALUES (?, ?, 'finished', 'x', ?, 'old', ?, 4, 'It is 42.', 8.5, NULL)",
            (f"run{number}", created, json.dumps(spec), json.dumps(tags)),
        )
        event = {"type": "run_queued", "run": f"run{number}", "seq": 0, "spec": spec, "created_at": created}
        file.execute(
            "INSERT INTO events (run, seq, type, data) VALUES (?, 0, 'run_queued', ?)",
            (f"run{number}", json.dumps(event)),
        )
    file.commit()
    file.close()
    store = Store(tmp_path)
    rows = store.summaries(Query()).runs
    assert [row["id"] for row in rows] == ["run1", "run0"]
    about = {name: rows[1][name] for name in ("strategy", "model", "seed", "steps", "parent", "imported", "name")}
    assert about == {
        "strategy": "nucleus", "model": "toy", "seed": 7, "steps": 4, "parent": None, "imported": False, "name": "old",
    }  # fmt: skip
    for query in (Query(tag="kept"), Query(search="STRASSE 0"), Query(search="42", tag="kept")):
        assert [row["id"] for row in store.summaries(query).runs] == ["run0"]
    assert store.record("run0")["spec"]["user"] == "Straße 0"
    assert store.create(SPEC)
    store.close()
    assert len(Store(tmp_path).summaries(Query()).runs) == 3
    with closing(sqlite3.connect(tmp_path / "runs.sqlite3")) as db:
        assert not db.execute("SELECT * FROM sqlite_schema WHERE name = 'events_run'").fetchall()


def test_a_run_whose_end_cannot_be_written_counts_as_failed(tmp_path):
    store = Store(tmp_path)
    run = store.create(SPEC)
    store.abandon(run)
    assert store.status(run) == "failed"
    assert store.live([run]) == set()


def test_processes_that_start_together_share_the_folder(tmp_path):
    open_store = f"from superpose.store import Store; from pathlib import Path; Store(Path({str(tmp_path)!r})).close()"
    started = [subprocess.Popen([sys.executable, "-c", open_store], stderr=subprocess.PIPE) for _ in range(6)]
    assert [(child.wait(30), child.stderr.read()) for child in started] == [(0, b"")] * 6
    for child in started:
        child.stderr.close()


@pytest.mark.parametrize("spoil", ["file", "garbage"])
def test_an_unusable_folder_is_one_sentence(tmp_path, spoil):
    if spoil == "file":
        (tmp_path / "data").write_text("x")
    else:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "runs.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnusable, match="cannot be used"):
        Store(tmp_path / "data")


def test_a_newer_file_is_refused_in_words(tmp_path):
    Store(tmp_path).close()
    file = sqlite3.connect(tmp_path / "runs.sqlite3")
    file.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    file.close()
    with pytest.raises(StoreUnusable, match="upgrade"):
        Store(tmp_path)
    assert list((tmp_path / "live").iterdir()) == []


def test_text_of_every_kind_comes_back(tmp_path):
    store = Store(tmp_path)
    text = "</script> \u202eRTL\u2028 😀 \x00 \ufffd"
    run = store.create({"user": text})
    assert store.record(run)["spec"]["user"] == text
    assert json.loads(store.events([run], 0)[0].data)["spec"]["user"] == text


def test_what_counts_as_the_answer(tmp_path):
    """Of an ordinary generation all of it; after mixtures or a transition only the answer."""
    store = Store(tmp_path)

    def run(*steps):
        new = store.create(SPEC)
        store.append([(new, {**step(n), "phase": phase, "kind": kind, "text": text})
                      for n, (phase, kind, text) in enumerate(steps)])  # fmt: skip
        live = store.summaries(Query()).runs[0]["answer"]
        store.append([(new, {"type": "run_finished", "timing": None})])
        (row,) = [row for row in store.summaries(Query()).runs if row["id"] == new]
        assert live == row["answer"] == store.outcomes([new])[0]["answer"] == answered(store.record(new))
        return row["answer"]

    drawn, mixed = ("thinking", "sampled", "a"), ("thinking", "mixture", "m")
    answer, forced = ("answer", "sampled", "z"), ("transition", "injected", "t")
    assert run(drawn, drawn) == "aa"  # it ended inside T_e
    assert run(drawn, answer) == "az"
    assert run(drawn, forced, answer) == "z"
    assert run(drawn, mixed, answer) == "z"
    assert run(mixed, mixed) == ""
    assert run(("answer", "mixture", "w"), answer) == "wz"


def text_of(length):
    return {**step(0), "text": "x" * length}


def until(found, what):
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_the_log_goes_into_the_file_beside_the_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(store_checkpoint, "EVERY", 0.01)
    store, file = Store(tmp_path), tmp_path / "runs.sqlite3"
    run = store.create(SPEC)
    for size in (10**6, 2 * 10**6):  # the thread waits for the next commit, too
        store.append([(run, text_of(10**6))])
        until(lambda size=size: file.stat().st_size > size, "no checkpoint was made")
    thread = store._checkpoints._thread
    assert thread.is_alive()
    store.close()
    assert not thread.is_alive()
    assert len(Store(tmp_path).record(run)["steps"]) == 2


def test_no_commit_is_made_during_a_checkpoint(tmp_path, monkeypatch):
    """Before 3.51.3 SQLite could lose one."""
    monkeypatch.setattr(store_checkpoint, "EVERY", 0.001)
    monkeypatch.setattr(store_checkpoint, "IDLE", 0.01)
    store, held = Store(tmp_path), []

    class Watched:
        def __init__(self, db):
            self.db = db

        def execute(self, what):
            held.append(store._lock._is_owned())
            return self.db.execute(what)

        def close(self):
            self.db.close()

    monkeypatch.setattr(store._checkpoints, "_connect", lambda: Watched(sqlite3.connect(tmp_path / "runs.sqlite3")))
    until(lambda: store._checkpoints._thread is None, "the first thread goes on")
    run = store.create(SPEC)
    until(lambda: len(held) > 20 or store.append([(run, step(0))]), "no checkpoints were made")
    assert all(held)
    store.close()


def test_a_thread_that_rests_ends_and_the_next_commit_begins_another(tmp_path, monkeypatch):
    monkeypatch.setattr(store_checkpoint, "EVERY", 0.001)
    monkeypatch.setattr(store_checkpoint, "IDLE", 0.01)
    store, file = Store(tmp_path), tmp_path / "runs.sqlite3"
    run = store.create(SPEC)
    for size in (10**6, 2 * 10**6):
        until(lambda: store._checkpoints._thread is None, "the thread goes on")
        store.append([(run, text_of(10**6))])
        until(lambda size=size: file.stat().st_size > size, "no checkpoint was made")
    store.close()


def test_checkpoints_go_on_after_one_that_failed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(store_checkpoint, "EVERY", 0.001)
    store, file = Store(tmp_path), tmp_path / "runs.sqlite3"
    run = store.create(SPEC)
    broken = []

    class Broken(sqlite3.Connection):
        def execute(self, what, *values):
            if "wal_checkpoint" in what and len(broken) < 3:
                broken.append(what)
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(what, *values)

    connect = partial(sqlite3.connect, file, factory=Broken, check_same_thread=False)
    monkeypatch.setattr(store._checkpoints, "_connect", connect)
    monkeypatch.setattr(store_checkpoint, "IDLE", 0.01)
    until(lambda: store._checkpoints._thread is None, "the first thread goes on")
    until(lambda: len(broken) == 3 or store.append([(run, step(0))]), "no checkpoint failed")
    store.append([(run, text_of(10**6))])
    until(lambda: file.stat().st_size > 10**6, "no checkpoint was made")
    assert caplog.text.count("could not be put into its file: database or disk is full") == 1
    store.close()


def test_a_commit_makes_no_checkpoint_of_its_own_but_of_a_very_long_log(tmp_path, monkeypatch):
    monkeypatch.setattr(store_checkpoint, "EVERY", 1000)
    store, file = Store(tmp_path), tmp_path / "runs.sqlite3"
    run = store.create(SPEC)
    before = file.stat().st_size
    for _ in range(30):  # of 50 pages; by itself SQLite would make one at 1,000
        store.append([(run, text_of(200_000))])
    assert file.stat().st_size == before
    for _ in range(store_checkpoint.LATEST // 50):
        store.append([(run, text_of(200_000))])
    assert file.stat().st_size > before + 10**7
    store.close()


def test_a_run_that_begins_or_ends_is_on_the_disk(tmp_path, monkeypatch):
    store, synced, fsync = Store(tmp_path), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino) or fsync(file))
    log = (tmp_path / "runs.sqlite3-wal").stat().st_ino
    run = store.create(SPEC)
    assert synced == [log]
    store.append([(run, step(0))])
    assert synced == [log]
    store.append([(run, END)])
    assert synced == [log, log]


def test_a_run_is_kept_where_no_thread_can_be_started(tmp_path, monkeypatch, caplog):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        store = Store(tmp_path)
        run = store.create(SPEC)
        store.append([(run, step(0))])
    assert "could not be put into its file: can't start new thread" in caplog.text
    store.append([(run, END)])
    store.close()
    assert [stored.type for stored in Store(tmp_path).events([run], 0)] == ["run_queued", "step", "run_finished"]


def test_a_store_in_memory_has_no_thread():
    store = Store(None)
    store.append([(store.create(SPEC), step(0))])
    assert store._checkpoints._thread is None


def test_events_are_found_near_the_end_and_far_from_it(tmp_path):
    store = Store(tmp_path)
    runs = [store.create(SPEC) for _ in range(3)]
    for number in range(400):
        store.append([(run, step(number)) for run in runs])
    for wanted in (runs[:1], runs[::2], runs):
        every = store.events(wanted, 0, limit=-1)
        assert [stored.position for stored in every] == sorted(stored.position for stored in every)
        assert len(every) == 401 * len(wanted)
        for at in (0, 5, len(every) // 2, len(every) - 9, len(every) - 1):  # by the index, and without it
            assert store.events(wanted, every[at].position, limit=7) == every[at + 1 : at + 8]
