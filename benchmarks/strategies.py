"""Microseconds that each strategy takes for one step, on beliefs of 64 candidates and of a whole vocabulary.

    python benchmarks/strategies.py [--repeats 100]

The peer of the same run is numpy's softmax over the same 64 numbers, what the plainest mixture cannot do without:
`ratio` is against it. Each number is the median over steps of the quietest of 20 times that the step was taken, for
other programs want the cores too. Aims:
50 microseconds with 64 candidates, 1,000 with a vocabulary of 152,000, on a machine whose peer takes 5; on another
one as many times more or less as its peer takes. Exits with 1 where one is missed. Last line JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from superpose.strategy import Setting, Step, make_strategy, strategies
from superpose.types import Distribution, Sampling

FEW, VOCABULARY = 64, 152_000
AIMS = {FEW: 50 / 5, VOCABULARY: 1000 / 5}  # times the peer
ROUNDS = 20


def belief(count: int, vocabulary: int, sharpness: float = 3.0) -> Distribution:
    """The `count` likeliest of a random model's belief over a vocabulary."""
    random = np.random.default_rng(0)
    z = np.sort(random.normal(0, sharpness, vocabulary))[::-1]
    p = np.exp(z - z[0])
    p /= p.sum()
    nats = float(-(p * np.log(p)).sum())
    ids = random.permutation(vocabulary)[:count].astype(np.int32)
    kept = p[:count].astype(np.float32)
    return Distribution(ids, kept, float(1 - kept.sum()), nats, nats, int(ids[1]), float(kept[1]))


def quicker(act: Callable[[int], object], nanoseconds: list[int]) -> None:
    """Calls for each place of the list, which keeps the shortest time of each."""
    for i, shortest in enumerate(nanoseconds):
        begun = time.perf_counter_ns()
        act(i)
        nanoseconds[i] = min(shortest, time.perf_counter_ns() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="calls a round; a tenth for whole vocabularies")
    repeats = parser.parse_args().repeats
    setting = Setting(1, 0.8, 10**6, 10**6, Sampling(), (5,), frozenset({2}), lambda text: [7], lambda token: "word")
    few, whole = belief(FEW, VOCABULARY), belief(VOCABULARY, VOCABULARY)
    scores = np.log(few.probs)
    works: dict[str, tuple[int, Callable[[int], object]]] = {
        "peer": (FEW, lambda _: np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
    }
    for name, cls in strategies().items():
        reads_all = cls().support() == 0 and cls().mass() == 1
        given = {"k": FEW} if "k" in cls.model_fields and name != "slerp" else {}
        mix = make_strategy({"name": name, **given}).begin(setting)
        d = whole if reads_all else few
        works[name] = len(d.ids), lambda i, mix=mix, d=d: mix(d, Step(i, 1))
    spent = {name: [sys.maxsize] * (repeats if count == FEW else repeats // 10) for name, (count, _) in works.items()}
    for _ in range(ROUNDS):
        for name, (_, act) in works.items():
            quicker(act, spent[name])
    quietest = {name: statistics.median(each) / 1000 for name, each in spent.items()}
    peer = quietest.pop("peer")
    told = {}
    for name, us in quietest.items():
        candidates = works[name][0]
        ok = us < AIMS[candidates] * peer
        told[name] = {"candidates": candidates, "us": round(us, 1), "ratio": round(us / peer, 1), "ok": ok}
        print(f"{name:34} {candidates:7} candidates {us:9.1f} us  {'' if ok else 'over its aim'}")
    ok = all(each["ok"] for each in told.values())
    print(json.dumps({"ok": ok, "peer_us": round(peer, 2), "strategies": told}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
