"""What stands of a run in the store's file: its events in order, its spec, its record."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from superpose.events import Event, RunRecord, fold

_NEW = 512  # events at the end of the file that are read through sooner than an index is searched


class UnknownRun(KeyError):
    """No run has this id."""


class Stored(NamedTuple):
    """An event as it lies in the store: its place among all events, its run and number there, its JSON."""

    position: int
    run: str
    seq: int
    type: str
    data: str


class Feed(NamedTuple):
    """A mixture with more candidates than its event lists, kept so that it can be fed again."""

    run: str
    step: int
    ids: bytes  # int32, little endian
    weights: bytes  # float32, little endian


class Events:
    """Base of the store: reads its file. Any thread may ask."""

    _db: sqlite3.Connection
    _lock: threading.RLock  # that each call of it holds

    def record(self, run: str) -> RunRecord:
        """The whole record of a run. Raises UnknownRun."""
        row = self._row(run)
        events = (json.loads(stored.data) for stored in self.events([run], 0, limit=-1))
        return fold(run, events, row["name"], json.loads(row["tags"]))

    def events(self, runs: Sequence[str], after: int, limit: int = 512) -> list[Stored]:
        """Events of these runs whose position is above `after`, in order; limit -1 gives all."""
        marks = ",".join("?" * len(runs))
        # Who follows live runs looks through all that is new; who is behind, through the index of runs, where a single
        # one's events are in order.
        source, order, seq = "events", "position", -1
        if self.newest() - after < _NEW:
            source = "events NOT INDEXED"
        elif len(runs) == 1:
            order = "seq"
            if at := self._rows("SELECT seq FROM events WHERE position = ? AND run = ?", (after, runs[0])):
                seq = at[0]["seq"]
        rows = self._rows(
            f"SELECT position, run, seq, type, data FROM events WHERE position IN (SELECT position FROM {source} "
            f"WHERE run IN ({marks}) AND seq > ? AND position > ? ORDER BY {order} LIMIT ?) ORDER BY position",
            (*runs, seq, after, limit),
        )
        return [Stored(*row) for row in rows]

    def newest(self) -> int:
        """The position of the last event of all, 0 when there is none."""
        ((position,),) = self._rows("SELECT max(position) FROM events")
        return position or 0

    def spec(self, run: str) -> dict[str, Any]:
        """A run's spec. Raises UnknownRun."""
        spec: dict[str, Any] = json.loads(self._row(run)["spec"])
        return spec

    def past(self, run: str) -> Iterator[Event]:
        """A run's events in order, read in parts, as far as they are asked for."""
        after = 0
        while batch := self.events([run], after):
            yield from (json.loads(stored.data) for stored in batch)
            after = batch[-1].position

    def steps(self, run: str, at: int, most: int) -> list[Event]:
        """A run's steps from number `at` on, at most so many."""
        rows = self._rows(
            "SELECT data FROM events WHERE run = ? AND type = 'step' ORDER BY seq LIMIT ? OFFSET ?", (run, most, at)
        )
        return [json.loads(data) for (data,) in rows]

    def feeds(self, run: str, at: int, before: int) -> list[Feed]:
        """The mixtures of a run's steps from `at` on and below `before` that are larger than their events list."""
        rows = self._rows(
            "SELECT run, step, ids, weights FROM feeds WHERE run = ? AND step >= ? AND step < ?", (run, at, before)
        )
        return [Feed(*row) for row in rows]

    def position(self, run: str, seq: int) -> int:
        """The position of a run's event; that of its last earlier one when there is no such number."""
        rows = self._rows(
            "SELECT position FROM events WHERE run = ? AND seq <= ? ORDER BY seq DESC LIMIT 1", (run, seq)
        )
        return rows[0]["position"] if rows else 0

    def label(self, run: str) -> dict[str, Any]:
        """A run's name and tags. Raises UnknownRun."""
        row = self._row(run)
        return {"name": row["name"], "tags": json.loads(row["tags"])}

    def _row(self, run: str) -> sqlite3.Row:
        rows = self._rows("SELECT * FROM runs WHERE id = ? AND deleted_at IS NULL", (run,))
        if not rows:
            raise UnknownRun(run)
        return rows[0]

    def _rows(self, query: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, tuple(values)).fetchall()
