"""Speed of the llamacpp engine's step against llama.cpp's own loop on the same weights, threads and process.

    python benchmarks/llamacpp.py [--model smollm2-135m] [--steps 256] [--rounds 8] [--lanes 1 8 16] [--threads 1]
                                  [--greedy] [--large]

Theirs is `llama_decode` of a token and llama.cpp's own draw at the same temperature, or its greedy sampler, with its
own defaults; ours feeds a mixture of five and answers with probabilities, entropies and a draw. A round is a run of
each, which alternate every 16 steps, so that a noisy machine hits both, with as many threads each; ratios are medians
over rounds, of wall time and of the processor's time, which says more with one thread on a busy machine. What ours does
besides decoding does not grow with the layers: `--large` measures random weights of the shape of SmolLM2-1.7B. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

from superpose.engine import EngineOptions, Readout
from superpose.engines.llamacpp import LlamaEngine, load
from superpose.engines.pace import Pace
from superpose.models import DEMO, resolve
from superpose.types import Mixture

USER = "What is 25 + 17? Explain how you add them, step by step, and give another example."
ASK = Readout(0.8, 5, u=0.4)
TURN = 16  # steps
LARGE = {"block_count": 24, "embedding_length": 2048, "feed_forward_length": 8192,
         "attention.head_count": 32, "attention.head_count_kv": 32}  # fmt: skip


class Theirs:
    """One sequence, token by token, as llama.cpp's simple example does it."""

    def __init__(self, engine: LlamaEngine, ids: list[int], threads: int, greedy: bool) -> None:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch = 2048, 512
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(engine._model.pointer, parameters)
        if greedy:
            samplers = [llama_cpp.llama_sampler_init_greedy()]
        else:
            samplers = [llama_cpp.llama_sampler_init_temp(ASK.temperature), llama_cpp.llama_sampler_init_dist(1)]
        self._sampler = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for sampler in samplers:
            llama_cpp.llama_sampler_chain_add(self._sampler, sampler)
        self._token = (llama_cpp.llama_token * 1)()
        self._ids = ids

    def start(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        prompt = (llama_cpp.llama_token * len(self._ids))(*self._ids)
        llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(prompt, len(prompt)))
        self._token[0] = llama_cpp.llama_sampler_sample(self._sampler, self._context, -1)

    def step(self) -> None:
        llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(self._token, 1))
        self._token[0] = llama_cpp.llama_sampler_sample(self._sampler, self._context, -1)


class Ours:
    """Some lanes that think in mixtures of five."""

    def __init__(self, engine: LlamaEngine, ids: list[int], lanes: int) -> None:
        self._engine, self._ids = engine, np.array(ids, np.int32)
        self._lanes = [engine.open() for _ in range(lanes)]

    def start(self) -> None:
        for lane in self._lanes:
            self._engine.rollback(lane, 0)
            self._told = [self._engine.prefill(lane, self._ids, ASK)] * len(self._lanes)

    def step(self) -> None:
        fed = [Mixture(d.ids[:5], d.probs[:5] / d.probs[:5].sum()) for d in self._told]
        self._engine.norm_ratios(fed)  # as every run does
        self._told = self._engine.step(self._lanes, fed, [ASK] * len(fed))

    def close(self) -> None:
        for lane in self._lanes:
            self._engine.close(lane)


