"""How quick the run library is with many runs: every sort, filter and search that the Runs screen can ask for.

    python benchmarks/runs.py [--runs 100000] [--data FOLDER]

Prints the median processor time of each query over several tries. The last line is JSON: the medians in ms, and whether
each stays under 100 ms. A folder that is named is kept, and filled only once.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from superpose.events import queued
from superpose.imports import Foreign
from superpose.store import Store
from superpose.store_list import Query, Sort

LIMIT_MS = 100.0
TEXT = (
    "how many apples does the train carry when it arrives at noon and why is the sky above the river blue prove that "
    "every prime number larger than two is odd write a haiku about rain translate this sentence into french name three "
    "planets sort the list in place explain entropy gradient attention token mixture embedding temperature"
)
WORDS = TEXT.split()
STRATEGIES = ("non_uniform", "nucleus", "dirichlet", "element_wise_max", "sample", "mixture_of_inputs")
MODELS = ("smollm2-135m", "Qwen/Qwen2.5-3B-Instruct", "toy")


def foreign(number: int, dice: random.Random) -> Foreign:
    """A finished run with 150 words of prompt and answer; number 77 alone is about zebras."""
    text = " ".join(dice.choices(WORDS, k=150)) + (" zebra" if number == 77 else "")
    model = MODELS[0] if number % 10 else dice.choice(MODELS)
    spec: dict[str, Any] = {
        "model": model, "system": "You are careful.", "user": f"What is {number} + 17? {text[:300]}",
        "strategy": {"name": dice.choice(STRATEGIES) if number % 1000 else "slerp", "k": 5}, "T_e": 50, "T_total": 250,
        "temperature": 0.8, "seed": dice.randrange(2**31),
        "fork": {"run": "0" * 12, "step": 3, "mixture": None} if number % 500 == 0 else None,
    }  # fmt: skip
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=37 * number)
    end = "run_finished" if number % 50 else "run_failed"
    step = {"type": "step", "step": 0, "phase": "answer", "kind": "sampled", "text": text[300:]}
    timing = {"queue_s": 0.0, "prefill_s": 0.1, "decode_s": 5.0, "tokens_per_second": round(dice.uniform(1, 90), 3)}
    events = [
        queued(spec, created.isoformat(timespec="milliseconds")), step,
        {"type": end, "timing": timing, "error": None if number % 50 else "out of memory"},
    ]  # fmt: skip
    tags = [f"tag{dice.randrange(20)}"] if number % 3 == 0 else []
    return Foreign(str(number), f"run {number}" if number % 7 == 0 else None, tags, events)


def fill(store: Store, count: int) -> None:
    """Puts so many runs into the store."""
    dice = random.Random(0)
    for batch in (range(at, min(at + 1000, count)) for at in range(0, count, 1000)):
        store.adopt([foreign(number, dice) for number in batch])


def queries() -> Iterator[tuple[str, Query]]:
    """What is asked, by name."""
    filters: dict[str, dict[str, Any]] = {
        "all": {}, "common strategy": {"strategy": "nucleus"}, "rare strategy": {"strategy": "slerp"},
        "no strategy": {"strategy": "none such"}, "rare model": {"model": "toy"}, "failed": {"status": "failed"},
        "live": {"status": "running"}, "tag": {"tag": "tag7"}, "children": {"parent": "0" * 12},
        "own": {"imported": False}, "three": {"strategy": "sample", "status": "failed", "tag": "tag3"},
    }  # fmt: skip
    searches = {
        "common word": "apples", "common words": "apples the train", "phrase": '"the train"', "rare word": "zebra",
        "number": "77777 + 17", "two letters": "ap", "rare two letters": "zq", "one letter": "7",
        "nothing": "xylophone", "part of words": "ppl", "name": "run 7007", "tag": "tag11", "strategy": "slerp",
    }  # fmt: skip
    for sort in get_args(Sort):
        for order in ("desc", "asc"):
            for name, values in filters.items():
                yield f"{sort} {order}, {name}", Query(sort=sort, order=order, **values)
            for name, search in searches.items():
                yield f"{sort} {order}, search {name}", Query(search=search, sort=sort, order=order)
    for name, search in searches.items():
        yield f"failed, search {name}", Query(search=search, status="failed")
        yield f"children, search {name}", Query(search=search, parent="0" * 12)


def median_ms(act: Any, tries: int = 5) -> float:
    """The median time of some tries, in ms, after one that warms up: this process's own, whatever else runs here."""
    act()
    took = []
    for _ in range(tries):
        begun = time.process_time()
        act()
        took.append(1000 * (time.process_time() - begun))
    return round(statistics.median(took), 2)


def main() -> None:
    """Fills a store, asks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(options.data or Path(scratch))
        if not store.summaries(Query(limit=1)).runs:
            begun = time.perf_counter()
            fill(store, options.runs)
            print(f"{options.runs} runs made in {time.perf_counter() - begun:.0f} s")
        medians = {}
        for name, query in queries():
            medians[name] = median_ms(lambda query=query: store.summaries(query))
            page, depth = store.summaries(query), 0
            while page.next and depth < 3:
                page, depth = store.summaries(Query(**{**vars(query), "after": page.next})), depth + 1
            if depth:
                deep = Query(**{**vars(query), "after": page.next or None})
                medians[f"{name}, page {depth + 2}"] = median_ms(lambda deep=deep: store.summaries(deep), 3)
        medians["facets"] = median_ms(store.facets)
        spec = {"user": "What is 25 + 17?", "strategy": {"name": "nucleus"}, "model": "toy", "seed": 1}
        medians["create"] = median_ms(lambda: store.create(spec), 50)
        for name, took in sorted(medians.items(), key=lambda item: -item[1]):
            print(f"{took:8.2f} ms  {name}")
        ok = {name: took < LIMIT_MS for name, took in medians.items()}
        print(json.dumps({"runs": options.runs, "medians_ms": medians, "ok": ok, "all_ok": all(ok.values())}))
        store.close()


if __name__ == "__main__":
    main()
