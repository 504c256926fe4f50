"""The command line: what it prints where, and its exit codes."""

import asyncio
import json
import os
import queue
import subprocess
import sys

import pytest
import uvicorn

from superpose import cli as cli_module
from superpose import terminal
from superpose.engine import AUTOMATIC, EngineOptions, UnsupportedModel
from superpose.server import shelf

QUICK = ["--model", "toy", "--T-e", "4", "--T-total", "10", "--seed", "3"]


@pytest.fixture
def cli(tmp_path):
    environment = {**os.environ, "SUPERPOSE_DATA": str(tmp_path), "PYTHONPATH": "src", "NO_COLOR": "1"}

    def call(*arguments, given=None):
        return subprocess.run(
            [sys.executable, "-m", "superpose", *arguments],
            env=environment, capture_output=True, text=True, input=given, timeout=60,
        )  # fmt: skip

    return call


def test_json_prints_the_record_alone(cli):
    done = cli(
        "run", "What?", *QUICK, "--strategy", "dirichlet", "--set", "k=3", "--set", "concentration=2.5", "--json"
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["spec"]["strategy"] == {"name": "dirichlet", "k": 3, "concentration": 2.5, "rescale": "none"}
    assert (record["spec"]["T_e"], record["spec"]["T_total"], record["spec"]["seed"]) == (4, 10, 3)
    assert record["status"] == "finished"
    again = json.loads(cli("show", record["id"], "--json").stdout)
    assert again == record


def test_jsonl_prints_one_event_a_line(cli):
    done = cli("run", "What?", *QUICK, "--jsonl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "run_finished"


def test_repeats_count_the_answers_of_several_seeds(cli):
    done = cli("run", "What?", *QUICK, "--repeats", "5", "--answer-temperature", "0")
    assert done.returncode == 0, done.stderr
    assert "non_uniform is deterministic: all 5 seeds think the same steps, and answer the same" in done.stderr
    assert done.stdout.startswith("5 of 5 (100 %, 95 % interval 57 to 100 %), seeds 3, 4, 5, 6, 7\n  **25 +")
    records = json.loads(cli("run", "What?", *QUICK, "--repeats", "4", "--temperature", "2", "--json").stdout)
    assert [record["spec"]["seed"] for record in records] == [3, 4, 5, 6]
    assert len({record["text"] for record in records}) > 1
    one = json.loads(cli("run", "What?", *QUICK[:-1], "5", "--temperature", "2", "--json").stdout)
    assert one["text"] == records[2]["text"]


def test_runs_that_did_not_finish_are_no_answers():
    def record(seed, status, text):
        thought = {"phase": "thinking", "kind": "mixture"}
        texts = {"thinking": {"text": "hm"}, "answer": {"text": text}}
        return {"status": status, "steps": [thought], "spec": {"seed": seed}, **texts}

    finished, stopped = [record(seed, "finished", "42") for seed in (1, 3)], record(2, "cancelled", "4")
    assert terminal.answers([finished[0], stopped, finished[1]]) == (
        "2 of 2 (100 %, 95 % interval 34 to 100 %), seeds 1, 3\n  42\n"
        "1 of 3 failed or were stopped, and are not counted"
    )
    assert terminal.answers([stopped]) == "1 of 1 failed or were stopped, and are not counted"


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_interval(hits, total, low, high):
    """Known values; 81 of 263 is Newcombe 1998."""
    assert terminal.wilson(hits, total) == pytest.approx((low, high), abs=1e-4)


def test_readable_text_streams_on_stdout(cli):
    done = cli("run", "-", *QUICK, "--temperature", "0", given="from stdin")
    assert done.returncode == 0
    assert done.stdout == "I ne</think><think>**25 +\n"
    run = done.stderr.split()[-1]
    assert cli("show", run).stdout == done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "x", "--repeats", "0", "--model", "toy"], "--repeats must be 1 to 1000; got 0"),
        (["run", "x", "--T-e", "9", "--T-total", "5", "--model", "toy"], "T_e must be at most T_total (5); got 9"),
        (["run", "x", "--temperature", "nan", "--model", "toy"], "temperature must be a finite number"),
        (["run", "x", "--strategy", "soft", "--model", "toy"], "unknown strategy 'soft'"),
        (["run", "x", "--set", "k=0", "--model", "toy"], "strategy.k must be at least 1; got 0"),
        (["run", "x", "--set", "k", "--model", "toy"], "--set takes a parameter's NAME=VALUE"),
        (["run", "x", "--set", "z=1", "--model", "toy"], "has no parameter 'z'; allowed: k, rescale"),
        (["run", " ", "--model", "toy"], "user is empty"),
        (["run", "x", "--end-probability", "much", "--model", "toy"], "takes a number or none"),
        (["run", "x", "--fork", "14", "--model", "toy"], "fork"),
        (["run", "x", "--fork", "at 14", "--model", "toy"], "--fork takes JSON such as"),
        (["run", "x", "--model", "no-such-model"], "no-such-model"),
        (
            ["run", "x", "--model", "toy", "--engine", "jax"],
            "invalid choice: 'jax' (choose from 'toy', 'torch', 'llam",
        ),
        (["run", "x", "--model", "toy", "--set", "name=sample"], "--set takes a parameter's NAME=VALUE"),
        (["run", "x" * 5000, "--model", "toy"], "tokens over the model's context of 4096"),
        (["run"], "the following arguments are required: user"),
        (["strategies", "soft"], "unknown strategy 'soft'"),
        (["show", "nope"], "there is no run 'nope'"),
        (["export", "nope"], "there is no run 'nope'"),
        (["import", "none.json"], "cannot read none.json: No such file or directory"),
        (["import", "README.md"], "neither JSON nor JSON lines"),
        (["serve", "--port", "70000"], "--port must be 0 to 65535"),
    ],
)
def test_wrong_words_exit_2_with_one_sentence(cli, arguments, sentence):
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr.splitlines()[-1]


