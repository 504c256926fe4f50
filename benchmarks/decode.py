"""Speed of our whole loop against transformers' `generate`: same model, threads and process.

    python benchmarks/decode.py [--model smollm2-135m] [--weights float32 …] [--peer bfloat16] [--steps 64] [--rounds 5]
                                [--lanes 1 2 4 8 16]

Weights are float32, bfloat16, or int8 or int4 beside bfloat16; the peer has the same dtype unless another is named.

Each round times generate and ours in turn, each in a thread that ends, so that a noisy machine hits both and neither
keeps threads beside the other's; ratios are medians over rounds. Ours is everything that a user's run does: strategy,
events, a store on disk. `overhead` is the share of a step spent outside the engine, `bandwidth` the share of the
measured speed of reading memory that all weights once a step come to, `first_token_ms` the time from submission to the
first step. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from superpose.engine import EngineOptions, open_engine
from superpose.engines.torch_engine_gguf import to_folder
from superpose.engines.torch_engine_quantize import KINDS
from superpose.engines.torch_engine_threads import aside
from superpose.models import DEMO, cache_dir, resolve
from superpose.runner import Runner
from superpose.spec import make_spec
from superpose.store import Store

USER = "What is 25 + 17? Explain how you add them, step by step, and give another example."


class Timed:
    """An engine that notes when each step of how many lanes began and how long it was inside."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.steps: list[tuple[float, float, int]] = []  # began, seconds inside, lanes; lanes 0 is a prefill
        self._mixing = 0.0  # seconds of the mixtures that the next step is fed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def prefill(self, *arguments: Any) -> Any:
        self.steps.append((time.perf_counter(), 0.0, 0))
        return self._engine.prefill(*arguments)

    def release(self) -> None:
        """Nothing: it serves several runners."""

    def norm_ratios(self, mixtures: Any) -> Any:
        began = time.perf_counter()
        answer = self._engine.norm_ratios(mixtures)
        self._mixing = time.perf_counter() - began
        return answer

    def step(self, lanes: Any, *arguments: Any) -> Any:
        began, mixing = time.perf_counter(), self._mixing
        answer = self._engine.step(lanes, *arguments)
        self.steps.append((began, time.perf_counter() - began + mixing, len(lanes)))
        self._mixing = 0.0  # that of a step itself is in it
        return answer

    def rate(self, lanes: int) -> tuple[float, float]:
        """Lane-steps a second while `lanes` were live, and the share of that time outside of the engine."""
        pairs = [(one, two) for one, two in pairwise(self.steps) if one[2] == two[2] == lanes]
        whole = sum(two[0] - one[0] for one, two in pairs)
        inside = sum(one[1] for one, _ in pairs)
        self.steps.clear()
        return lanes * len(pairs) / whole, 1 - inside / whole


