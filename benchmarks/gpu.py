"""Speed on a GPU of a model of the shape of Qwen2.5-3B with random weights in bfloat16, against what its memory allows.

    python benchmarks/gpu.py [--lanes 1 8] [--steps 200] [--rounds 3] [--device cuda] [--tiny]

A step must read all weights and the keys and values seen once; `bandwidth` is the share of the measured speed of large
copies that this comes to. Rounds time transformers' `generate` and ours in turn; ratios are medians over rounds.
`--tiny` takes a small shape, `--device cpu` shows that the script works. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from superpose.engine import Readout
from superpose.engines.torch_engine import TorchEngine
from superpose.engines.toy import ByteTokenizer
from superpose.types import Mixture

PROMPT, CANDIDATES = 64, 16
SHAPE = dict(  # Qwen/Qwen2.5-3B-Instruct, config.json
    vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
    num_key_value_heads=2, max_position_embeddings=32768, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    tie_word_embeddings=True,
)  # fmt: skip
TINY = dict(
    vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip


def made(tiny: bool, device: str) -> Any:
    """A model of random weights, the same at each call."""
    torch.manual_seed(0)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            return Qwen2ForCausalLM(Qwen2Config(**(TINY if tiny else SHAPE))).eval()
        finally:
            torch.set_default_dtype(before)


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def bandwidth(device: str, tiny: bool) -> float:
    """GB/s of copies: what is read and what is written, the best of some."""
    source = torch.ones((16 << 20) if tiny else (1 << 30), dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(10):
        wait(device)
        begun = time.perf_counter()
        target.copy_(source)
        wait(device)
        best = max(best, 2 * source.numel() / (time.perf_counter() - begun) / 1e9)
    return best


def ours(engine: TorchEngine, lanes: int, steps: int) -> float:
    """Lane-steps a second, each fed a mixture and answered on the host, as in a run."""
    random = np.random.default_rng(lanes)
    ask = Readout(temperature=0.8, support=CANDIDATES, u=0.5)
    opened = [engine.open() for _ in range(lanes)]
    for lane in opened:
        beliefs = [engine.prefill(lane, random.integers(0, engine.info.vocab, PROMPT).astype(np.int32), ask)] * lanes
    warm = min(8, steps)  # the first ones capture
    for step in range(warm + steps):
        if step == warm:
            begun = time.perf_counter()
        fed = [Mixture(d.ids, d.probs / d.probs.sum()) for d in beliefs]
        engine.meanwhile(partial(engine.norm_ratios, fed))  # as every run does
        beliefs = engine.step(opened, fed, [ask] * lanes)
    took = time.perf_counter() - begun
    for lane in opened:
        engine.close(lane)
    return lanes * steps / took


@torch.inference_mode()
def generate(model: Any, lanes: int, steps: int, device: str) -> float:
    """Tokens a second of `generate`, its prompt pass left out."""
    inputs = torch.randint(0, model.config.vocab_size, (lanes, PROMPT), device=device)
    common = {"do_sample": False, "attention_mask": torch.ones_like(inputs), "pad_token_id": 0}
    times = []
    model.generate(inputs, max_new_tokens=2, **common)  # what is done once
    for count in (1, steps + 1):
        wait(device)
        begun = time.perf_counter()
        model.generate(inputs, max_new_tokens=count, min_new_tokens=count, **common)
        wait(device)
        times.append(time.perf_counter() - begun)
    return lanes * steps / (times[1] - times[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small shape, to try the script")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --tiny --device cpu shows that the script works")

    speed = bandwidth(options.device, options.tiny)
    peer = made(options.tiny, options.device)
    config = peer.config
    engine = TorchEngine(made(options.tiny, options.device), ByteTokenizer(), "random", context=4096)
    # Of the weights a step reads all but the table of embeddings, which is the head too where they are tied.
    weights = sum(parameter.nbytes for parameter in peer.parameters())
    head = config.hidden_size // config.num_attention_heads
    column = 2 * config.num_hidden_layers * config.num_key_value_heads * head * 2  # bytes of keys and values
    told: dict[int, list[tuple[float, float]]] = {lanes: [] for lanes in options.lanes}
    for _ in range(options.rounds):
        for lanes in options.lanes:
            rates = ours(engine, lanes, options.steps), generate(peer, lanes, options.steps, options.device)
            told[lanes].append(rates)
            print(f"{lanes} lanes: ours {rates[0]:.1f}/s, generate {rates[1]:.1f}/s")
    first = options.lanes[0]
    single = statistics.median(mine for mine, _ in told[first]) / first
    rows = {}
    for lanes, rounds in told.items():
        rate = statistics.median(mine for mine, _ in rounds)
        read = (weights + lanes * column * (PROMPT + options.steps // 2)) * rate / lanes / 1e9
        rows[str(lanes)] = {
            "tokens_per_second": round(rate, 2),
            "vs_generate": round(statistics.median(mine / peer for mine, peer in rounds), 3),
            "of_linear_scaling": round(rate / lanes / single, 3),
            "gigabytes_per_second": round(read, 4),
            "bandwidth": round(read / speed, 4),
        }
    cuda = options.device != "cpu"
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(options.device) if cuda else platform.processor() or "cpu",
                "torch": torch.__version__, "shape": "tiny" if options.tiny else "Qwen2.5-3B", "steps": options.steps,
                "copy_gigabytes_per_second": round(speed, 4), "weights": weights, "lanes": rows,
                "checks": engine.info.checks[-2:],
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
