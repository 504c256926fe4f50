"""Full-text search over prompts, answers, names, tags and strategies of runs.

Table `words` holds the texts folded to one case; the FTS5 table `trigrams` narrows a search down to runs that hold
all three-letter pieces of its words, and `words` decides. Of a shorter word the index is asked for all pieces that
begin with it, unless they are too common to narrow anything. An SQLite without FTS5 or its trigram tokenizer reads
`words` alone: the same answers, slower. Rows it writes are marked as not indexed, and indexed at the next opening.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from typing import Any, NamedTuple

INDEX = (
    "CREATE VIRTUAL TABLE trigrams USING fts5(label, prompt, answer, content='words', content_rowid='place', "
    "detail='none', tokenize='trigram case_sensitive 1')"
)
PIECES = "CREATE VIRTUAL TABLE IF NOT EXISTS pieces USING fts5vocab(trigrams, row)"  # which pieces there are
SEARCHED = 10_000  # first characters of a prompt, of a system prompt and of an answer that are searched
EXACT = 1_000  # a search with more hits than this is not counted
_WORDS = 16  # of one search
_PIECES = 32  # of one search that the index is asked for
_ENDS = 256  # pieces that begin with a short word
_END = "\n\n"  # behind every text: its last letters begin pieces too
_COLUMNS = ("label", "prompt", "answer")


class Hits(NamedTuple):
    """What the `WHERE` of a list needs to keep the runs that a search finds."""

    condition: str
    values: list[Any]
    exact: bool  # at most EXACT of them: they can be counted


class Words:
    """The searchable texts of one store; its writer opens it inside a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.indexed = self._open()

    def put(self, place: int, **texts: str) -> None:
        """Sets the texts of a run that are given: label, prompt, answer."""
        old = self._db.execute("SELECT label, prompt, answer, indexed FROM words WHERE place = ?", (place,)).fetchone()
        kept = dict(zip(_COLUMNS, old or ("", "", ""), strict=False))
        new = {**kept, **{name: fold(text) + _END for name, text in texts.items()}}
        if old is not None and old[3]:
            self._unindex(place, kept)
        self._db.execute(
            "INSERT INTO words (place, label, prompt, answer, indexed) VALUES (?, ?, ?, ?, ?) ON CONFLICT (place) DO "
            "UPDATE SET label = excluded.label, prompt = excluded.prompt, answer = excluded.answer, "
            "indexed = excluded.indexed",
            (place, *new.values(), self.indexed),
        )
        if self.indexed:
            self._db.execute(
                "INSERT INTO trigrams (rowid, label, prompt, answer) VALUES (?, ?, ?, ?)", (place, *new.values())
            )

    def remove(self, place: int) -> None:
        """Forgets a run."""
        old = self._db.execute("SELECT label, prompt, answer FROM words WHERE place = ? AND indexed", (place,))
        row = old.fetchone()
        if row is not None:
            self._unindex(place, dict(zip(_COLUMNS, row, strict=True)))
        self._db.execute("DELETE FROM words WHERE place = ?", (place,))

    def find(self, db: sqlite3.Connection, search: str) -> Hits:
        """How to find the runs in which every word of `search` occurs; "quoted words" stay together."""
        words = [fold(quoted or word).strip('" ') for quoted, word in re.findall(r'"([^"]+)"|(\S+)', search)]
        words = [word for word in words if word][:_WORDS]
        if not words:
            return Hits("1", [], True)
        holds = " AND ".join(
            "(instr(words.label, ?) OR instr(words.prompt, ?) OR instr(words.answer, ?))" for _ in words
        )
        values = [word for word in words for _ in _COLUMNS]
        match = self._match(db, words) if self.indexed else None
        if match is not None:
            found = db.execute(
                "SELECT words.place FROM trigrams CROSS JOIN words ON words.place = trigrams.rowid "
                f"WHERE trigrams MATCH ? AND {holds} LIMIT ?",
                (match, *values, EXACT + 1),
            ).fetchall()
            if len(found) <= EXACT:
                places = json.dumps([row[0] for row in found])
                return Hits("place IN (SELECT value FROM json_each(?))", [places], True)
        # So many runs hold them that a page is soon full, whichever way it is sorted.
        return Hits(f"EXISTS (SELECT 1 FROM words WHERE words.place = runs.place AND {holds})", values, False)

    def _match(self, db: sqlite3.Connection, words: list[str]) -> str | None:
        """What to ask the index for; None where it cannot narrow the search down."""
        pieces = list(dict.fromkeys(word[i : i + 3] for word in words for i in range(len(word) - 2)))[:_PIECES]
        asked = [_quoted(piece) for piece in pieces]
        for word in words:
            if len(word) < 3:
                ends, runs = [], 0
                for piece, holding in db.execute(
                    "SELECT term, doc FROM pieces WHERE term >= ? AND term < ?", _from(word)
                ):
                    ends.append(_quoted(piece))
                    runs += holding
                    if runs > EXACT or len(ends) > _ENDS:
                        break
                else:
                    asked.append(f"({' OR '.join(ends)})" if ends else '""')
        return " AND ".join(asked) or None

    def _unindex(self, place: int, texts: dict[str, str]) -> None:
        """Takes a run out of the index, which needs the very texts that went in."""
        if self.indexed:
            self._db.execute(
                "INSERT INTO trigrams (trigrams, rowid, label, prompt, answer) VALUES ('delete', ?, ?, ?, ?)",
                (place, *texts.values()),
            )

    def _open(self) -> bool:
        """Whether the index can be used; makes it, and brings it up to date."""
        try:
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'trigrams'").fetchone():
                self._db.execute(INDEX)
            self._db.execute(PIECES)
            self._db.execute("SELECT rowid FROM trigrams LIMIT 0")
        except sqlite3.OperationalError as error:
            if re.match("no such (module|tokenizer)|error in tokenizer", str(error)):
                return False
            raise
        if self._db.execute("SELECT 1 FROM words WHERE NOT indexed LIMIT 1").fetchone():
            self._db.execute("INSERT INTO trigrams (trigrams) VALUES ('rebuild')")
            self._db.execute("UPDATE words SET indexed = 1 WHERE NOT indexed")
        return True


def _quoted(piece: str) -> str:
    return '"' + piece.replace('"', '""') + '"'


def _from(word: str) -> tuple[str, str]:
    """All texts that begin with the word lie between these two."""
    return word, word + "\U0010ffff"


def fold(text: str) -> str:
    """The text as searches compare it: compatibility forms joined, one case."""
    return unicodedata.normalize("NFKC", text).casefold().replace("\0", " ")
