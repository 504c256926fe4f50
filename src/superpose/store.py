"""Runs and their events, durable and ordered, in one SQLite file.

Write-ahead logging: an append that returned is in the file and outlives the process, kill -9 included. The disk
itself is synced when a run is created or ends, so that a power cut costs at most the last steps of live runs.
Events are the truth; the columns of `runs` are what lists need. Several processes may share a folder: each holds
a lock file while it lives, by which the others tell its live runs from interrupted ones.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic_core import to_json

from superpose.events import TERMINAL, Event, answered, is_ordinary, queued
from superpose.imports import Foreign
from superpose.store_checkpoint import LATEST, Checkpoints
from superpose.store_events import Events, Feed, UnknownRun
from superpose.store_list import SHOWN, Lists, Page, Query, label, prompt, strategy, title
from superpose.store_schema import MIGRATIONS
from superpose.store_words import SEARCHED, Words

log = logging.getLogger("superpose")

INTERRUPTED = "interrupted: the server stopped while this run was live; what it had is kept"
_FILE = "runs.sqlite3"
_LIVE = "status IN ('queued', 'running', 'paused')"
_STATUS = {"run_started": "running", "run_resumed": "running", "run_paused": "paused"}
_KEPT = timedelta(minutes=5)  # how long a deleted run can be restored for certain
_SLICE = 500  # events of a deleted run that go in one transaction: it holds up those who write


class LiveRun(ValueError):
    """The run with this id is live, and so cannot be deleted."""


class StoreUnusable(RuntimeError):
    """The data folder or its file cannot be used; the message is one sentence."""


class _Tally:
    """What lists show of a live run, counted as its events come."""

    def __init__(self) -> None:
        self.seq = self.steps = 0
        self._texts = {"thinking": "", "answer": ""}
        self._ordinary = True

    @property
    def answer(self) -> str:
        """The beginning of what counts as the answer, as in `answered`."""
        return self._texts["thinking"] * self._ordinary + self._texts["answer"]

    @property
    def text(self) -> str:
        """What is searched: the answer, or the thinking where there is none."""
        return self.answer or self._texts["thinking"]

    def count(self, event: Event) -> None:
        self.seq += 1
        if event["type"] == "step":
            self.steps += 1
            self._ordinary &= is_ordinary(event)
            phase = event["phase"]
            if phase in self._texts and len(self._texts[phase]) < SEARCHED:
                self._texts[phase] += event["text"]


class Store(Events):
    """The runs of one data folder. `folder=None` keeps them in memory."""

    def __init__(self, folder: Path | None) -> None:
        folder = folder and folder.resolve()  # whatever strategies make of the working folder
        self._owner = secrets.token_hex(8)
        self._folder = folder
        self._alive: FileLock | None = None
        self._lock = threading.RLock()
        self._listeners: set[Callable[[], None]] = set()
        self._tallies: dict[str, _Tally] = {}
        self._lost: set[str] = set()
        self._reading = self._lock if folder is None else threading.RLock()
        try:
            if folder is not None:
                (folder / "live").mkdir(parents=True, exist_ok=True)
                self._alive = FileLock(self._lock_file(self._owner), thread_local=False)
                self._alive.acquire()
            path = ":memory:" if folder is None else str(folder / _FILE)
            self._db = _connect(path)
            self._reader = self._db if folder is None else _connect(path)  # of lists: they hold up no run
            self._checkpoints = Checkpoints(partial(_connect, path), self._lock)
        except (OSError, sqlite3.Error) as error:
            self._end_life()
            raise StoreUnusable(f"the data folder {folder} cannot be used: {error}") from error
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {LATEST}")
            self._words = self._migrate()
            self._lists = Lists(self._words, self._reader, self._reading)
            self.purge()
        except (sqlite3.Error, StoreUnusable) as error:
            self.close()
            if isinstance(error, StoreUnusable):
                raise
            raise StoreUnusable(f"the run store in {folder} cannot be used: {error}") from error

    def close(self) -> None:
        """Closes the file."""
        self._checkpoints.close()
        with self._reading, self._lock:
            self._reader.close()
            self._db.close()
        self._end_life()

    def _end_life(self) -> None:
        if self._alive is not None and self._alive.is_locked:
            self._alive.release()
            Path(self._alive.lock_file).unlink(missing_ok=True)

    # -- writing ------------------------------------------------------------------------------------------

    def create(self, spec: dict[str, Any], past: Sequence[Event] = ()) -> str:
        """The id of a new queued run, its first event on disk; a fork's `past` are the events that it begins with."""
        with self._lock, self._transaction():
            run = self._begin(queued(spec, _now()))
            self._insert(*[(run, event) for event in past])
            if past:
                self._db.execute(
                    "INSERT INTO feeds SELECT ?, step, ids, weights FROM feeds WHERE run = ? AND step < ?",
                    (run, spec["fork"]["run"], spec["fork"]["step"]),
                )
        self._sync()
        self._ring()
        return run

    def append(self, batch: Sequence[tuple[str, Event]], feeds: Sequence[Feed] = ()) -> None:
        """Writes the events of any number of runs, and large mixtures, in one transaction; then rings the listeners.

        On return all of them are in the file, and on the disk if a run has ended; on an error none is.
        """
        with self._lock, self._transaction():
            self._insert(*batch)
            if feeds:
                self._db.executemany("INSERT INTO feeds VALUES (?, ?, ?, ?)", feeds)
        if any(event["type"] in TERMINAL for _, event in batch):
            self._sync()
        self._ring()

    def adopt(self, found: Sequence[Foreign]) -> list[str]:
        """The new ids of runs that come from elsewhere, all or none; they count as imported."""
        ids: dict[str, str] = {}
        with self._lock, self._transaction():
            for foreign in found:
                first, *rest = foreign.events
                ids[foreign.id] = run = self._begin(first, foreign.name, foreign.tags, imported=True)
                self._insert(*[(run, event) for event in rest])
            for run in ids.values():  # a family that comes together stays one
                parent = self._row(run)["parent"]
                self._db.execute("UPDATE runs SET parent = ? WHERE id = ?", (ids.get(parent, parent), run))
        self._sync()
        self._ring()
        return list(ids.values())

    def abandon(self, run: str) -> None:
        """Counts a run as failed in this process when its end cannot be written; recovery writes it later."""
        with self._lock:
            self._lost.add(run)
        self._ring()

    def recover(self) -> int:
        """Marks runs that a dead process left live as failed ("interrupted"); how many there were."""
        with self._lock, self._transaction():
            live = self._db.execute(f"SELECT id, owner FROM runs WHERE {_LIVE}").fetchall()
            dead = {owner for owner in {row["owner"] for row in live} if not self._lives(owner)}
            lost = [row["id"] for row in live if row["owner"] in dead]
            for run in lost:
                self._insert((run, {"type": "run_failed", "error": INTERRUPTED}))
        if lost:
            self._sync()
            self._ring()
        return len(lost)

    def annotate(self, run: str, name: str | None, tags: list[str]) -> None:
        """Sets a run's name and tags. Raises UnknownRun."""
        with self._lock:
            row = self._row(run)
            spec = json.loads(row["spec"])
            with self._transaction():
                self._db.execute(
                    "UPDATE runs SET name = ?, tags = ?, title = ? WHERE id = ?",
                    (name, _dump(tags), title(name, spec), run),
                )
                self._db.execute("DELETE FROM tags WHERE place = ?", (row["place"],))
                self._tag(row["place"], tags)
                self._words.put(row["place"], label=label(name, tags, spec))

    def delete(self, *runs: str) -> None:
        """Hides runs everywhere, all or none; they can be restored for some minutes. Raises UnknownRun, LiveRun."""
        with self._lock:
            for run in runs:
                self._row(run)
            for run in self.live(runs):
                raise LiveRun(run)
            with self._transaction():
                self._db.executemany("UPDATE runs SET deleted_at = ? WHERE id = ?", [(_now(), run) for run in runs])
        self.purge()
        self._ring()

    def restore(self, *runs: str) -> None:
        """Brings deleted runs back, all or none. Raises UnknownRun when one is gone for good."""
        with self._lock, self._transaction():
            for run in runs:
                if not self._rows("SELECT 1 FROM events WHERE run = ? AND seq = 0", (run,)):  # a purge begins with it
                    raise UnknownRun(run)
            self._db.executemany("UPDATE runs SET deleted_at = NULL WHERE id = ?", [(run,) for run in runs])
        self._ring()

    def purge(self, seconds: float = 0.25) -> None:
        """Removes runs for good that were deleted some minutes ago, as far as it comes in this time."""
        before = (datetime.now(UTC) - _KEPT).isoformat(timespec="milliseconds")
        end = time.monotonic() + seconds
        expired = "SELECT id, place FROM runs WHERE deleted_at < ? LIMIT 1"
        while self._rows(expired, (before,)):
            with self._lock, self._transaction():
                for row in self._rows(expired, (before,)):  # asked again: another process may purge too
                    events = "SELECT position FROM events WHERE run = ? ORDER BY seq LIMIT ?"
                    gone = self._db.execute(f"DELETE FROM events WHERE position IN ({events})", (row["id"], _SLICE))
                    if gone.rowcount < _SLICE:
                        self._words.remove(row["place"])
                        self._db.execute("DELETE FROM runs WHERE id = ?", (row["id"],))
                        self._tallies.pop(row["id"], None)
            if time.monotonic() > end:
                return

    # -- reading ------------------------------------------------------------------------------------------

    def live(self, runs: Sequence[str]) -> set[str]:
        """Those of the runs that are queued, running or paused."""
        marks = ",".join("?" * len(runs))
        rows = self._rows(f"SELECT id FROM runs WHERE id IN ({marks}) AND {_LIVE}", runs)
        return {row["id"] for row in rows} - self._lost

    def status(self, run: str) -> str:
        """A run's status. Raises UnknownRun."""
        status: str = self._row(run)["status"]
        return "failed" if run in self._lost else status

    def outcomes(self, runs: Sequence[str]) -> list[dict[str, Any]]:
        """What came of each run: status, seed, steps, and its whole answer once it is over. Raises UnknownRun."""
        found = []
        for run in runs:
            row, tally, answer = self._row(run), self._tallies.get(run), None
            if not self.live([run]):
                answer = answered(self.record(run))
            steps = row["steps"] if tally is None else tally.steps
            seed = json.loads(row["spec"]).get("seed")
            found.append({"id": run, "status": self.status(run), "seed": seed, "steps": steps, "answer": answer})
        return found

    def summaries(self, query: Query) -> Page:
        """A page of runs for lists. Raises BadInput for a cursor that is none."""
        page = self._lists.page(query)
        for about in page.runs:
            tally = self._tallies.get(about["id"])
            if tally is not None:  # live here: the columns are written at its end
                about.update(steps=tally.steps, answer=tally.answer[:SHOWN])
            if about["id"] in self._lost:
                about["status"] = "failed"
        return page

    def facets(self) -> dict[str, list[dict[str, Any]]]:
        """What lists can be filtered by, with how many runs each: strategies, models, statuses, tags."""
        return self._lists.facets()

    def family(self, run: str) -> dict[str, Any]:
        """Where a run comes from and what comes from it, in words. Raises UnknownRun."""
        self._row(run)
        return self._lists.family(run)

    # -- bell ---------------------------------------------------------------------------------------------

    def listen(self, bell: Callable[[], None]) -> Callable[[], None]:
        """Rings `bell` after every append, from the writer's thread; the answer ends it."""
        self._listeners.add(bell)
        return lambda: self._listeners.discard(bell)

    def _ring(self) -> None:
        for bell in list(self._listeners):  # without the lock, which a checkpoint may hold just now
            bell()

    def _lock_file(self, owner: str) -> str:
        assert self._folder is not None
        return str(self._folder / "live" / f"{owner}.lock")

    def _lives(self, owner: str) -> bool:
        """Whether the process that started a run still holds its lock file."""
        if owner == self._owner or self._folder is None:
            return True
        try:
            with FileLock(self._lock_file(owner), timeout=0):
                pass
        except Timeout:
            return True
        Path(self._lock_file(owner)).unlink(missing_ok=True)
        return False

    # -- inside -------------------------------------------------------------------------------------------

    def _begin(self, event: Event, name: str | None = None, tags: Sequence[str] = (), imported: bool = False) -> str:
        """The id of a new run that begins with this event."""
        run, spec, created_at = secrets.token_hex(6), event["spec"], event["created_at"]
        self._db.execute(
            "INSERT INTO runs (id, created_at, status, owner, spec, name, tags, imported) "
            "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?)",
            (run, created_at, self._owner, _dump(spec), name, _dump(tags), imported),
        )
        self._enlist(self._words, run, created_at, spec, name, tags, "")
        self._tallies[run] = _Tally()
        self._insert((run, event))
        return run

    def _enlist(
        self, words: Words, run: str, created_at: str, spec: dict[str, Any], name: str | None, tags: Sequence[str],
        answer: str,
    ) -> None:  # fmt: skip
        """Fills what lists and searches need of a run."""
        place = self._place(datetime.fromisoformat(created_at))
        fork = spec.get("fork") or {}
        columns = {
            "place": place, "title": title(name, spec), "strategy": strategy(spec), "model": spec.get("model") or "",
            "seed": spec.get("seed") or 0, "parent": fork.get("run"), "fork_step": fork.get("step"),
        }  # fmt: skip
        settings = ", ".join(f"{column} = ?" for column in columns)
        self._db.execute(f"UPDATE runs SET {settings} WHERE id = ?", (*columns.values(), run))
        self._tag(place, tags)
        words.put(place, label=label(name, tags, spec), prompt=prompt(spec), answer=answer)

    def _place(self, created: datetime) -> int:
        """The first free place at or after this time."""
        place = 1000 * int(created.timestamp() * 1000)
        while True:
            ((last,),) = self._db.execute(
                "SELECT max(place) FROM runs WHERE place BETWEEN ? AND ?", (place, place + 999)
            )
            if last is None or last < place + 999:
                return place if last is None else int(last) + 1
            place += 1000

    def _tag(self, place: int, tags: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, place) for tag in tags])

    def _insert(self, *batch: tuple[str, Event]) -> None:
        rows = [self._row_of(run, event) for run, event in batch]
        self._db.executemany("INSERT INTO events (run, seq, type, data) VALUES (?, ?, ?, ?)", rows)
        for run, event in batch:
            if event["type"] != "step":  # most are, and change nothing there
                self._follow(run, event)

    def _row_of(self, run: str, event: Event) -> tuple[str, int, str, str]:
        tally = self._tallies.get(run) or self._recount(run)
        seq, kind = tally.seq, event["type"]
        tally.count(event)
        return run, seq, kind, _dump({"type": kind, "run": run, "seq": seq, **event})

    def _follow(self, run: str, event: Event) -> None:
        """Writes into the list of runs what an event means there."""
        kind = event["type"]
        if kind in _STATUS:
            status = event.get("status", _STATUS[kind])  # a run may be resumed before it has started
            self._db.execute("UPDATE runs SET status = ? WHERE id = ?", (status, run))
        elif kind in TERMINAL:
            tally = self._tallies.pop(run)
            speed = (event.get("timing") or {}).get("tokens_per_second", 0.0)
            self._db.execute(
                "UPDATE runs SET status = ?, steps = ?, answer = ?, tokens_per_second = ?, error = ? WHERE id = ?",
                (kind.removeprefix("run_"), tally.steps, tally.answer[:SHOWN], speed, event.get("error"), run),
            )
            (row,) = self._db.execute("SELECT place FROM runs WHERE id = ?", (run,))
            self._words.put(row["place"], answer=tally.text)

    def _recount(self, run: str) -> _Tally:
        """The tally of a run that this process did not begin. Raises UnknownRun."""
        rows = self._db.execute("SELECT data FROM events WHERE run = ? ORDER BY seq", (run,)).fetchall()
        if not rows:
            raise UnknownRun(run)
        tally = self._tallies[run] = _Tally()
        for row in rows:
            tally.count(json.loads(row["data"]))
        return tally

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN … COMMIT, or ROLLBACK when the body raises."""
        self._db.execute("BEGIN IMMEDIATE")
        changes = self._db.total_changes
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._tallies.clear()  # what they counted inside is void; they are read from the file again
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        if self._folder is not None and self._db.total_changes > changes:
            self._checkpoints.wrote()

    def _sync(self) -> None:
        """Forces what was written onto the disk, if it can: it is in the log already."""
        if self._folder is None:
            return
        try:
            with open(self._folder / f"{_FILE}-wal", "rb+") as wal:
                os.fsync(wal.fileno())
        except FileNotFoundError:  # a disk that allows no log: SQLite has forced it
            pass
        except OSError as error:
            log.warning("the run store could not be synced: %s", error)

    def _migrate(self) -> Words:
        """Brings the file to the newest schema, one numbered step at a time; another process may be doing it."""
        with self._transaction():
            done = self._db.execute("PRAGMA user_version").fetchone()[0]
            if done > len(MIGRATIONS):
                raise StoreUnusable(
                    f"the run store is of version {done}; this superpose knows up to {len(MIGRATIONS)}: upgrade it"
                )
            for script in MIGRATIONS[done:]:
                for statement in script.split(";"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            words = Words(self._db)
            strays = "SELECT id, created_at, spec, name, tags, answer FROM runs WHERE place IS NULL ORDER BY rowid"
            for run, created_at, spec, name, tags, answer in self._db.execute(strays).fetchall():
                self._enlist(words, run, created_at, json.loads(spec), name, json.loads(tags), answer)
            return words


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA cache_size = -65536")  # KiB: the indexes of 100,000 runs
    return db


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _dump(value: object) -> str:
    data = to_json(value).decode()  # a seventh of the time that the json module takes
    # The json module tells such words from such numbers, and refuses these; a letter is found much sooner than a word.
    if ("N" in data and "NaN" in data) or ("I" in data and "Infinity" in data):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return data
