"""Benchmarks run in one command each, at their smallest, and their figures fit together."""

import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(name, *options):
    """The exit code, and what the last line says."""
    words = [sys.executable, f"benchmarks/{name}.py", *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_the_gpu_benchmark_runs_in_one_command():
    code, told = run("gpu", "--tiny", "--device", "cpu", "--steps", "6", "--rounds", "1")
    assert code == 0
    assert set(told["lanes"]) == {"1", "8"}
    for lanes, row in told["lanes"].items():
        assert row["tokens_per_second"] > 0
        assert row["vs_generate"] > 0
        share = row["gigabytes_per_second"] / told["copy_gigabytes_per_second"]
        assert row["bandwidth"] == pytest.approx(share, abs=1e-3)
        # 2 layers of 2 heads of 16 numbers in bfloat16, as keys and values, over 64 tokens and half of 6 steps
        read = told["weights"] + int(lanes) * 2 * 2 * 2 * 16 * 2 * 67
        expected = read * row["tokens_per_second"] / int(lanes) / 1e9
        assert row["gigabytes_per_second"] == pytest.approx(expected, abs=1e-4)
    assert told["lanes"]["1"]["of_linear_scaling"] == 1


def test_whole_runs_are_measured_against_generate():
    code, told = run("decode", "--steps", "8", "--rounds", "1", "--lanes", "1", "2")
    assert code == 0
    found = told["weights"]["float32"]
    assert found["first_token_ms"] > 0 and set(found["lanes"]) == {"1", "2"}
    for lanes, row in found["lanes"].items():
        assert 0 < row["overhead"] < 1 and isinstance(row["vs_generate"], float)  # of so few steps it may be anything
        one = found["lanes"]["1"]["tokens_per_second"]
        assert row["tokens_per_second"] == pytest.approx(one * row["vs_one_lane"], rel=0.01), lanes
        read = 4 * 134515008 * row["tokens_per_second"] / int(lanes) / 1e9  # of float32
        assert row["bandwidth"] == pytest.approx(read / told["read_gigabytes_per_second"], rel=0.02)


def test_what_is_not_the_engines_counts_as_overhead(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    timed = import_module("decode").Timed(None)
    # A prefill, then four steps of two lanes, each begun 10 ms after the one before and 9 ms inside the engine.
    timed.steps = [(0.0, 0.0, 0), *((0.01 * (1 + step), 0.009, 2) for step in range(4)), (0.9, 0.5, 1)]
    assert timed.rate(2) == pytest.approx((200, 0.1))


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
def test_steps_are_measured_against_llama_cpps_own_loop():
    code, told = run("llamacpp", "--steps", "16", "--rounds", "1", "--lanes", "2", "--plain")
    assert code == 0
    assert (told["engine"], told["numbers"], told["their_attention"]) == ("llamacpp", "Q4_1", "plain")
    assert told["lanes_2"]["tokens_per_second"] > 0 and told["lanes_2"]["vs_llama_cpp"] > 0


def test_load_is_kept_up():
    code, told = run("load", "--model", "toy", "--runs", "20", "--minutes", "0.05")
    assert told["runs"] == 20 and told["failed"] == 0 and told["finished"] > 0
    assert code in (0, 1)  # in so short a time memory may still grow