OPTIONS = ["--engine", "torch", "--device", "cuda:1", "--dtype", "float16", "--quantize", "int4"]


@pytest.mark.parametrize(
    ("words", "options"),
    [([], AUTOMATIC), (OPTIONS, EngineOptions("torch", "cuda:1", "float16", "int4"))]
    + [(OPTIONS[at : at + 2], AUTOMATIC._replace(**{OPTIONS[at][2:]: OPTIONS[at + 1]})) for at in range(0, 8, 2)],
)
@pytest.mark.parametrize(
    "command", [["run", "x"], ["serve", "--port", "0", "--no-browser"]], ids=lambda words: words[0]
)
def test_what_a_command_says_of_the_engine_is_what_opens_it(monkeypatch, tmp_path, command, words, options):
    asked = queue.Queue()

    def spy(*given):
        asked.put(given[:2])
        raise UnsupportedModel("enough")

    async def started(self, sockets=None):
        pass

    def run(self, sockets):
        asyncio.run(self.startup(sockets))
        sockets[0].close()

    monkeypatch.setenv("SUPERPOSE_DATA", str(tmp_path))
    monkeypatch.setattr(cli_module, "open_engine", spy)
    monkeypatch.setattr(shelf, "open_engine", spy)
    monkeypatch.setattr(uvicorn.Server, "startup", started)
    monkeypatch.setattr(uvicorn.Server, "run", run)
    cli_module.main([*command, "--model", "some/model", *words])
    assert asked.get(timeout=20) == ("some/model", options)


def test_lists(cli):
    assert "non_uniform" in cli("strategies").stdout
    assert "concentration = 1.0" in cli("strategies", "dirichlet").stdout
    assert {"toy", "smollm2-135m"} <= {line.split()[0] for line in cli("models").stdout.splitlines()}
    assert json.loads(cli("strategies", "--json").stdout)[0]["schema"]


def test_end_probability_none(cli):
    record = json.loads(cli("run", "x", *QUICK, "--end-probability", "none", "--json").stdout)
    assert record["spec"]["end_probability"] is None


def test_export_and_import(cli, tmp_path):
    record = json.loads(cli("run", "x", *QUICK, "--json").stdout)
    file = tmp_path / "run.jsonl"
    assert cli("export", record["id"], "--format", "jsonl", "-o", str(file)).returncode == 0
    new = cli("import", str(file)).stdout.strip()
    again = json.loads(cli("export", new).stdout)
    assert again == {**record, "id": new}
    assert len(json.loads(cli("export", record["id"], new).stdout)) == 2
    assert cli("export", new, "--format", "csv").stdout.count("\n") == len(record["steps"]) + 1
    refused = cli("export", new, "-o", str(tmp_path))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_a_branch_from_a_recorded_run(cli):
    parent = json.loads(cli("run", "x", *QUICK, "--json").stdout)
    fork = {"run": parent["id"], "step": 2, "mixture": None}
    child = json.loads(cli("run", "x", *QUICK, "--fork", json.dumps(fork), "--json").stdout)
    assert child["spec"]["fork"] == fork
    assert child["text"] == parent["text"]