def ours(runner: Runner, store: Store, lanes: int, steps: int) -> tuple[float, float]:
    """Lane-steps a second of `lanes` runs together, and the share of it that is not the engine's."""
    engine: Any = runner.engine
    spec = {"user": USER, "T_e": steps // 2, "T_total": steps, "end_probability": None, "transition": ""}
    runs = [runner.submit(make_spec({**spec, "seed": seed})) for seed in range(lanes)]
    while any(store.status(run) in ("queued", "running") for run in runs):
        time.sleep(0.2)  # asking takes the store, which runs write to
    rate: tuple[float, float] = engine.rate(lanes)
    return rate


@torch.inference_mode()
def generate(model: Any, ids: list[int], lanes: int, steps: int) -> float:
    """Tokens a second of `generate`, its prompt pass left out."""
    inputs = torch.tensor([ids] * lanes)
    common = {"do_sample": False, "attention_mask": torch.ones_like(inputs), "pad_token_id": 0}
    times = []
    for count in (1, steps + 1):
        begun = time.perf_counter()
        model.generate(inputs, max_new_tokens=count, min_new_tokens=count, **common)
        times.append(time.perf_counter() - begun)
    return lanes * steps / (times[1] - times[0])


def reading() -> float:
    """GB/s of reading memory, the best of some products with a vector of what no cache holds."""
    block, vector = torch.ones(1 << 15, 1 << 12), torch.ones(1 << 12)
    times = []
    for _ in range(8):
        begun = time.perf_counter()
        block.mv(vector)
        times.append(time.perf_counter() - begun)
    return block.nbytes / min(times) / 1e9


def first_token(runner: Runner, store: Store) -> float:
    """Milliseconds from submission to the first step, of one run alone."""
    begun = time.perf_counter()
    run = runner.submit(make_spec({"user": USER, "T_e": 1, "T_total": 1, "transition": ""}))
    while not any(stored.type == "step" for stored in store.events([run], 0)):
        time.sleep(0.0005)
    took = 1000 * (time.perf_counter() - begun)
    while store.live([run]):
        time.sleep(0.001)
    return took


def measured(options: argparse.Namespace, weights: str, bandwidth: float) -> dict[str, Any]:
    """All of one kind of weights."""
    quantize, dtype = (weights, "bfloat16") if weights in KINDS else (None, weights)
    files = resolve(options.model)
    assert files.path is not None, "the toy has no peer to be measured against"
    folder = to_folder(files.path, cache_dir(), None) if files.kind == "gguf" else files.path
    peer_dtype = getattr(torch, options.peer or dtype)
    peer = aside(lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=peer_dtype, local_files_only=True))
    engine: Any = Timed(open_engine(options.model, EngineOptions(engine="torch", dtype=dtype, quantize=quantize)))
    itemsize = getattr(torch, dtype).itemsize  # a step reads all but the table of embeddings, which may be the head's
    size = engine.info.parameters * itemsize
    if quantize:
        size = engine.memory().weights - engine.info.vocab * engine.info.width * itemsize
    ids = engine.tokenizer.chat("", USER).token_ids
    rounds: dict[int, list[tuple[float, float, float]]] = {lanes: [] for lanes in options.lanes}
    waits = []
    with tempfile.TemporaryDirectory() as data:
        store = Store(Path(data))

        def mine(lanes: int, steps: int) -> tuple[float, float]:
            with closing(Runner(engine, store)) as runner:
                return ours(runner, store, lanes, steps)

        def theirs(lanes: int, steps: int) -> float:
            return aside(lambda: generate(peer, ids, lanes, steps))

        mine(1, 8)
        theirs(1, 8)
        for number in range(options.rounds):
            with closing(Runner(engine, store)) as runner:
                waits.append(first_token(runner, store))
            engine.steps.clear()
            for lanes in options.lanes:
                told = (*mine(lanes, options.steps), theirs(lanes, options.steps))
                rounds[lanes].append(told)
                print(f"{weights}, round {number + 1}, {lanes} lanes: ours {told[0]:.1f}/s, generate {told[2]:.1f}/s")
        store.close()
    single = [mine / options.lanes[0] for mine, _, _ in rounds[options.lanes[0]]]
    rows = {}
    for lanes, told_rounds in rounds.items():
        rate = statistics.median(mine for mine, _, _ in told_rounds)
        rows[str(lanes)] = {
            "tokens_per_second": round(rate, 2),
            "vs_generate": round(statistics.median(mine / other for mine, _, other in told_rounds), 3),
            "vs_one_lane": round(statistics.median(m / s for (m, _, _), s in zip(told_rounds, single, strict=True)), 3),
            "bandwidth": round(size * rate / lanes / 1e9 / bandwidth, 3),
            "overhead": round(statistics.median(share for _, share, _ in told_rounds), 4),
        }
    return {"first_token_ms": round(statistics.median(waits), 1), "prompt": len(ids), "lanes": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--weights", nargs="+", default=["float32"])
    parser.add_argument("--peer", help="dtype of generate; default: that of ours")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    options = parser.parse_args()
    bandwidth = aside(reading)
    result = {
        "model": options.model, "threads": torch.get_num_threads(), "steps": options.steps,
        "read_gigabytes_per_second": round(bandwidth, 1),
        "peer": options.peer,
        "weights": {weights: measured(options, weights, bandwidth) for weights in options.weights},
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