def enlarged(path: Path, folder: Path) -> Path:
    """A .gguf with the vocabulary of another one's llama and random 4-bit weights of the large shape."""
    old, new = gguf.GGUFReader(path), gguf.GGUFWriter(folder / "large.gguf", "llama")
    for key, field in old.fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            kind, inner = field.types[0], field.types[1] if len(field.types) > 1 else None
            new.add_key_value(key, LARGE.get(key.removeprefix("llama."), field.contents()), kind, inner)
    random, kinds = np.random.default_rng(0), gguf.GGMLQuantizationType
    width, hidden = LARGE["embedding_length"], LARGE["feed_forward_length"]
    square, up, down = (width, width), (hidden, width), (width, hidden)
    of_block = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square,
                "ffn_gate": up, "ffn_up": up, "ffn_down": down}  # fmt: skip
    for block in range(LARGE["block_count"]):
        for name in ("attn_norm", "ffn_norm"):
            new.add_tensor(f"blk.{block}.{name}.weight", np.ones(width, np.float32))
        for name, (rows, columns) in of_block.items():
            weights = random.integers(0, 256, (rows, columns // 32, 20), np.uint8)
            # A step of levels and the lowest one, so that weights are about as large as trained ones are.
            weights[..., :4] = np.array([0.01, -0.075], np.float16).view(np.uint8)
            new.add_tensor(f"blk.{block}.{name}.weight", weights.reshape(rows, -1), raw_dtype=kinds.Q4_1)
    table = next(tensor for tensor in old.tensors if tensor.name == "token_embd.weight")
    values = random.normal(0, 0.02, (int(table.shape[1]), width)).astype(np.float32)
    new.add_tensor("token_embd.weight", gguf.quants.quantize(values, kinds.Q8_0), raw_dtype=kinds.Q8_0)
    new.add_tensor("output_norm.weight", np.ones(width, np.float32))
    new.write_header_to_file()
    new.write_kv_data_to_file()
    new.write_tensors_to_file()
    new.close()
    return folder / "large.gguf"


def run(sides: tuple[Ours, Theirs], steps: int) -> np.ndarray:
    """Seconds a step by the clock, and of the processor, of ours and of theirs, [2, 2]."""
    spent = np.zeros((2, 2))
    for side in sides:
        side.start()
    for _ in range(steps // TURN):
        for which, side in enumerate(sides):
            began, busy = time.perf_counter(), time.process_time()
            for _ in range(TURN):
                side.step()
            spent[which] += time.perf_counter() - began, time.process_time() - busy
    return spent / (steps // TURN * TURN)


def measured(engine: LlamaEngine, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of an engine."""
    ids = (engine.tokenizer.chat("", USER).token_ids * options.context)[: options.context]
    threads = options.threads or engine._threads
    engine._pace = Pace(threads, engine._use_threads, adapt=False)
    engine._use_threads(threads)
    theirs = Theirs(engine, ids, threads, options.greedy)
    result = {
        "model": engine.info.model, "parameters": engine.info.parameters, "numbers": engine.info.dtype,
        "threads": threads, "context": len(ids),
        "theirs": "greedy" if options.greedy else f"a draw at temperature {ASK.temperature}",
    }  # fmt: skip
    for lanes in options.lanes:
        ours = Ours(engine, ids, lanes)
        rounds = []
        for number in range(options.rounds):
            rounds.append(run((ours, theirs), options.steps))
            (mine, _), (peer, _) = rounds[-1]
            print(
                f"round {number + 1}, {lanes} lanes: {lanes / mine:.1f}/s, theirs one sequence {1 / peer:.1f}/s",
                flush=True,
            )
        ours.close()
        (mine, mine_busy), (peer, peer_busy) = np.moveaxis(np.array(rounds), 0, -1)  # [rounds] each
        result[f"lanes_{lanes}"] = {
            "tokens_per_second": round(float(np.median(lanes / mine)), 1),
            "vs_llama_cpp": round(float(np.median(lanes * peer / mine)), 3),
            "vs_llama_cpp_busy": round(float(np.median(lanes * peer_busy / mine_busy)), 3),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--steps", type=int, default=256, help=f"of a run, a multiple of {TURN}")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--context", type=int, default=55, help="tokens of the prompt")
    parser.add_argument("--threads", type=int, help="default: one a physical core")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--greedy", action="store_true", help="theirs takes the likeliest token instead of a draw")
    parser.add_argument("--large", action="store_true", help="1.7 billion random weights, the model's vocabulary")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        files = resolve(options.model)
        if options.large:
            assert files.path is not None, "the toy has no vocabulary to take"
            files = resolve(str(enlarged(files.path, Path(folder))))
        print(json.dumps(measured(load(files, EngineOptions()), options)))


if __name__ == "__main__":
    main()
