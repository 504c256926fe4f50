"""The benchmark that needs a GPU, on a tiny shape without one: the one command works and its figures fit together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*options):
    return subprocess.run(
        [sys.executable, "benchmarks/gpu.py", *options], cwd=ROOT, capture_output=True, text=True, timeout=200
    )


def test_the_gpu_benchmark_runs_in_one_command():
    done = run("--tiny", "--device", "cpu", "--steps", "6", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
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
