"""Moves what was committed from the store's write-ahead log into its file, beside the runs."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing

log = logging.getLogger("superpose")

EVERY = 0.5  # seconds from a first commit to the checkpoint that takes it along
IDLE = 10.0  # seconds without a commit after which the thread ends
LATEST = 16384  # pages of the log at which a commit makes one by itself, as where there can be no thread


class Checkpoints:
    """Checkpoints of a file in a thread of its own, which the first commit begins and `close`, or rest, ends.

    SQLite by itself lets a commit make them, which then takes ten times as long, and a step of all runs with it. Here
    they begin just behind a commit, when the runner has its engine to wait for. `writing` is the lock that each writer
    of this process holds, and each checkpoint: before 3.51.3 SQLite could lose a commit that another connection made
    while a log was checkpointed that had been already (sqlite.org/wal.html, "WAL-reset bug").
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], writing: threading.RLock) -> None:
        self._connect, self._writing = connect, writing
        self._due, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""  # of what went wrong

    def wrote(self) -> None:
        """Says that something was committed; the caller holds the lock."""
        if not self._due.is_set():  # to set it again takes a lock
            self._due.set()
        if self._thread is not None or self._over.is_set():
            return
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            self._thread = None
            self._complain(error)

    def close(self) -> None:
        """Ends the thread once it has done what it is at; the caller does not hold the lock."""
        with self._writing:
            self._over.set()
            self._due.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        try:
            with closing(self._connect()) as db:
                while self._goes_on():
                    if not self._over.wait(EVERY):
                        self._due.clear()
                        self._due.wait(EVERY)  # for the end of a commit
                        self._make(db)
        except sqlite3.Error as error:
            self._complain(error)

    def _goes_on(self) -> bool:
        """Whether there is something to do; waits for it."""
        self._due.wait(IDLE)
        with self._writing:
            if self._due.is_set() and not self._over.is_set():
                return True
            self._thread = None  # the next commit begins another one
            return False

    def _make(self, db: sqlite3.Connection) -> None:
        with self._writing:
            if self._over.is_set():
                return
            self._due.clear()
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if str(error) != self._said:
            self._said = str(error)
            log.warning("the run store's log could not be put into its file: %s", error)
