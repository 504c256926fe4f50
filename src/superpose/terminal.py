"""Runs and pages as readable text: blue for mixtures, orange for sampled tokens, stronger = surer or rarer."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any

from superpose.events import Event, RunRecord, answered

_MIXTURE = ((0.9, "34"), (0.6, "94"), (0.0, "96"))  # by the heaviest weight
_SAMPLED = ((0.5, ""), (0.2, "33"), (0.0, "91"))  # by probability
_INJECTED = "2"


class Screen:
    """Prints a run's events: text on stdout, a progress line on stderr. `quiet` keeps the text back."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        plain = "NO_COLOR" in os.environ
        self._colour = sys.stdout.isatty() and not plain
        self._progress = sys.stderr.isatty()
        self._drawn = 0.0
        self._open = False

    def loading(self, stage: str, done: float, total: float) -> None:
        """One stage of loading a model."""
        share = f" {100 * done / total:.0f} %" if total else ""
        self._line(f"loading: {stage}{share}", force=done == 0)

    def show(self, event: Event) -> None:
        """One event."""
        match event["type"]:
            case "run_started":
                engine = event["engine"]
                self._line(f"{engine['model']}: {engine['name']} on {engine['device']} ({engine['dtype']})", force=True)
            case "step":
                self._step(event)
            case "phase_ended" if event["phase"] == "thinking":
                self._line(f"thinking ended after {event['steps']} steps: {event['reason']}", force=True)
            case "run_failed":
                self._line("", force=True)
                print(f"failed: {event['error']}", file=sys.stderr)
            case "run_finished" | "run_cancelled":
                timing = event["timing"]
                self._line(f"{event['type'][4:]}: {timing['tokens_per_second']:.1f} tokens/s", force=True)

    def close(self, *runs: str) -> None:
        """Ends the text with a line break and tells the runs' ids."""
        if self._open:
            print()
        if self._progress:
            print("\r\033[K", end="", file=sys.stderr)
        for run in runs:
            print(f"run {run}", file=sys.stderr)

    def _step(self, event: Event) -> None:
        self._line(f"{event['phase']} · step {event['step'] + 1} · {event['kind']}")
        if self._quiet or not event["text"]:
            return
        text = _printable(event["text"])
        if self._colour:
            text = f"\033[{code}m{text}\033[0m" if (code := _code(event)) else text
        print(text, end="", flush=True)
        self._open = True

    def _line(self, text: str, force: bool = False) -> None:
        """The progress line, at most ten times a second; a terminal only."""
        now = time.monotonic()
        if not self._progress or (not force and now - self._drawn < 0.1):
            return
        self._drawn = now
        # Saved and restored around the text that streams on the same terminal.
        print(
            f"\0337\r\n\033[2K{text[:100]}\0338" if self._open else f"\r\033[K{text[:100]}\r",
            end="",
            file=sys.stderr,
            flush=True,
        )


def answers(records: list[RunRecord]) -> str:
    """The distinct answers of runs that differ by their seed, most frequent first, with shares and 95 % intervals.

    Runs that failed or were stopped have no answer that could be counted.
    """
    groups: dict[str, list[int]] = {}
    finished = [record for record in records if record["status"] == "finished"]
    for record in finished:
        groups.setdefault(" ".join(answered(record).split()), []).append(record["spec"]["seed"])
    total, told = len(finished), []
    for text, seeds in sorted(groups.items(), key=lambda group: -len(group[1])):
        low, high = wilson(len(seeds), total)
        told.append(
            f"{len(seeds)} of {total} ({100 * len(seeds) / total:.0f} %, 95 % interval {100 * low:.0f} to "
            f"{100 * high:.0f} %), seeds {', '.join(map(str, seeds))}\n  {_printable(text) or '(no answer)'}"
        )
    if total < len(records):
        told.append(f"{len(records) - total} of {len(records)} failed or were stopped, and are not counted")
    return "\n".join(told)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score method (Wilson 1927), from 0 to 1; `total` at least 1."""
    z, p = 1.959964, hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def strategy_page(about: dict[str, Any]) -> str:
    """The reference page of one strategy: docstring, how it thinks and ends, parameters."""
    lines = [about["name"], "", about["doc"], "", *_facts(about)]
    parameters = _parameters(about)
    if parameters:
        lines += ["", "Parameters:"]
    lines += [f"  {name} = {default}  ({allowed})  {meaning}" for name, default, allowed, meaning in parameters]
    return "\n".join(lines)


def reference(described: list[dict[str, Any]]) -> str:
    """The reference of all strategies as Markdown."""
    pages = []
    for about in described:
        page = [f"### {about['name']}", "", about["doc"].replace("\n\n", "\n").replace("\n", "  \n"), ""]
        page += [f"- {fact}" for fact in _facts(about)]
        parameters = _parameters(about)
        if parameters:
            page += ["", "| parameter | default | allowed | meaning |", "|---|---|---|---|"]
            page += [f"| `{row[0]}` | {' | '.join(row[1:])} |" for row in parameters]
        pages.append("\n".join(page))
    return "\n\n".join(pages)


def _facts(about: dict[str, Any]) -> list[str]:
    """How it thinks and ends, in words."""
    if not about["thinks"]:
        return ["Rules the whole generation: no thinking phase, no transition; a drawn end of text ends it."]
    ends = about["end_probability"]
    return [
        f"Transition: {about['transition'] or 'none'}",
        f"An end token of probability {ends:g} ends thinking." if ends is not None
        else "Has an end rule of its own; `end_probability` is off unless set.",
    ]  # fmt: skip


def _parameters(about: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(name, default, what is allowed, meaning) of each parameter."""
    rows = []
    for name, field in about["schema"]["properties"].items():
        low = field.get("minimum", field.get("exclusiveMinimum"))
        high = field.get("maximum", field.get("exclusiveMaximum"))
        allowed = field["type"]
        if "enum" in field:
            allowed = ", ".join(field["enum"])
        elif low is not None:
            allowed = f"{'above ' if 'exclusiveMinimum' in field else ''}{low:g} to {high:g}"
        rows.append((name, repr(field["default"]), allowed, field["description"]))
    return rows


def _code(event: Event) -> str:
    if event["kind"] == "injected":
        return _INJECTED
    mixture = event["kind"] == "mixture"
    value = abs(event["fed"][0]["weight"]) if mixture else event["token"]["probability"]
    return next(code for least, code in (_MIXTURE if mixture else _SAMPLED) if value >= least)


def _printable(text: str) -> str:
    """The text without control characters that would steer the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() or ord(c) > 0x9F else f"\\x{ord(c):02x}" for c in text)
