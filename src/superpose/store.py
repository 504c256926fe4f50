"""Runs and their events, durable and ordered, in one SQLite file.

Write-ahead logging: an append that returned is in the file and outlives the process, kill -9 included. The disk
itself is synced when a run is created or ends, so that a power cut costs at most the last steps of live runs.
Events are the truth; the columns of `runs` are what lists need. Several processes may share a folder: each holds
a lock file while it lives, by which the others tell its live runs from interrupted ones.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from superpose.events import TERMINAL, Event, RunRecord, fold, queued

log = logging.getLogger("superpose")

MIGRATIONS = [
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, created_at TEXT NOT NULL, status TEXT NOT NULL, owner TEXT NOT NULL, spec TEXT NOT NULL,
        name TEXT, tags TEXT NOT NULL DEFAULT '[]', steps INTEGER NOT NULL DEFAULT 0,
        answer TEXT NOT NULL DEFAULT '', tokens_per_second REAL NOT NULL DEFAULT 0, error TEXT
    );
    CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        seq INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, UNIQUE (run, seq)
    );
    CREATE INDEX events_run ON events (run, position);
    """,
]
INTERRUPTED = "interrupted: the server stopped while this run was live; what it had is kept"
_LIVE = "status IN ('queued', 'running', 'paused')"
_ANSWER_KEPT = 400  # characters of the answer that lists show


class UnknownRun(KeyError):
    """No run has this id."""


class StoreUnusable(RuntimeError):
    """The data folder or its file cannot be used; the message is one sentence."""


class Stored(NamedTuple):
    """An event as it lies in the store: its place among all events, its run and number there, its JSON."""

    position: int
    run: str
    seq: int
    type: str
    data: str


class _Tally:
    """What lists show of a live run, counted as its events come."""

    def __init__(self) -> None:
        self.seq = self.steps = 0
        self._texts = {"thinking": "", "answer": ""}

    @property
    def text(self) -> str:
        """The beginning of the answer; of the thinking while there is none."""
        return (self._texts["answer"] or self._texts["thinking"])[:_ANSWER_KEPT]

    def count(self, event: Event) -> None:
        self.seq += 1
        if event["type"] == "step":
            self.steps += 1
            phase = event["phase"]
            if phase in self._texts and len(self._texts[phase]) < _ANSWER_KEPT:
                self._texts[phase] += event["text"]


