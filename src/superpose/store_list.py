"""Lists of runs: what may be asked, as SQL that walks one index and stops, and cursors that go on where it stopped."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from superpose.problems import BadInput
from superpose.store_family import family
from superpose.store_words import SEARCHED, Hits, Words, fold

Sort = Literal["created", "name", "strategy", "model", "steps", "tokens_per_second", "seed"]
Order = Literal["asc", "desc"]
_COLUMNS: dict[str, str] = {"created": "place", "name": "title"}  # of the other sorts, the column is the name
SHOWN = 400  # characters of prompts and answers that lists show
_LONG = ("system", "user", "transition", "fork")  # parts of a spec that may be long, and that lists leave out
_FACETS = 200  # names of one kind that are told
_LISTED = (
    "id, created_at, status, name, tags, strategy, model, seed, steps, tokens_per_second, answer, error, parent, "
    "fork_step, imported, spec"
)
_FILTERS = ("strategy", "model", "status", "parent", "imported")


@dataclass(frozen=True)
class Query:
    """Which runs a list wants, in which order; None filters nothing."""

    search: str = ""
    strategy: str | None = None
    model: str | None = None
    status: str | None = None
    tag: str | None = None
    parent: str | None = None
    imported: bool | None = None
    sort: Sort = "created"
    order: Order = "desc"
    limit: int = 50
    after: str | None = None

    @property
    def column(self) -> str:
        """The column of the sort."""
        return _COLUMNS.get(self.sort, self.sort)


class Page(NamedTuple):
    """A page of a list: the runs, the `after` of the next page (None = this is the last), and how many runs all
    pages have (None = too many to count)."""

    runs: list[dict[str, Any]]
    next: str | None
    total: int | None


class Lists:
    """Reads lists of runs over a connection of its own, or over the writer's under the writer's lock."""

    def __init__(self, words: Words, db: sqlite3.Connection, lock: threading.RLock) -> None:
        self._words, self._db, self._lock = words, db, lock

    def page(self, query: Query) -> Page:
        """A page of runs. Raises BadInput for a cursor that is none."""
        with self._lock:
            hits = self._words.find(self._db, query.search)
            found = self._rows(*_page_sql(query, hits))
            total = self._rows(*_count_sql(query, hits))[0][0] if hits.exact else None
            places = [row["place"] for row in found[: query.limit]]
            marks = ",".join("?" * len(places))
            sql = f"SELECT place, {_LISTED} FROM runs WHERE place IN ({marks}) AND deleted_at IS NULL"
            rows = {row["place"]: row for row in self._rows(sql, places)}
        following = None
        if len(found) > query.limit:
            last = found[query.limit - 1]
            following = _cursor(query, last["value"], last["place"])
        return Page([_summary(rows[place]) for place in places if place in rows], following, total)

    def facets(self) -> dict[str, list[dict[str, Any]]]:
        """Strategies, models, statuses and tags, with how many runs each, the most frequent first."""
        counted = "count(*) AS count FROM runs INDEXED BY"
        hidden = "SELECT place FROM runs WHERE deleted_at IS NOT NULL"
        kinds = {
            "strategies": f"strategy AS name, {counted} runs_strategy WHERE deleted_at IS NULL",
            "models": f"model AS name, {counted} runs_model WHERE deleted_at IS NULL",
            "statuses": f"status AS name, {counted} runs_status WHERE deleted_at IS NULL",
            "tags": f"tag AS name, count(*) AS count FROM tags WHERE place NOT IN ({hidden})",
        }
        with self._lock:
            return {
                kind: [
                    dict(row) for row in self._rows(f"SELECT {sql} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_FACETS}", ())
                ]
                for kind, sql in kinds.items()
            }

    def family(self, run: str) -> dict[str, Any]:
        """The root of a run's family, and its runs."""
        with self._lock:
            return family(self._db, run)

    def _rows(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        return self._db.execute(sql, values).fetchall()


def strategy(spec: dict[str, Any]) -> str:
    """The name of a spec's strategy."""
    name: str = (spec.get("strategy") or {}).get("name", "")
    return name


def title(name: str | None, spec: dict[str, Any]) -> str:
    """What lists sort names by: runs that have one first, the others by their prompts."""
    return fold(name[:80]) if name else "\U0010ffff" + fold(spec.get("user", "")[:80])


def label(name: str | None, tags: Iterable[str], spec: dict[str, Any]) -> str:
    """The words about a run that are searched: name, strategy, tags."""
    return "\n".join([name or "", strategy(spec), *tags])


def prompt(spec: dict[str, Any]) -> str:
    """The prompts that are searched."""
    return "\n".join(spec.get(field, "")[:SEARCHED] for field in ("user", "system"))


def _summary(row: sqlite3.Row) -> dict[str, Any]:
    """What lists tell of a run."""
    spec = json.loads(row["spec"])
    about = {
        **dict(row),
        "model": row["model"] or None,
        "tags": json.loads(row["tags"]),
        "user": spec.get("user", "")[:SHOWN],
        "imported": bool(row["imported"]),
        "spec": {field: spec[field] for field in spec if field not in _LONG},
    }
    del about["place"]
    return about


def _page_sql(query: Query, hits: Hits) -> tuple[str, list[Any]]:
    """SQL and values of a page: place and sort value of up to `limit` + 1 runs. Raises BadInput for a bad cursor."""
    where, values = _where(query, hits)
    key = "place" if query.column == "place" else f"{query.column}, place"
    if query.after is not None:
        after = _decode(query)
        where += f" AND ({key}) {'<' if query.order == 'desc' else '>'} ({','.join('?' * len(after))})"
        values += after
    order = ", ".join(f"{column} {query.order}" for column in key.split(", "))
    return (
        f"SELECT place, {query.column} AS value FROM runs INDEXED BY runs_{query.sort} WHERE {where} "
        f"ORDER BY {order} LIMIT ?",
        [*values, query.limit + 1],
    )


def _count_sql(query: Query, hits: Hits) -> tuple[str, list[Any]]:
    """SQL and values of the number of runs on all pages."""
    where, values = _where(query, hits)
    return f"SELECT count(*) FROM runs INDEXED BY runs_created WHERE {where}", values


def _cursor(query: Query, value: Any, place: int) -> str:
    """The `after` of the page behind the run with this sort value and place."""
    after = [place] if query.column == "place" else [value, place]
    return base64.urlsafe_b64encode(json.dumps([query.sort, query.order, *after]).encode()).decode().rstrip("=")


def _where(query: Query, hits: Hits) -> tuple[str, list[Any]]:
    where, values = ["deleted_at IS NULL"], []
    for column in _FILTERS:
        wanted = getattr(query, column)
        if wanted is not None:
            where.append(f"{column} = ?")
            values.append(wanted)
    if query.tag is not None:
        where.append("place IN (SELECT place FROM tags WHERE tag = ?)")
        values.append(query.tag)
    return " AND ".join([*where, hits.condition]), [*values, *hits.values]


def _decode(query: Query) -> list[Any]:
    """Sort value and place that a cursor of this sort and order carries."""
    given = query.after or ""
    kind = str if query.column in ("title", "strategy", "model") else float
    fits = [kind, int] if query.column != "place" else [int]
    after: list[Any]
    try:
        sort, order, *after = json.loads(base64.b64decode(given + "=" * (-len(given) % 4), b"-_", validate=True))
        same = (sort, order) == (query.sort, query.order)
        if same and not all(_fits(value, want) for value, want in zip(after, fits, strict=True)):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise BadInput("after", "after is not a cursor of this list; leave it out for the first page") from None
    if not same:
        raise BadInput(
            "after", f"after is a cursor of another order; leave it out to sort by {query.sort} {query.order}"
        )
    return after


def _fits(value: Any, kind: type) -> bool:
    """Whether SQLite takes the value and compares it with others of the kind. Raises ValueError for half characters."""
    if isinstance(value, str):
        value.encode()
        return kind is str
    return isinstance(value, int | float if kind is float else int) and abs(value) < 2**63
