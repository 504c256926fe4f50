"""Runs as files: records, events as JSON lines, steps as a table. Written in parts, however many and long they are."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from superpose.events import Event
from superpose.store import Store

Form = Literal["json", "jsonl", "csv"]
MEDIA: dict[Form, str] = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}
_PART = 65_536  # characters that travel together
COLUMNS = (
    "run", "step", "phase", "kind", "token_id", "token_text", "probability", "fed", "top_fed_weight", "entropy",
    "entropy_raw", "tail", "norm_ratio", "reason", "t_ms",
)  # fmt: skip


def export(store: Store, runs: Sequence[str], form: Form, listed: bool) -> Iterator[str]:
    """The parts of a file with these runs; `listed` makes JSON a list of records, also of one."""
    whole: list[str] = []
    size = 0
    for part in _parts(store, runs, form, listed):
        whole.append(part)
        size += len(part)
        if size > _PART:
            yield "".join(whole)
            whole, size = [], 0
    yield "".join(whole)


def file_name(store: Store, runs: Sequence[str], form: Form) -> str:
    """A name of plain letters, whatever the runs are called: superpose-my-run-0123456789ab.csv."""
    if len(runs) > 1:
        return f"superpose-{len(runs)}-runs.{form}"
    name = re.sub("[^a-z0-9]+", "-", (store.label(runs[0])["name"] or "").lower()).strip("-")[:60]
    return "-".join(part for part in ("superpose", name, runs[0]) if part) + f".{form}"


def _parts(store: Store, runs: Sequence[str], form: Form, listed: bool) -> Iterator[str]:
    if form == "json":
        yield from _records(store, runs, listed)
    elif form == "jsonl":
        yield from (f"{line}\n" for run in runs for line in _lines(store, run))
    else:
        yield _row(COLUMNS)
        for run in runs:
            yield from (_row(_cells(run, event)) for event in _events(store, run) if event["type"] == "step")


def _records(store: Store, runs: Sequence[str], listed: bool) -> Iterator[str]:
    for place, run in enumerate(runs):
        before = "" if not listed else ",\n" if place else "["
        yield before + json.dumps(store.record(run), ensure_ascii=False, allow_nan=False)
    yield "]\n" if listed else "\n"


def _lines(store: Store, run: str) -> Iterator[str]:
    """The events as they lie in the store; the first also tells the run's name and tags."""
    for event in _events(store, run):
        if event["type"] == "run_queued":
            event |= store.label(run)
        yield json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _events(store: Store, run: str) -> Iterator[Event]:
    after = 0
    while batch := store.events([run], after):
        yield from (json.loads(stored.data) for stored in batch)
        after = batch[-1].position


def _cells(run: str, step: Event) -> list[Any]:
    token, fed = step["token"], step["fed"]
    return [
        run, step["step"], step["phase"], step["kind"], token["id"], _text(token["text"]), token["probability"],
        " ".join(f"{candidate['id']}:{candidate['weight']}" for candidate in fed), fed[0]["weight"], step["entropy"],
        step["entropy_raw"], step["tail"], step["norm_ratio"], _text(step["reason"] or ""), step["t_ms"],
    ]  # fmt: skip


def _text(text: str) -> str:
    """The text; where a spreadsheet would take it for a formula, behind an apostrophe."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _row(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
