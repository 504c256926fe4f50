"""Many runs at once for minutes: memory stays constant, nobody waits for ever, no live run stalls.

    python benchmarks/load.py [--model smollm2-135m] [--engine E] [--runs 64] [--minutes 10]

So many runs are always under way, of all kinds of prompts and strategies, queued ones among them; whoever ends is
followed by another. Told are resident memory in the first and the last quarter (after a first minute, in which caches
fill), steps a second of all lanes, time to the first step from submission and from the lane, and the longest gap
between two steps of a live run. Exits with 1 where memory grew by more than 3 % or a run failed. Last line JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from superpose.engine import EngineOptions, open_engine
from superpose.models import DEMO
from superpose.runner import Runner
from superpose.spec import make_spec
from superpose.store import Store

PROMPTS = (
    "What is 25 + 17?",
    "Why is the sky blue? " * 30,  # several chunks
    "Write a haiku about the sea.",
    "Name three planets and one fact about each.",
)
STRATEGIES = ("non_uniform", "sample", "element_wise_max", "soft_thinking", "dirichlet", "top_n_sigma", "nucleus")


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    ordered = sorted(seconds) or [0.0]
    places = {"median": len(ordered) // 2, "p99": 99 * len(ordered) // 100, "most": len(ordered) - 1}
    return {name: round(ordered[place], 4) for name, place in places.items()}


class Seen:
    """What became of the runs, by the events that the store took."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.first_s: list[float] = []
        self.gaps: list[float] = []
        self.steps = 0
        self.ends: dict[str, int] = {}

    def take(self, run: str, event: dict[str, Any], now: float) -> bool:
        """Notes an event; whether the run has ended with it."""
        kind = event["type"]
        if kind == "step":
            self.steps += 1
            if run in self.last:
                self.gaps.append(now - self.last[run])
            else:
                self.first_s.append(now - self.begun[run])
            self.last[run] = now
        if kind in ("run_finished", "run_failed", "run_cancelled"):
            self.ends[kind] = self.ends.get(kind, 0) + 1
            self.last.pop(run, None)
            del self.begun[run]
            return True
        return False


class Watched(Store):
    """A store that shows each event to `Seen`."""

    seen = Seen()

    def append(self, batch: Any, feeds: Any = ()) -> Any:
        answer = super().append(batch, feeds)
        now = time.perf_counter()
        for run, event in batch:
            if run in self.seen.begun:
                self.seen.take(run, event, now)
        return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--engine")
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    numbers = itertools.count()
    samples: list[tuple[float, int, int]] = []  # seconds, bytes, steps
    with tempfile.TemporaryDirectory() as folder:
        store = Watched(Path(folder) / "runs.db")
        seen = store.seen
        engine = open_engine(given.model, EngineOptions(engine=given.engine))
        runner = Runner(engine, store)
        began = time.perf_counter()
        shown = 0.0
        while (at := time.perf_counter() - began) < 60 * given.minutes:
            while len(seen.begun) < given.runs:
                i = next(numbers)
                spec = make_spec({
                    "user": PROMPTS[i % len(PROMPTS)], "strategy": STRATEGIES[i % len(STRATEGIES)], "seed": i,
                    "T_e": 12, "T_total": 24 + i % 16, "temperature": 0.8,
                })  # fmt: skip
                submitted = time.perf_counter()
                seen.begun[runner.submit(spec)] = submitted
            samples.append((at, resident(), seen.steps))
            if at - shown >= 30:
                shown = at
                print(
                    f"{at:6.0f} s  {samples[-1][1] / 2**20:8.1f} MiB  {seen.steps / at:7.1f} steps/s  {seen.ends}",
                    flush=True,
                )
            time.sleep(0.25)
        took = time.perf_counter() - began
        runner.close()
        store.close()
    warm = [size for at, size, _ in samples if at >= min(60.0, took / 4)]
    quarter = max(1, len(warm) // 4)
    early, late = statistics.median(warm[:quarter]), statistics.median(warm[-quarter:])
    finished = seen.ends.get("run_finished", 0)
    told = {
        "ok": late <= 1.03 * early and not seen.ends.get("run_failed"),
        "runs": given.runs,
        "lanes": engine.info.max_lanes,
        "minutes": round(took / 60, 2),
        "finished": finished,
        "failed": seen.ends.get("run_failed", 0),
        "steps_per_second": round(seen.steps / took, 1),
        "memory_mib": [round(early / 2**20, 1), round(late / 2**20, 1)],
        "first_step_s": spread(seen.first_s),  # from submission: most of it is the queue
        "gap_s": spread(seen.gaps),  # between two steps of a run
    }
    print(json.dumps(told))
    return 0 if told["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
