"""Runs from files: a record, a list of records, or events as JSON lines. What would be lost or misread is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from superpose.events import TERMINAL, Event, RunRecord, fold, queued
from superpose.formats import TYPES, AnyEvent, Id, Name, Record, Step, Tags, bad, check, parse
from superpose.problems import clip
from superpose.replay import mixture_of

MAX_BYTES = 64_000_000
MAX_RUNS = 1_000
CUT_OFF = "interrupted: the run was still live when its file was written; what it had is kept"
_SETTINGS = 20_000  # characters of a spec beside its prompts: lists show it


class Foreign(NamedTuple):
    """A run of another store: its id there, its label, and its events, first to last, without `run` and `seq`."""

    id: str
    name: str | None
    tags: list[str]
    events: list[Event]


def read(data: bytes) -> list[Foreign]:
    """The runs in a file. Raises BadInput with one sentence for a file that is not wholly sound."""
    if len(data) > MAX_BYTES:
        raise bad(f"the file has {len(data)} bytes; at most {MAX_BYTES} are allowed")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = ""
    if text[:1] not in ("{", "["):
        raise bad("the file is neither JSON nor JSON lines; import what superpose exports as json or jsonl")
    found = _from_lines(text) if _has_lines(text) else _from_records(parse(text, "the file"))
    if not 1 <= len(found) <= MAX_RUNS:
        raise bad(f"the file holds {len(found)} runs; 1 to {MAX_RUNS} are allowed")
    return found


def _has_lines(text: str) -> bool:
    """Whether these are events, one a line. (Inside a text of a record the quotes would be escaped.)"""
    first = text.partition("\n")[0]
    return '"run_queued"' in first or re.match(r'\{\s*"type"', first) is not None


def _from_lines(text: str) -> list[Foreign]:
    found: dict[str, Foreign] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"line {number}"
        event = parse(line, where)
        kind = event.get("type") if isinstance(event, dict) else event
        if not isinstance(kind, str) or kind not in TYPES:
            raise bad(f"{where} is not an event that this superpose knows: type {clip(repr(kind))}")
        run, seq = event.pop("run", None), event.pop("seq", None)
        check(Id, run, where, "run")
        if kind == "run_queued" and run not in found and len(found) < MAX_RUNS:
            found[run] = Foreign(run, event.pop("name", None), event.pop("tags", []), [])
            check(Name, found[run].name, where, "name")
            check(Tags, found[run].tags, where, "tags")
        if run not in found:
            raise bad(
                f"{where}: run {clip(run)!r} does not begin with run_queued, or is run {MAX_RUNS + 1} of the file"
            )
        if seq != len(found[run].events) or isinstance(seq, bool):
            raise bad(f"{where}: seq must be {len(found[run].events)}, the next of its run; got {clip(repr(seq))}")
        check(AnyEvent, event, where)
        found[run].events.append(event)
    for foreign in found.values():
        _in_order(foreign.events, f"run {clip(foreign.id)!r}")
    return list(found.values())


def _in_order(events: list[Event], where: str) -> None:
    """Checks what no single event shows, and ends a run that had not ended."""
    _check_settings(events[0]["spec"], where)
    step = 0
    for place, event in enumerate(events):
        kind = event["type"]
        if kind in TERMINAL and place != len(events) - 1:
            raise bad(f"{where} goes on after {kind}")
        if kind in ("run_queued", "run_started") and kind in (earlier["type"] for earlier in events[:place]):
            raise bad(f"{where} has {kind} twice")
        if kind == "step":
            if event["step"] != step:
                raise bad(f"{where}: step {event['step']} stands where step {step} belongs")
            try:
                mixture_of(event, 0, {})
            except ValueError as error:
                raise bad(f"{where}: step {step} cannot be fed: {error}") from error
            step += 1
    if events[-1]["type"] not in TERMINAL:
        events.append({"type": "run_failed", "error": CUT_OFF})


def _check_settings(spec: dict[str, Any], where: str) -> None:
    rest = {name: value for name, value in spec.items() if name not in ("system", "user", "transition", "fork")}
    size = len(json.dumps(rest))
    if size > _SETTINGS:
        raise bad(f"{where}: the settings of its spec have {size} characters; at most {_SETTINGS} are allowed")


def _from_records(value: Any) -> list[Foreign]:
    records = value if isinstance(value, list) else [value]
    found = []
    for number, record in enumerate(records[: MAX_RUNS + 1]):
        where = "the record" if value is record else f"record {number + 1} of the list"
        check(Record, record, where)
        for place, step in enumerate(record["steps"]):
            check(Step, step, where, f"steps.{place}")
        events = list(_unfold(record, where))
        _in_order(events, where)
        foreign = Foreign(record["id"], record["name"], record["tags"], events)
        _compare(record, fold(foreign.id, events, foreign.name, foreign.tags), where)
        found.append(foreign)
    if len({foreign.id for foreign in found}) < len(found):
        raise bad("the file holds two records with one id")
    return found


def _unfold(record: dict[str, Any], where: str) -> Iterator[Event]:
    """Events that fold into the record."""
    timing = record["timing"]
    yield queued(record["spec"], record["created_at"])
    if record["prompt"] is not None and record["engine"] is not None:
        yield {
            "type": "run_started", "prompt": record["prompt"], "engine": record["engine"], "queue_s": timing["queue_s"],
        }  # fmt: skip
    if record["steps"] or timing["prefill_s"]:
        yield {"type": "prefilled", "prefill_s": timing["prefill_s"]}
    if record.get("replay"):
        yield {**record["replay"], "type": "replayed"}
    ends = [(_last(record, phase), _phase_ended(record, phase, where)) for phase in ("thinking", "answer")]
    for place, step in enumerate([None, *record["steps"]]):
        if step is not None:
            yield {**step, "type": "step"}
        for last, ended in ends:
            if last == place:
                yield from ended
    if record["status"] in ("finished", "cancelled"):
        why = {"error": record["error"]} if record["status"] == "cancelled" and record["error"] is not None else {}
        yield {"type": f"run_{record['status']}", "timing": timing, **why}
    else:
        error = record["error"] if record["status"] == "failed" else CUT_OFF
        yield {"type": "run_failed", "error": error, "timing": timing}


def _last(record: dict[str, Any], phase: str) -> int:
    """How many steps there are up to the last one of a phase."""
    return max((place for place, step in enumerate(record["steps"], 1) if step["phase"] == phase), default=0)


def _phase_ended(record: dict[str, Any], phase: str, where: str) -> Iterator[Event]:
    about, steps = record[phase], record["steps"]
    read = "".join(step["text"] for step in steps if step["phase"] == phase)
    if not about["text"].startswith(read):
        raise bad(f"{where}: {phase}.text is not the text of its steps")
    rest = about["text"][len(read) :]
    if phase == "answer" and steps and steps[-1]["phase"] == "transition":  # it ended before the answer began
        phase, rest = "transition", record["text"][len(record["thinking"]["text"]) :]
        rest = rest[len("".join(step["text"] for step in steps if step["phase"] == phase)) :]
    if about["ended_by"] is not None or rest:
        yield {
            "type": "phase_ended", "phase": phase, "ended_by": about["ended_by"], "reason": about["reason"],
            "steps": about["steps"], "text": rest, "token": None,
        }  # fmt: skip


def _compare(record: dict[str, Any], folded: RunRecord, where: str) -> None:
    """Raises BadInput for a field that does not follow from the steps, and so would be lost."""
    over = record["status"] in ("finished", "cancelled", "failed")
    again: dict[str, Any] = {**folded}
    for field in record:
        if record[field] != again[field] and (over or field not in ("status", "error")):
            raise bad(f"{where}: {field} does not agree with its steps")
