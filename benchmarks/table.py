"""Every strategy on one model: ten fixed prompts, three seeds, the same sampling. Prints a Markdown table.

    python benchmarks/table.py [--model smollm2-135m] [--T-e 32] [--T-total 64] [--prompts 10] [--seeds 3]

What a run did, not how well: steps of thinking, how it ended, distinct readout tokens, mean largest weight, share of
steps that were truly mixed (largest weight below 0.95), tokens/s of the lanes together. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from typing import Any

from superpose.engine import open_engine
from superpose.models import DEMO
from superpose.runner import Runner
from superpose.spec import make_spec
from superpose.store import Store
from superpose.strategy import strategies

PROMPTS = (
    "What is 25 + 17? Explain briefly.",
    "A train leaves at 14:35 and arrives at 17:10. How long is the ride?",
    "Which is larger, 9.11 or 9.9? Give a reason.",
    "Name three planets and one fact about each.",
    "Translate 'The weather is nice today' into French.",
    "Write a Python function that reverses a string.",
    "Why is the sky blue?",
    "Write a haiku about the sea.",
    "Tom has 3 boxes with 12 apples each and gives away 7 apples. How many are left?",
    "Give a one-sentence summary of how vaccines work.",
)


def row(records: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What the runs of one strategy did."""
    steps = [s for r in records for s in r["steps"] if s["phase"] != "transition"]
    mixed = [s for s in steps if s["kind"] == "mixture"]
    largest = [max(abs(f["weight"]) for f in s["fed"]) for s in mixed]
    ended = Counter(r["thinking"]["ended_by"] or r["answer"]["ended_by"] for r in records)
    return {
        "thinking": statistics.mean(r["thinking"]["steps"] for r in records),
        "ended": dict(ended.most_common()),
        "distinct": statistics.mean(len({s["token"]["id"] for s in r["steps"]}) for r in records),
        "largest": statistics.mean(largest) if largest else 1.0,
        "mixed": sum(w < 0.95 for w in largest) / max(1, len(steps)),
        "tokens_per_second": sum(len(r["steps"]) for r in records) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--T-e", dest="T_e", type=int, default=32)
    parser.add_argument("--T-total", dest="T_total", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    store = Store(None)
    runner = Runner(open_engine(options.model), store)
    rows = {}
    print("| strategy | thinking steps | ended by | distinct tokens | mean largest weight | truly mixed | tokens/s |")
    print("|---|---|---|---|---|---|---|")
    for name in strategies():
        common = {"strategy": name, "T_e": options.T_e, "T_total": options.T_total, "temperature": 0.6}
        begun = time.perf_counter()
        runs = [
            runner.submit(make_spec({**common, "user": user, "seed": seed, "answer": {"top_p": 0.95, "top_k": 30}}))
            for user in PROMPTS[: options.prompts]
            for seed in range(options.seeds)
        ]
        while store.live(runs):
            time.sleep(0.05)
        told = rows[name] = row([dict(store.record(run)) for run in runs], time.perf_counter() - begun)
        ended = ", ".join(f"{by} {count}" for by, count in told["ended"].items())
        print(
            f"| `{name}` | {told['thinking']:.1f} | {ended} | {told['distinct']:.1f} | {told['largest']:.2f} "
            f"| {100 * told['mixed']:.0f} % | {told['tokens_per_second']:.0f} |",
            flush=True,
        )
    runner.close()
    print(json.dumps({"model": options.model, "T_e": options.T_e, "T_total": options.T_total, "strategies": rows}))


if __name__ == "__main__":
    main()
