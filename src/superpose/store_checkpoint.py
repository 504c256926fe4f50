"""Moves what was committed from the store's write-ahead log into its file, beside the writer."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing

log = logging.getLogger("superpose")

EVERY = 0.5  # seconds from a first commit to the checkpoint that takes it along
LONG = 4096  # pages of a log that does not begin anew, because commits come faster than checkpoints
LATEST = 16384  # pages where the writer itself sees to it, if there is no thread that does


class Checkpoints:
    """Checkpoints of a file in a thread of its own, which begins with the first commit and ends with `close`.

    SQLite by itself lets the writer make them in a commit, which then takes ten times as long, and a step of all runs
    with it. `writing` is the lock that every writer of this process holds.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], writing: threading.RLock) -> None:
        self._connect, self._writing = connect, writing
        self._due, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def wrote(self) -> None:
        """Says that something was committed; the caller holds the lock."""
        if self._thread is None and not self._over.is_set():
            thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads: what was committed is in the log all the same
                log.warning("the run store is checkpointed by its writer: %s", error)
                self._over.set()
                return
            self._thread = thread
        self._due.set()

    def stop(self) -> None:
        """Lets the thread end once it has done what it is at."""
        self._over.set()
        self._due.set()

    def close(self) -> None:
        """Waits for that; the caller does not hold the lock."""
        with self._writing:
            self.stop()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            with closing(self._connect()) as db:
                while self._due.wait() and not self._over.wait(EVERY):
                    self._due.clear()
                    if self._make(db) > LONG:
                        with self._writing:  # the few pages that came meanwhile; then the next commit begins it anew
                            self._make(db)
        except sqlite3.Error as error:
            log.warning("the run store is checkpointed by its writer: %s", error)

    def _make(self, db: sqlite3.Connection) -> int:
        """Makes one, if nobody else does; how many pages the log has."""
        _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(pages)