class Store:
    """The runs of one data folder. `folder=None` keeps them in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._owner = secrets.token_hex(8)
        self._folder = folder
        self._alive: FileLock | None = None
        self._lock = threading.RLock()
        self._listeners: set[Callable[[], None]] = set()
        self._tallies: dict[str, _Tally] = {}
        self._lost: set[str] = set()
        try:
            if folder is not None:
                (folder / "live").mkdir(parents=True, exist_ok=True)
                self._alive = FileLock(self._lock_file(self._owner), thread_local=False)
                self._alive.acquire()
            path = ":memory:" if folder is None else str(folder / "runs.sqlite3")
            self._db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            self._end_life()
            raise StoreUnusable(f"the data folder {folder} cannot be used: {error}") from error
        try:
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate()
        except (sqlite3.Error, StoreUnusable) as error:
            self.close()
            if isinstance(error, StoreUnusable):
                raise
            raise StoreUnusable(f"the run store in {folder} cannot be used: {error}") from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()
        self._end_life()

    def _end_life(self) -> None:
        if self._alive is not None and self._alive.is_locked:
            self._alive.release()
            Path(self._alive.lock_file).unlink(missing_ok=True)

    # -- writing ------------------------------------------------------------------------------------------

    def create(self, spec: dict[str, Any]) -> str:
        """The id of a new queued run, its first event on disk."""
        run, created_at = secrets.token_hex(6), datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock, self._transaction():
            self._db.execute(
                "INSERT INTO runs (id, created_at, status, owner, spec) VALUES (?, ?, 'queued', ?, ?)",
                (run, created_at, self._owner, _dump(spec)),
            )
            self._tallies[run] = _Tally()
            self._insert(run, queued(spec, created_at))
        self._sync()
        self._ring()
        return run

    def append(self, batch: Sequence[tuple[str, Event]]) -> None:
        """Writes the events of any number of runs in one transaction, then rings the listeners.

        On return all of them are on disk; on an error none is.
        """
        with self._lock, self._transaction():
            for run, event in batch:
                self._insert(run, event)
        if any(event["type"] in TERMINAL for _, event in batch):
            self._sync()
        self._ring()

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
                self._insert(run, {"type": "run_failed", "error": INTERRUPTED})
        if lost:
            self._sync()
            self._ring()
        return len(lost)

    def annotate(self, run: str, name: str | None, tags: list[str]) -> None:
        """Sets a run's name and tags. Raises UnknownRun."""
        with self._lock:
            done = self._db.execute("UPDATE runs SET name = ?, tags = ? WHERE id = ?", (name, _dump(tags), run))
        if not done.rowcount:
            raise UnknownRun(run)

    def delete(self, run: str) -> None:
        """Removes a run and its events. Raises UnknownRun."""
        with self._lock, self._transaction():
            done = self._db.execute("DELETE FROM runs WHERE id = ?", (run,))
            self._tallies.pop(run, None)
        if not done.rowcount:
            raise UnknownRun(run)
        self._ring()

    # -- reading ------------------------------------------------------------------------------------------

    def record(self, run: str) -> RunRecord:
        """The whole record of a run. Raises UnknownRun."""
        row = self._row(run)
        events = (json.loads(stored.data) for stored in self.events([run], 0, limit=-1))
        return fold(run, events, row["name"], json.loads(row["tags"]))

    def events(self, runs: Sequence[str], after: int, limit: int = 512) -> list[Stored]:
        """Events of these runs whose position is above `after`, in order; limit -1 gives all."""
        marks = ",".join("?" * len(runs))
        rows = self._rows(
            f"SELECT position, run, seq, type, data FROM events WHERE run IN ({marks}) AND position > ? "
            "ORDER BY position LIMIT ?",
            (*runs, after, limit),
        )
        return [Stored(*row) for row in rows]

    def position(self, run: str, seq: int) -> int:
        """The position of a run's event; that of its last earlier one when there is no such number."""
        rows = self._rows(
            "SELECT position FROM events WHERE run = ? AND seq <= ? ORDER BY seq DESC LIMIT 1", (run, seq)
        )
        return rows[0]["position"] if rows else 0

    def live(self, runs: Sequence[str]) -> set[str]:
        """Those of the runs that are queued, running or paused."""
        marks = ",".join("?" * len(runs))
        rows = self._rows(f"SELECT id FROM runs WHERE id IN ({marks}) AND {_LIVE}", runs)
        return {row["id"] for row in rows} - self._lost

    def status(self, run: str) -> str:
        """A run's status. Raises UnknownRun."""
        status: str = "failed" if run in self._lost else self._row(run)["status"]
        return status

    def outcomes(self, runs: Sequence[str]) -> list[dict[str, Any]]:
        """What came of each run: status, seed, steps, and its whole answer once it is over. Raises UnknownRun."""
        found = []
        for run in runs:
            row, tally, answer = self._row(run), self._tallies.get(run), None
            if not self.live([run]):
                rows = self._rows(
                    "SELECT json_extract(data, '$.text') FROM events WHERE run = ? AND type IN ('step', 'phase_ended') "
                    "AND json_extract(data, '$.phase') = 'answer' ORDER BY seq",
                    (run,),
                )
                answer = "".join(text for (text,) in rows)
            steps = row["steps"] if tally is None else tally.steps
            seed = json.loads(row["spec"]).get("seed")
            found.append({"id": run, "status": self.status(run), "seed": seed, "steps": steps, "answer": answer})
        return found

    def label(self, run: str) -> dict[str, Any]:
        """A run's name and tags. Raises UnknownRun."""
        row = self._row(run)
        return {"name": row["name"], "tags": json.loads(row["tags"])}

    def summaries(
        self, search: str = "", limit: int = 50, before: int | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Runs for lists, newest first, and the `before` of the next page (None = this is the last).

        `search` looks in prompts, strategy names, names, tags and answers.
        """
        where, values = ["1"], []
        if search:
            fields = ("user", "system", "strategy.name")
            columns = [*(f"json_extract(spec, '$.{field}')" for field in fields), "answer", "name", "tags"]
            where.append("(" + " OR ".join(f"{column} LIKE ? ESCAPE '!'" for column in columns) + ")")
            pattern = "%" + search.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
            values += [pattern] * len(columns)
        if before is not None:
            where.append("rowid < ?")
            values.append(str(before))
        rows = self._rows(
            "SELECT rowid, id, created_at, status, spec, name, tags, steps, answer, tokens_per_second, error FROM runs "
            f"WHERE {' AND '.join(where)} ORDER BY rowid DESC LIMIT ?",
            (*values, limit + 1),
        )
        found = []
        for row in rows[:limit]:
            about = {**dict(row), "spec": json.loads(row["spec"]), "tags": json.loads(row["tags"])}
            del about["rowid"]
            tally = self._tallies.get(row["id"])
            if tally is not None:  # live here: the columns are written at its end
                about.update(steps=tally.steps, answer=tally.text)
            found.append(about)
        return found, rows[limit - 1]["rowid"] if len(rows) > limit else None

    # -- bell ---------------------------------------------------------------------------------------------

    def listen(self, bell: Callable[[], None]) -> Callable[[], None]:
        """Rings `bell` after every append, from the writer's thread; the answer ends it."""
        with self._lock:
            self._listeners.add(bell)
        return lambda: self._listeners.discard(bell)

    def _ring(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for bell in listeners:
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

    def _insert(self, run: str, event: Event) -> None:
        tally = self._tallies.get(run) or self._recount(run)
        kind = event["type"]
        data = _dump({"type": kind, "run": run, "seq": tally.seq, **event})
        self._db.execute("INSERT INTO events (run, seq, type, data) VALUES (?, ?, ?, ?)", (run, tally.seq, kind, data))
        tally.count(event)
        if kind == "run_started":
            self._db.execute("UPDATE runs SET status = 'running' WHERE id = ?", (run,))
        elif kind in TERMINAL:
            del self._tallies[run]
            speed = (event.get("timing") or {}).get("tokens_per_second", 0.0)
            self._db.execute(
                "UPDATE runs SET status = ?, steps = ?, answer = ?, tokens_per_second = ?, error = ? WHERE id = ?",
                (kind.removeprefix("run_"), tally.steps, tally.text, speed, event.get("error"), run),
            )

    def _recount(self, run: str) -> _Tally:
        """The tally of a run that this process did not begin. Raises UnknownRun."""
        rows = self._db.execute("SELECT data FROM events WHERE run = ? ORDER BY seq", (run,)).fetchall()
        if not rows:
            raise UnknownRun(run)
        tally = self._tallies[run] = _Tally()
        for row in rows:
            tally.count(json.loads(row["data"]))
        return tally

    def _row(self, run: str) -> sqlite3.Row:
        rows = self._rows("SELECT * FROM runs WHERE id = ?", (run,))
        if not rows:
            raise UnknownRun(run)
        return rows[0]

    def _rows(self, query: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, tuple(values)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN … COMMIT, or ROLLBACK when the body raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._tallies.clear()  # what they counted inside is void; they are read from the file again
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _sync(self) -> None:
        """Forces what was written onto the disk, if it can: the events are in the file already."""
        with self._lock:
            try:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                log.warning("the run store could not be synced: %s", error)

    def _migrate(self) -> None:
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


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
