"""Speed of an engine's step against llama.cpp's own loop over as many sequences: same file, threads and process.

    python benchmarks/llamacpp.py [--model smollm2-135m] [--steps 256] [--rounds 8] [--lanes 1 8 16] [--threads 1]
                                  [--engine torch] [--weights bfloat16] [--greedy] [--plain] [--large]

Theirs is `llama_decode` of a token a sequence and llama.cpp's own draw at the same temperature, or its greedy sampler,
with its own defaults, of which `--plain` takes flash attention away, as in ours. Ours, the llamacpp engine unless
another is named, feeds a mixture of five a lane and answers with probabilities, entropies and a draw. A round is a run
of each, which alternate every 16 steps, so that a noisy machine hits both, with as many threads each; ratios are
medians over rounds, of wall time and of the processor's time, which says more with one thread on a busy machine. What
ours does besides decoding does not grow with the layers: `--large` measures random weights of the shape of
SmolLM2-1.7B. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

from superpose.engine import EngineOptions, Readout, open_engine
from superpose.engines.host import physical_cores
from superpose.engines.llamacpp_library import Model, system
from superpose.engines.pace import Pace
from superpose.models import DEMO, ModelFiles, resolve
from superpose.types import Mixture

USER = "What is 25 + 17? Explain how you add them, step by step, and give another example."
ASK = Readout(0.8, 5, u=0.4)
TURN = 16  # steps
LARGE = {"block_count": 24, "embedding_length": 2048, "feed_forward_length": 8192,
         "attention.head_count": 32, "attention.head_count_kv": 32}  # fmt: skip


class Theirs:
    """Some sequences, a token of each at a time, as llama.cpp's batched example does it."""

    def __init__(self, model: Model, ids: list[int], lanes: int, threads: int, options: argparse.Namespace) -> None:
        parameters = llama_cpp.llama_context_default_params()
        if options.plain:
            parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.n_ctx, parameters.n_seq_max, parameters.n_batch = 2048 * lanes, lanes, max(512, len(ids))
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(model.pointer, parameters)
        if options.greedy:
            samplers = [llama_cpp.llama_sampler_init_greedy()]
        else:
            samplers = [llama_cpp.llama_sampler_init_temp(ASK.temperature), llama_cpp.llama_sampler_init_dist(1)]
        self._sampler = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for sampler in samplers:
            llama_cpp.llama_sampler_chain_add(self._sampler, sampler)
        self._ids, self._lanes = ids, lanes
        self._batch = llama_cpp.llama_batch_init(max(len(ids), lanes), 0, 1)

    def start(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._tokens, self._length = [], len(self._ids)
        for lane in range(self._lanes):
            last = self._length - 1
            self._decode([(token, at, lane, at == last) for at, token in enumerate(self._ids)])
            self._tokens.append(llama_cpp.llama_sampler_sample(self._sampler, self._context, -1))

    def step(self) -> None:
        self._decode([(token, self._length, lane, True) for lane, token in enumerate(self._tokens)])
        self._length += 1
        for lane in range(self._lanes):
            self._tokens[lane] = llama_cpp.llama_sampler_sample(self._sampler, self._context, lane)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_sampler_free(self._sampler)
        llama_cpp.llama_free(self._context)

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for at, (token, position, lane, wanted) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.logits[at] = token, position, wanted
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, lane
        assert llama_cpp.llama_decode(self._context, batch) == 0


class Ours:
    """Some lanes that think in mixtures of five."""

    def __init__(self, engine: Any, ids: list[int], lanes: int) -> None:
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
    assert old.fields["general.architecture"].contents() == "llama", "its shape is named in another way"
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


def measured(files: ModelFiles, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of a file."""
    assert files.kind == "gguf" and files.path is not None, "llama.cpp reads .gguf files only"
    engine: Any = open_engine(str(files.path), EngineOptions(engine=options.engine, dtype=options.weights))
    ids = (engine.tokenizer.chat("", USER).token_ids * options.context)[: options.context]
    threads = options.threads or physical_cores() or os.cpu_count() or 1
    engine._pace = Pace(threads, engine._pace._use, adapt=False)
    engine._pace._use(threads)
    model = Model(files.path, anew="AMX" not in system())  # its default, which with AMX it does not survive
    result = {
        "model": files.name, "parameters": engine.info.parameters, "numbers": engine.info.dtype,
        "engine": engine.info.name, "threads": threads, "context": len(ids),
        "theirs": "greedy" if options.greedy else f"a draw at temperature {ASK.temperature}",
        "their_attention": "plain" if options.plain else "their default",
    }  # fmt: skip
    for lanes in options.lanes:
        ours, theirs = Ours(engine, ids, lanes), Theirs(model, ids, lanes, threads, options)
        rounds = []
        for number in range(options.rounds):
            rounds.append(run((ours, theirs), options.steps))
            (mine, _), (peer, _) = rounds[-1]
            print(f"round {number + 1}, {lanes} lanes: {lanes / mine:.1f}/s, theirs {lanes / peer:.1f}/s", flush=True)
        ours.close()
        theirs.close()
        (mine, mine_busy), (peer, peer_busy) = np.moveaxis(np.array(rounds), 0, -1)  # [rounds] each
        result[f"lanes_{lanes}"] = {
            "tokens_per_second": round(float(np.median(lanes / mine)), 1),
            "vs_llama_cpp": round(float(np.median(peer / mine)), 3),
            "vs_llama_cpp_busy": round(float(np.median(peer_busy / mine_busy)), 3),
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
    parser.add_argument("--engine", default="llamacpp", help="ours")
    parser.add_argument("--weights", help="dtype of ours, of torch")
    parser.add_argument("--greedy", action="store_true", help="theirs takes the likeliest token instead of a draw")
    parser.add_argument("--plain", action="store_true", help="theirs without flash attention, as ours")
    parser.add_argument("--large", action="store_true", help="1.7 billion random weights, the model's vocabulary")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        files = resolve(options.model)
        if options.large:
            assert files.path is not None, "the toy has no vocabulary to take"
            files = resolve(str(enlarged(files.path, Path(folder))))
        print(json.dumps(measured(files, options)))


if __name__ == "__main__":
    main()
