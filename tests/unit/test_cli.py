"""The command line: what it prints where, and its exit codes."""

import json
import os
import subprocess
import sys

import pytest

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


def test_readable_text_streams_on_stdout(cli):
    done = cli("run", "-", *QUICK, "--temperature", "0", given="from stdin")
    assert done.returncode == 0
    assert done.stdout == "I ne</think><think>**25 +\n"
    run = done.stderr.split()[-1]
    assert cli("show", run).stdout == done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "x", "--T-e", "9", "--T-total", "5", "--model", "toy"], "T_e must be at most T_total (5); got 9"),
        (["run", "x", "--temperature", "nan", "--model", "toy"], "temperature must be a finite number"),
        (["run", "x", "--strategy", "soft", "--model", "toy"], "unknown strategy 'soft'"),
        (["run", "x", "--set", "k=0", "--model", "toy"], "strategy.k must be at least 1; got 0"),
        (["run", "x", "--set", "k", "--model", "toy"], "--set takes a parameter's NAME=VALUE"),
        (["run", "x", "--set", "z=1", "--model", "toy"], "has no parameter 'z'; allowed: k, rescale"),
        (["run", " ", "--model", "toy"], "user is empty"),
        (["run", "x", "--end-probability", "much", "--model", "toy"], "takes a number or none"),
        (["run", "x", "--model", "no-such-model"], "no-such-model"),
        (["run", "x", "--model", "toy", "--engine", "jax"], "invalid choice: 'jax' (choose from 'toy', 'torch')"),
        (["run", "x", "--model", "toy", "--set", "name=sample"], "--set takes a parameter's NAME=VALUE"),
        (["run", "x" * 5000, "--model", "toy"], "tokens over the model's context of 4096"),
        (["run"], "the following arguments are required: user"),
        (["strategies", "soft"], "unknown strategy 'soft'"),
        (["show", "nope"], "there is no run 'nope'"),
        (["serve", "--port", "70000"], "--port must be 0 to 65535"),
    ],
)
def test_wrong_words_exit_2_with_one_sentence(cli, arguments, sentence):
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr.splitlines()[-1]


def test_lists(cli):
    assert "non_uniform" in cli("strategies").stdout
    assert "concentration = 1.0" in cli("strategies", "dirichlet").stdout
    assert {"toy", "smollm2-135m"} <= {line.split()[0] for line in cli("models").stdout.splitlines()}
    assert json.loads(cli("strategies", "--json").stdout)[0]["schema"]


def test_end_probability_none(cli):
    record = json.loads(cli("run", "x", *QUICK, "--end-probability", "none", "--json").stdout)
    assert record["spec"]["end_probability"] is None
