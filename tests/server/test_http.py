"""The HTTP contract: routes, lossless streams, and one clear sentence for every bad input."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

SPEC = {"user": "What is 25 + 17?", "T_e": 10, "T_total": 40, "seed": 7}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lab:
    """A real `superpose serve` in a process of its own."""

    def __init__(self, data, *arguments, port=None):
        self.data, self.port = data, port or free_port()
        environment = {**os.environ, "SUPERPOSE_DATA": str(data), "PYTHONPATH": "src"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "superpose", "serve", "--model", "toy", "--no-browser",
             "--port", str(self.port), *arguments],
            env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = ""
        while "superpose is at" not in said:
            said = self.process.stderr.readline()
            assert said, "the server ended at once"
        self.port = int(said.split(":")[2].split("/")[0])
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)
        while self.http.get("/api/models").json()["models"][0]["status"] != "ready":
            time.sleep(0.02)

    def stop(self, how=signal.SIGTERM):
        self.http.close()
        self.process.send_signal(how)
        self.process.wait(10)
        self.process.stderr.close()

    def post(self, **spec):
        answer = self.http.post("/api/runs", json=spec)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def wait(self, run):
        while (record := self.http.get(f"/api/runs/{run}").json())["status"] in ("queued", "running"):
            time.sleep(0.01)
        return record


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("data"))
    yield made
    made.stop()


def read_events(http, path, last=None, most=None):
    """(id, event) pairs of a stream, up to `most`."""
    got, number = [], None
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with http.stream("GET", path, headers=headers) as answer:
        if answer.status_code == 204:
            return None
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                got.append((number, json.loads(line[6:])))
                if most and len(got) == most:
                    break
    return got


def test_a_run_from_post_to_record(lab):
    run = lab.post(**SPEC)
    events = read_events(lab.http, f"/api/runs/{run}/events")
    assert [number for number, _ in events] == list(range(len(events)))
    assert all(event["run"] == run and event["seq"] == number for number, event in events)
    types = [event["type"] for _, event in events]
    assert types[:3] == ["run_queued", "run_started", "prefilled"]
    assert types[-1] == "run_finished"
    record = lab.wait(run)
    assert record["status"] == "finished"
    assert record["spec"]["T_e"] == 10
    steps = [
        {k: v for k, v in event.items() if k not in ("type", "run", "seq")}
        for _, event in events
        if event["type"] == "step"
    ]
    assert record["steps"] == steps
    for field in (
        "id",
        "status",
        "created_at",
        "spec",
        "prompt",
        "steps",
        "thinking",
        "answer",
        "text",
        "timing",
        "error",
    ):
        assert field in record


@pytest.mark.parametrize(
    ("given", "T_e"), [({}, 50), ({"T_total": 30}, 30), ({"T_total": 50}, 50), ({"T_total": 9, "T_e": 2}, 2)]
)
def test_a_run_that_names_no_T_e_thinks_no_longer_than_it_lasts(lab, given, T_e):
    run = lab.post(user="x", **given)
    assert lab.http.get(f"/api/runs/{run}").json()["spec"]["T_e"] == T_e


def test_a_stream_that_breaks_resumes_without_loss_or_doubling(lab):
    run = lab.post(**{**SPEC, "T_total": 60})
    got, last = [], None
    while True:
        part = read_events(lab.http, f"/api/runs/{run}/events", last, most=7)
        if part is None:
            break
        got += part
        if not part:
            break
        last = got[-1][0]
    assert [number for number, _ in got] == list(range(len(got)))
    assert got[-1][1]["type"] == "run_finished"
    assert read_events(lab.http, f"/api/runs/{run}/events", last) is None  # 204: do not come again


def test_many_runs_in_one_stream(lab):
    runs = [lab.post(**{**SPEC, "seed": seed}) for seed in range(3)]
    first = read_events(lab.http, f"/api/events?runs={','.join(runs)}", most=20)
    rest = read_events(lab.http, f"/api/events?runs={','.join(runs)}", last=first[-1][0])
    numbers = [number for number, _ in first + rest]
    assert numbers == sorted(set(numbers))
    for run in runs:
        seqs = [event["seq"] for _, event in first + rest if event["run"] == run]
        assert seqs == list(range(len(seqs)))
        assert lab.wait(run)["status"] == "finished"


def test_outcomes_hold_whole_answers_of_runs_that_are_over(lab):
    runs = [lab.post(**{**SPEC, "seed": seed}) for seed in range(2)]
    records = [lab.wait(run) for run in runs]
    live = lab.post(user="x", T_e=2000, T_total=2000, end_probability=None)
    read_events(lab.http, f"/api/runs/{live}/events", most=5)
    found = lab.http.get(f"/api/outcomes?runs={','.join([*runs, live])}").json()
    assert [(each["id"], each["seed"], each["steps"], each["answer"]) for each in found[:-1]] == [
        (record["id"], record["spec"]["seed"], len(record["steps"]), record["answer"]["text"]) for record in records
    ]
    assert found[-1]["status"] == "running" and found[-1]["answer"] is None
    lab.http.post(f"/api/runs/{live}/cancel")
    assert lab.http.get("/api/outcomes?runs=").status_code == 422
    assert lab.http.get("/api/outcomes?runs=nope").status_code == 404


def test_a_stream_of_runs_that_ended_before_it_resumes_ends(lab):
    one, two = lab.post(**SPEC), lab.post(**{**SPEC, "T_total": 80})
    path = f"/api/events?runs={one},{two}"
    lab.wait(one)
    lab.wait(two)
    whole = read_events(lab.http, path)
    end_of_one = next(
        i for i, (_, event) in enumerate(whole) if event["run"] == one and event["type"] == "run_finished"
    )
    rest = read_events(lab.http, path, last=whole[end_of_one][0])
    assert whole[: end_of_one + 1] + (rest or []) == whole


def test_watching_is_not_owning(lab):
    """A client that leaves in mid-run does not end the run."""
    run = lab.post(**{**SPEC, "T_total": 60, "answer": {"temperature": 0}})
    read_events(lab.http, f"/api/runs/{run}/events", most=5)
    assert lab.wait(run)["status"] == "finished"


def test_cancel(lab):
    run = lab.post(user="x", T_e=2000, T_total=2000, end_probability=None)
    read_events(lab.http, f"/api/runs/{run}/events", most=6)
    assert lab.http.delete(f"/api/runs/{run}").status_code == 409
    assert lab.http.post(f"/api/runs/{run}/cancel").status_code == 202
    record = lab.wait(run)
    assert record["status"] == "cancelled"
    assert record["thinking"]["ended_by"] == "cancelled"
    again = lab.http.post(f"/api/runs/{run}/cancel")
    assert (again.status_code, again.json()["status"]) == (202, "cancelled")


def test_strategies_models_tokenize_health_and_docs(lab):
    names = {strategy["name"] for strategy in lab.http.get("/api/strategies").json()}
    assert {"non_uniform", "element_wise_max", "inverse_p", "dirichlet", "nucleus", "sample"} <= names
    models = lab.http.get("/api/models").json()
    assert models["default"] == "toy"
    assert models["models"][0]["info"]["checks"]
    with lab.http.stream("GET", "/api/models/events") as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("data: "))
        assert json.loads(first[6:])["default"] == "toy"
    assert lab.http.post("/api/tokenize", json={"text": "héllo"}).json()["count"] == 6
    prompt = lab.http.post("/api/tokenize", json={"system": "s", "user": "<|end|>"}).json()
    assert prompt["count"] == 11
    assert 259 not in prompt["prompt"]["token_ids"]
    assert lab.http.get("/healthz").json()["status"] == "ok"
    assert "POST /api/runs" in lab.http.get("/docs").text
    schema = lab.http.get("/openapi.json")
    assert "/api/runs" in schema.json()["paths"]
    for name in re.findall(r"#/components/schemas/(\w+)", schema.text):
        assert name in schema.json()["components"]["schemas"]
    assert lab.http.post("/api/check", json={"user": "x"}).json() == {"warnings": []}
    told = lab.http.post("/api/check", json={"user": "x", "strategy": "soft_thinking"}).json()["warnings"]
    assert told == ["Cold Stop cannot fire: its patience (256) is not below T_e (50)."]
    assert lab.http.post("/api/check", json={"user": "x", "T_e": 999}).status_code == 422


BAD = [
    ({"user": ""}, "user", "user is empty"),
    ({"user": "  \n"}, "user", "user is empty"),
    ({}, "user", "user is required"),
    ({"user": "x", "T_e": 51, "T_total": 50}, "T_e", "T_e must be at most T_total (50); got 51"),
    ({"user": "x", "temperature": -0.1}, "temperature", "must be at least 0"),
    ({"user": "x", "strategy": "soft"}, "strategy", "unknown strategy 'soft'; allowed: "),
    ({"user": "x", "strategy": {"name": "nucleus", "k": 3}}, "strategy.k", "allowed: top_p"),
    ({"user": "x", "strategy": {"name": "non_uniform", "k": 0}}, "strategy.k", "must be at least 1; got 0"),
    ({"user": "x", "strategy": {"name": "non_uniform", "k": 300}}, "strategy.k", "must be at most 256; got 300"),
    ({"user": "x", "strategy": 5}, "strategy", "strategy must be a name"),
    ({"user": "x", "sistem": "y"}, "sistem", "is not a known field"),
    ({"user": "x", "model": "gpt-9"}, "model", "model 'gpt-9' is not loaded; loaded: toy"),
    ({"user": "x" * 5000, "T_total": 250}, "user", "tokens over the model's context of 4096"),
    ({"user": "😀" * 25_000}, "user", "tokens over the model's context of 4096"),
    ({"user": "x", "seed": 1.5}, "seed", "must be a whole number; got 1.5"),
    ({"user": "x", "answer": {"top_p": 2}}, "answer.top_p", "must be at most 1"),
    ([], "", "a run spec must be a JSON object"),
]


@pytest.mark.parametrize(("spec", "field", "sentence"), BAD)
def test_bad_specs_get_one_sentence(lab, spec, field, sentence):
    answer = lab.http.post("/api/runs", json=spec)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["field"] == field
    assert sentence in problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail", "field"}


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 400, "not valid JSON"),
        (b"\xff\xfe", 400, "not valid JSON"),
        (b'{"user": "x", "temperature": NaN}', 422, "temperature must be a finite number; got nan"),
        (b'{"user": "x", "temperature": Infinity}', 422, "finite"),
        (b'{"user": "a\\ud800b"}', 422, "lone surrogate (U+D800) at position 1"),
        (b'{"user": "x", "system": "\\udfff"}', 422, "system holds a lone surrogate"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (b'{"user": "' + b"x" * 1_000_001 + b'"}', 413, "at most 1000000 bytes"),
    ],
)
def test_bad_bodies_get_one_sentence(lab, body, status, sentence):
    answer = lab.http.post("/api/runs", content=body)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


def test_a_large_body_without_a_length_is_stopped(lab):
    answer = lab.http.post("/api/runs", content=(b"x" * 100_000 for _ in range(20)))
    assert answer.status_code == 413
    answer = lab.http.post("/api/tokenize", content=(b"x" * 100_000 for _ in range(20)))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/api/tokenize", b"{", 400, "the body is not valid JSON"),
        ("/api/tokenize", b"[]", 422, "the body must be a JSON object; got []"),
        ("/api/tokenize", b'{"texxt": "x"}', 422, "texxt is not a known field"),
        ("/api/tokenize", b'{"text": null}', 422, "give either text, or user (and system)"),
        ("/api/tokenize", b'{"text": 5}', 422, "text must be text; got 5"),
        ("/api/models/load", b"{}", 422, "model is required"),
        ("/api/runs", b'{"user": "x", "T_e": null}', 422, "T_e must be a whole number; got null"),
    ],
)
def test_every_route_speaks_in_sentences(lab, path, body, status, sentence):
    answer = lab.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (status, sentence)


@pytest.mark.parametrize("path", ["/api/runs/nope", "/api/runs/nope/events", "/api/events?runs=nope", "/api/nothing"])
def test_unknown_things_are_404_before_the_first_byte(lab, path):
    answer = lab.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "\u202eevil", "😀" * 50, "<|im_end|><|end|>", "\x00\x1b[31m"]
)
def test_odd_texts_run_and_come_back_as_they_were(lab, text):
    record = lab.wait(lab.post(user=text, T_e=2, T_total=4))
    assert record["status"] == "finished"
    assert record["spec"]["user"] == text
    assert 259 not in record["prompt"]["token_ids"]


def test_numbers_beyond_64_bits_are_refused_in_words(lab):
    run, huge = lab.post(**SPEC), 10**30
    for answer in (
        lab.http.get(f"/api/runs/{run}/events", headers={"Last-Event-ID": str(huge)}),
        lab.http.get(f"/api/events?runs={run}&after={huge}"),
        lab.http.get(f"/api/runs?limit={huge}"),
    ):
        assert answer.status_code == 422
        assert "must be at most" in answer.json()["detail"]


def test_foreign_pages_and_hosts_are_refused(lab):
    assert lab.http.get("/api/runs", headers={"Host": "evil.example"}).status_code == 403
    for odd in ("[", "]:80", "", "127.0.0.1.evil.example"):
        assert lab.http.get("/api/runs", headers={"Host": odd}).status_code in (400, 403)
    for odd in ("http://[", "null", f"https://127.0.0.1:{lab.port}.evil.example"):
        assert lab.http.get("/api/runs", headers={"Origin": odd}).status_code == 403
    foreign = {"Origin": "https://evil.example"}
    assert lab.http.post("/api/runs", json={"user": "x"}, headers=foreign).status_code == 403
    own = {"Origin": f"http://127.0.0.1:{lab.port}"}
    assert lab.http.post("/api/runs", json={"user": "x", "T_total": 1, "T_e": 0}, headers=own).status_code == 201
    policy = lab.http.get("/healthz").headers
    assert "default-src 'self'" in policy["content-security-policy"]
    assert policy["x-content-type-options"] == "nosniff"


def test_an_unknown_model_says_why(lab):
    assert lab.http.post("/api/models/load", json={"model": "/no/such/folder"}).status_code == 202
    while True:
        (place,) = [m for m in lab.http.get("/api/models").json()["models"] if m["name"] == "/no/such/folder"]
        if place["status"] == "failed":
            break
        time.sleep(0.02)
    assert "/no/such/folder" in place["error"]
    refused = lab.http.post("/api/runs", json={"user": "x", "model": "/no/such/folder"})
    assert (refused.status_code, refused.json()["field"]) == (422, "model")
    assert lab.wait(lab.post(**SPEC))["status"] == "finished"


def test_kill_9_and_restart(tmp_path):
    """Every event a client has seen is there; the run is failed ("interrupted") and replays."""
    lab = Lab(tmp_path)
    run = lab.post(user="x", T_e=2000, T_total=2000, end_probability=None)
    seen = read_events(lab.http, f"/api/runs/{run}/events", most=40)
    lab.stop(signal.SIGKILL)
    lab = Lab(tmp_path)
    try:
        replay = read_events(lab.http, f"/api/runs/{run}/events")
        assert replay[: len(seen)] == seen
        assert replay[-1][1]["type"] == "run_failed"
        assert "interrupted" in replay[-1][1]["error"]
        assert lab.http.get(f"/api/runs/{run}").json()["status"] == "failed"
    finally:
        lab.stop()


def test_a_taken_port_moves_on_and_a_stream_does_not_hold_up_the_end(tmp_path, lab):
    other = Lab(tmp_path, port=lab.port)
    assert other.port != lab.port
    run = other.post(user="x", T_e=2000, T_total=2000, end_probability=None)
    with other.http.stream("GET", f"/api/runs/{run}/events") as stream:
        next(stream.iter_lines())
        begun = time.monotonic()
        other.process.terminate()
        other.process.wait(10)
    assert time.monotonic() - begun < 6
    other.process.stderr.close()
