"""Writes the recorded runs that the page shows as examples: web/src/examples/lab.json and strategies.json.

    python benchmarks/examples.py [lab | strategies] [--model smollm2-135m]

Real runs of the model that is named, cut to what is drawn: candidates beyond the heaviest are summed into the rest,
numbers have four digits, a token's text stands once a file, and what goes without saying is left out.
web/src/core/example.ts reads them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from superpose.engine import open_engine
from superpose.models import DEMO
from superpose.runner import Runner
from superpose.spec import make_spec
from superpose.store import Store
from superpose.strategy import strategies

CELLS = 10  # of a column
COMMON = {"type": "step", "phase": "thinking", "kind": "mixture", "combine": "sum", "reason": None, "norm_ratio": None}
FOLDER = Path(__file__).parents[1] / "web/src/examples"
LAB = {
    "system": "You are a careful teacher. Think first, then answer briefly.",
    "user": "Explain in two sentences why leaves are green.",
    "strategy": {"name": "non_uniform", "k": 10},
    "T_e": 40, "T_total": 120, "temperature": 0.7, "answer": {"top_p": 0.9}, "seed": 1,
}  # fmt: skip
EACH = {"user": LAB["user"], "T_e": 12, "T_total": 15, "temperature": 0.8, "seed": 1}


def packed(events: list[dict[str, Any]], likeliest: int, tokens: dict[int, str]) -> list[dict[str, Any]]:
    """The events with the candidates that are drawn and the likeliest, as pairs; their texts go into `tokens`."""

    def pair(entry: dict[str, Any]) -> list[Any]:
        tokens[entry["id"]] = entry["text"]
        return [entry["id"], short(entry.get("weight", entry.get("probability")))]

    out = []
    for event in events:
        event = {name: short(value) for name, value in event.items() if name not in ("run", "seq")}
        if event["type"] == "step":
            fed, believed, rest = event["fed"], event["believed"], event.pop("fed_rest", None)
            if cut := fed[CELLS:]:
                before = rest or {"count": 0, "weight": 0.0}
                weight = before["weight"] + sum(each["weight"] for each in cut)
                rest = {"count": before["count"] + len(cut), "weight": short(weight)}
            event["tail"] = short(event["tail"] + sum(each["probability"] for each in believed[likeliest:]))
            event["fed"], event["believed"] = [pair(e) for e in fed[:CELLS]], [pair(e) for e in believed[:likeliest]]
            event |= {name: pair(event[name]) for name in ("token", "drawn") if event.get(name)}
            event |= {"fed_rest": rest} if rest else {}
            same = {**COMMON, "text": tokens[event["token"][0]], "step": event["step"]}
            event = {name: value for name, value in event.items() if name not in same or value != same[name]}
        out.append(event)
    return out


def short(value: Any) -> Any:
    """A float with four digits; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", choices=["lab", "strategies"])
    parser.add_argument("--model", default=DEMO)
    options = parser.parse_args()
    store = Store(None)
    runner = Runner(open_engine(options.model), store)
    plans: dict[str, tuple[list[dict[str, Any]], int]] = {
        "lab": ([LAB], 12),
        "strategies": ([{**EACH, "strategy": name} for name in strategies()], 5),
    }
    for which, (specs, likeliest) in plans.items():
        if options.which not in (None, which):
            continue
        runs = [runner.submit(make_spec({**spec, "model": options.model})) for spec in specs]
        while store.live(runs):
            time.sleep(0.05)
        tokens: dict[int, str] = {}
        logs = [[json.loads(stored.data) for stored in store.events([run], 0, limit=-1)] for run in runs]
        logs = [packed(events, likeliest, tokens) for events in logs]
        whole = json.dumps({"tokens": tokens, "runs": logs}, ensure_ascii=False, separators=(",", ":"))
        (FOLDER / f"{which}.json").write_text(whole + "\n", encoding="utf-8")
        print(f"{which}.json: {len(runs)} runs, {len(whole.encode()) / 1000:.0f} kB")
        if which == "lab":
            print(store.record(runs[0])["text"])
    runner.close()


if __name__ == "__main__":
    main()
