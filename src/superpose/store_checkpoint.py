"""Moves what was committed from the store's write-ahead log into its file, beside the writer."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing

log = logging.getLogger("superpose")

DUE = 2**21  # bytes of events
LATEST = 8192  # pages of the log, where the writer itself sees to it: this thread has been too slow for it


class Checkpoints:
    """Checkpoints in a thread of its own, which begins with the first that is due and ends with `close`.

    SQLite by itself lets the writer do it in a commit, which then takes ten times as long, and a step of all runs
    with it.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._alone = threading.Lock()  # SQLite leaves a checkpoint out while another one is made
        self._written = 0
        self._due, self._over = threading.Event(), False
        self._thread: threading.Thread | None = None

    def writes(self, size: int) -> None:
        """Counts bytes of a transaction. One thread at a time may say so."""
        self._written += size
        if self._written < DUE:
            return
        self._written = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
            self._thread.start()
        self._due.set()

    def make(self, db: sqlite3.Connection) -> None:
        """Makes one now, if it can be: what was committed is in the log already. The disk has it then."""
        with self._alone:
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                log.warning("the run store could not be synced: %s", error)

    def close(self) -> None:
        """Ends the thread, once it has done what it is at."""
        self._over = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            with closing(self._connect()) as db:
                while self._due.wait() and not self._over:
                    self._due.clear()
                    self.make(db)
        except sqlite3.Error as error:  # no connection: the writer sees to it
            log.warning("the run store could not be opened once more: %s", error)
