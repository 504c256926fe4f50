"""The family of a run: the run it all began with, and what was branched from it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

MOST = 500  # runs of a family that are told
_ANSWER = 120  # characters of an answer that a tree shows
_PAST = 64  # events beside the steps before it among which the step of a fork is looked for


def family(db: sqlite3.Connection, run: str) -> dict[str, Any]:
    """`root` and `runs`: the run's first visible ancestor and all that come from it, parents before children."""
    root, seen = run, {run}
    while len(seen) < MOST:  # files can claim anything, a run that is its own ancestor too
        up = (
            "SELECT older.id FROM runs JOIN runs AS older ON older.id = runs.parent "
            "WHERE runs.id = ? AND older.deleted_at IS NULL"
        )
        row = db.execute(up, (root,)).fetchone()
        if row is None or row["id"] in seen:
            break
        root = row["id"]
        seen.add(root)
    rows = _visible(db, "id", [root])
    level, known = [root], {root}
    while level and len(rows) < MOST:
        children = [row for row in _visible(db, "parent", level) if row["id"] not in known][: MOST - len(rows)]
        level = [row["id"] for row in children]
        known.update(level)
        rows += children
    return {"root": root, "runs": [_member(db, row) for row in rows]}


def _visible(db: sqlite3.Connection, column: str, values: list[str]) -> list[sqlite3.Row]:
    sql = (
        "SELECT id, name, status, parent, fork_step AS step, strategy, created_at, answer, "
        "json_extract(spec, '$.fork.mixture') AS mixture FROM runs "
        f"WHERE {column} IN ({','.join('?' * len(values))}) AND deleted_at IS NULL ORDER BY place LIMIT {2 * MOST}"
    )
    return db.execute(sql, values).fetchall()


def _member(db: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    about = {**dict(row), "answer": row["answer"][:_ANSWER], "edit": _edit(db, row)}
    del about["mixture"]
    return about


def _edit(db: sqlite3.Connection, row: sqlite3.Row) -> str | None:
    """What was changed by hand where the run was branched, in words."""
    if row["mixture"] is None:
        return None
    ids = json.loads(row["mixture"])["ids"]
    if len(ids) > 1:
        return "weights edited"
    events = db.execute(
        "SELECT data FROM events WHERE run = ? AND seq > ? AND type = 'step' ORDER BY seq LIMIT ?",
        (row["id"], row["step"], _PAST),
    )
    for (data,) in events:
        step = json.loads(data)
        if step["step"] == row["step"]:
            return f"forced `{step['token']['text']}`"
    return f"forced #{ids[0]}"  # it has not come so far
