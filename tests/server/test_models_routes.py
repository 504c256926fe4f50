"""The routes of models, over engines that the test places itself."""

import asyncio
import gc
import json
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from superpose.engine import AUTOMATIC, Memory, OutOfMemory, open_engine
from superpose.engines.toy import VOCAB, ToyEngine
from superpose.problems import BadInput
from superpose.server import streams
from superpose.server.app import make_app
from superpose.server.shelf import Shelf
from superpose.spec import make_spec
from superpose.store import Store

LONG = {"user": "x", "T_e": 900, "T_total": 900, "end_probability": None}


class Lab:
    """An app in this process: its client, its shelf, its store. Models load as `loads` says."""

    def __init__(self, monkeypatch):
        self.store = Store(None)
        self.shelf = Shelf("toy", AUTOMATIC, self.store)
        self.put("toy")
        self.http = TestClient(make_app(self.shelf, self.store, None))
        self.loads = {}
        monkeypatch.setattr("superpose.server.shelf.open_engine", self._open)

    def _open(self, name, options, progress):
        return self.loads[name](progress) if name in self.loads else open_engine(name, options, progress)

    def put(self, name, **options):
        self.shelf.put(name, named(ToyEngine(**options), name))

    def get(self, path, **query):
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path, status, **body):
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def start(self, **spec):
        return self.post("/api/runs", 201, **spec)["id"]

    def model(self, name):
        (found,) = [model for model in self.get("/api/models")["models"] if model["name"] == name]
        return found

    def status(self, run):
        return self.get(f"/api/runs/{run}")["status"]


def named(engine, name):
    engine.info = replace(engine.info, model=name)
    return engine


def until(true):
    """Waits for something that is bound to come."""
    end = time.monotonic() + 60  # a load imports torch
    while not (found := true()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)
    return found


@pytest.fixture
def lab(monkeypatch):
    made = Lab(monkeypatch)
    with made.http:
        yield made


def test_tokens_are_found_by_text_and_by_id(lab):
    assert [token["id"] for token in lab.get("/api/tokens", q="A")["tokens"]][:2] == [65, 97]
    assert lab.get("/api/tokens", q="#10")["tokens"] == [{"id": 10, "text": "\n"}]
    assert lab.get("/api/tokens", q=f"#{VOCAB}")["tokens"] == []
    assert lab.get("/api/tokens", q="think", model="toy")["tokens"][0] == {"id": 261, "text": "<think>"}
    assert [token["text"] for token in lab.get("/api/tokens", q="<|end")["tokens"]] == ["<|end|>"]
    assert len(lab.get("/api/tokens", q="⟨", limit=50)["tokens"]) == 50


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({}, "q is required"),
        ({"q": "a" * 201}, "200 characters"),
        ({"q": "a", "limit": 51}, "limit must be at most 50"),
        ({"q": "a", "limit": 0}, "limit must be at least 1"),
        ({"q": "a", "model": "gpt-9"}, "model 'gpt-9' is not loaded; loaded: toy"),
    ],
)
def test_a_search_that_cannot_be_gets_one_sentence(lab, query, sentence):
    answer = lab.http.get("/api/tokens", params=query)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_a_text_is_told_token_by_token(lab):
    tokens = [{"id": 104, "text": "h"}, {"id": 195, "text": "⟨C3⟩"}, {"id": 169, "text": "⟨A9⟩"}]
    assert lab.http.post("/api/tokenize", json={"text": "hé"}).json() == {"count": 3, "tokens": tokens}
    assert lab.http.post("/api/tokenize", json={"text": ""}).json() == {"count": 0, "tokens": []}


# -- loading and unloading --------------------------------------------------------------------------------


def test_what_is_loaded_is_told(lab):
    toy = lab.model("toy")
    assert (toy["status"], toy["live"], toy["queued"], toy["error"]) == ("ready", 0, 0, None)
    assert (toy["memory"], toy["info"]["parameters"]) == (None, None)
    assert toy["info"]["checks"] == ["one-hot input equals token input: yes, by construction"]
    assert toy["about"].startswith("a made-up model")
    assert lab.model("smollm2-135m")["status"] == "available"


def test_memory_is_what_the_engine_counts(lab):
    engine = named(ToyEngine(), "big")
    engine.memory = lambda: Memory(weights=1000, cache=24)
    lab.shelf.put("big", engine)
    assert (lab.model("big")["memory"], lab.model("big")["cache"]) == (1024, 24)


def test_a_load_goes_through_its_stages_while_a_run_goes_on(lab):
    stages, go_on = [], threading.Event()

    def slowly(progress):
        for stage in ("files", "weights", "self-check", "warm-up"):
            progress(stage, 1, 4)
            stages.append(lab.model("second"))
            assert go_on.wait(10)
        return named(ToyEngine(), "second")

    lab.loads["second"] = slowly
    lab.put("slow", step_s=0.005)
    run = lab.start(model="slow", **LONG)
    lab.post("/api/models/load", 202, model="second")
    until(lambda: stages)
    refused = lab.post("/api/runs", 503, user="x", model="second")
    assert refused["detail"] == "model 'second' is still loading (files, 25 %); try again"
    assert "still loading" in lab.post("/api/models/unload", 409, model="second")["detail"]
    lab.post("/api/models/load", 202, model="second")  # once more changes nothing
    refused = lab.post("/api/models/load", 409, model="toy", quantize="int8")
    assert refused["detail"] == "model 'toy' is loaded with its own weights; unload it first"
    go_on.set()
    until(lambda: lab.model("second")["status"] == "ready")
    assert [(m["status"], m["stage"], m["done"], m["total"]) for m in stages] == [
        ("loading", stage, 1, 4) for stage in ("files", "weights", "self-check", "warm-up")
    ]
    assert lab.status(run) == "running"
    other = lab.start(user="x", model="second", T_total=20, T_e=5)
    until(lambda: lab.status(other) == "finished")
    assert lab.get(f"/api/runs/{other}")["spec"]["model"] == "second"
    assert lab.status(run) == "running"
    lab.post(f"/api/runs/{run}/cancel", 202)
    until(lambda: lab.status(run) == "cancelled")
    assert lab.get(f"/api/runs/{run}")["spec"]["model"] == "slow"


def test_models_load_one_at_a_time(lab):
    at_once, most, gate = [], [], threading.Event()

    def load(name):
        def loading(_):
            at_once.append(name)
            most.append(len(at_once))
            assert gate.wait(10)
            at_once.remove(name)
            return named(ToyEngine(), name)

        return loading

    lab.loads = {name: load(name) for name in ("a", "b", "c")}
    for name in lab.loads:
        lab.post("/api/models/load", 202, model=name)
    until(lambda: most)
    waiting = [name for name in lab.loads if lab.model(name)["stage"] == "waiting"]
    assert len(waiting) == 3 - len(at_once)
    gate.set()
    until(lambda: all(lab.model(name)["status"] == "ready" for name in lab.loads))
    assert most == [1, 1, 1]


@pytest.mark.parametrize("default", ["toy", "other"])
def test_unload_frees_the_memory_and_the_model_can_come_again(lab, default):
    lab.shelf.default = default
    engine = named(ToyEngine(), "other")
    gone, released = weakref.ref(engine), []
    engine.release = lambda: released.append(True)
    lab.shelf.put("other", engine)
    del engine
    assert lab.model("other")["status"] == "ready"
    lab.get("/api/tokens", q="a", model="other")
    lab.post("/api/models/unload", 202, model="other")
    gc.collect()
    assert released and gone() is None
    assert (lab.model("other")["status"], lab.model("other")["info"]) == ("available", None)
    assert "model 'other' is not loaded; loaded: toy" in lab.post("/api/runs", 422, user="x", model="other")["detail"]
    assert lab.post("/api/models/unload", 409, model="other")["detail"] == "model 'other' is not loaded"
    lab.loads["other"] = lambda _: named(ToyEngine(), "other")
    lab.post("/api/models/load", 202, model="other")
    until(lambda: lab.model("other")["status"] == "ready")
    run = lab.start(user="x", model="other", T_total=5, T_e=2)
    until(lambda: lab.status(run) == "finished")


def test_the_default_model_stays_in_sight_when_it_is_unloaded(lab):
    lab.post("/api/models/unload", 202, model="toy")
    assert lab.model("toy")["status"] == "available"
    assert "model 'toy' is not loaded; loaded: none" in lab.post("/api/runs", 422, user="x")["detail"]
    lab.post("/api/models/load", 202, model="toy")
    until(lambda: lab.model("toy")["status"] == "ready")
    lab.start(user="x", T_total=5, T_e=2)


def test_a_model_with_runs_is_not_unloaded(lab):
    lab.put("slow", step_s=0.005, max_lanes=1)
    runs = [lab.start(model="slow", **LONG) for _ in range(2)]
    until(lambda: lab.model("slow")["live"] == 1)
    refused = lab.post("/api/models/unload", 409, model="slow")
    assert refused["detail"] == "model 'slow' has runs under way; stop them or wait for them"
    assert (lab.model("slow")["status"], lab.model("slow")["queued"]) == ("ready", 1)
    for run in runs:
        lab.post(f"/api/runs/{run}/cancel", 202)
    until(lambda: not lab.get("/api/queue")["runs"])
    lab.post("/api/models/unload", 202, model="slow")


def broken_gguf(folder):
    file = folder / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(64))
    return file


def no_gguf(folder):
    file = folder / "no.gguf"
    file.write_bytes(b"hello")
    return file


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda folder: folder / "nothing.gguf", "there is no file"),
        (lambda folder: folder, "has no config.json"),
        (no_gguf, "is not a .gguf file"),
        (broken_gguf, ""),
        (lambda _: "no such model", "there is no model 'no such model'"),
    ],
)
def test_a_load_that_fails_says_why_and_can_be_dismissed(lab, tmp_path, made, sentence, caplog):
    name = str(made(tmp_path))
    for _ in range(2):  # the second time is a retry
        lab.post("/api/models/load", 202, model=name)
        failed = until(lambda: (model := lab.model(name))["status"] == "failed" and model)
        assert sentence in failed["error"]
        assert "\n" not in failed["error"] and "Traceback" not in failed["error"]
        assert (failed["stage"], failed["info"]) == (None, None)
        assert f"model {name}: {failed['error']}" in caplog.messages  # who started a server reads that first
        assert "could not be loaded" in lab.post("/api/runs", 422, user="x", model=name)["detail"]
    lab.post("/api/models/unload", 202, model=name)
    assert name not in [model["name"] for model in lab.get("/api/models")["models"]]
    assert lab.post("/api/models/unload", 409, model=name)["field"] == "model"


def test_a_load_that_fails_can_succeed_later(lab):
    def full(_):
        raise OutOfMemory("big needs about 9 GiB on cpu, of which 1 GiB are free")

    lab.loads["big"] = full
    lab.post("/api/models/load", 202, model="big")
    until(lambda: lab.model("big")["status"] == "failed")
    assert lab.model("big")["error"] == "big needs about 9 GiB on cpu, of which 1 GiB are free"
    lab.loads["big"] = lambda _: named(ToyEngine(), "big")
    lab.post("/api/models/load", 202, model="big")
    assert until(lambda: lab.model("big")["status"] == "ready")
    assert lab.model("big")["error"] is None


def test_one_model_has_one_place_whatever_it_is_called(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    no_gguf(tmp_path)
    for name in ("no.gguf", "./no.gguf", str(tmp_path / "no.gguf")):
        lab.post("/api/models/load", 202, model=name)
    until(lambda: lab.model(str(tmp_path / "no.gguf"))["status"] == "failed")
    assert [m["name"] for m in lab.get("/api/models")["models"] if "no.gguf" in m["name"]] == [
        str(tmp_path / "no.gguf")
    ]


def test_two_clients_unload_and_submit_at_once(lab):
    """Whoever comes first wins; a run that was taken ends, one that was not is refused in words."""
    for _ in range(30):
        lab.put("other")
        taken, said, start = [], [], threading.Barrier(2)

        def submit(taken=taken, said=said, start=start):
            start.wait()
            answer = lab.http.post("/api/runs", json={"user": "x", "model": "other", "T_total": 3, "T_e": 1})
            (taken if answer.status_code == 201 else said).append(answer.json())

        def unload(said=said, start=start):
            start.wait()
            answer = lab.http.post("/api/models/unload", json={"model": "other"})
            if answer.status_code != 202:
                said.append(answer.json())

        threads = [threading.Thread(target=act) for act in (submit, unload)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert len(taken) + len([one for one in said if "loaded" in one["detail"]]) == 1
        for run in taken:
            until(lambda run=run: lab.status(run["id"]) == "finished")


def test_a_runner_that_is_closing_refuses_runs_in_words(lab):
    lab.put("other")
    runner = lab.shelf.runner("other")
    lab.post("/api/models/unload", 202, model="other")
    with pytest.raises(BadInput, match="model 'other' is being unloaded; load it again"):
        runner.submit(make_spec({"user": "x"}))
    assert lab.get("/api/runs")["runs"] == []


# -- the queue --------------------------------------------------------------------------------------------


def test_who_waits_has_a_place_and_an_estimate(lab):
    lab.put("slow", step_s=0.005, max_lanes=1)
    first, second, third = (lab.start(model="slow", **LONG) for _ in range(3))
    elsewhere = lab.start(**{**LONG, "model": "toy"})

    def settled():
        queue = {run["id"]: run for run in lab.get("/api/queue")["runs"]}
        return queue if queue.get(third, {}).get("eta_s") else None

    queue = until(settled)
    assert [(queue[run]["status"], queue[run]["position"]) for run in (first, second, third)] == [
        ("running", None),
        ("queued", 1),
        ("queued", 2),
    ]
    assert queue[second]["model"] == "slow"
    tokens = len(lab.get(f"/api/runs/{first}")["prompt"]["token_ids"])
    assert [queue[run]["unread"] for run in (first, second, third)] == [0, tokens, tokens]
    # A step takes 5 ms and more, a run 900 of them and the transition.
    assert 3 < queue[second]["eta_s"] < 60
    assert queue[third]["eta_s"] == pytest.approx(queue[second]["eta_s"] * 2, rel=0.25)
    assert queue[first]["eta_s"] == queue[second]["eta_s"]
    lab.post(f"/api/runs/{second}/cancel", 202)
    until(lambda: {r["id"]: r["position"] for r in lab.get("/api/queue")["runs"]}.get(third) == 1)
    for run in (first, third, elsewhere):
        lab.post(f"/api/runs/{run}/cancel", 202)
    until(lambda: lab.get("/api/queue")["runs"] == [])


def test_without_a_measured_pace_nothing_is_estimated(lab):
    lab.put("stuck", step_s=60, max_lanes=1)
    runner = lab.shelf.runner("stuck")
    entered, go_on = threading.Event(), threading.Event()

    def prefill(*_):
        entered.set()
        assert go_on.wait(10)
        raise OutOfMemory("no more")

    runner.engine.prefill = prefill
    lab.start(model="stuck", **LONG)
    assert entered.wait(10)
    lab.start(model="stuck", **LONG)
    assert [(run["position"], run["eta_s"]) for run in lab.get("/api/queue")["runs"]] == [(None, None), (1, None)]
    go_on.set()
    until(lambda: lab.get("/api/queue")["runs"] == [])


def test_the_models_stream_tells_changes_of_the_queue_and_keeps_still_between(lab):
    lab.put("slow", step_s=0.005, max_lanes=1)

    async def watch():
        told = streams.models(lab.shelf)

        async def following(true):
            async with asyncio.timeout(10):
                while not true(document := json.loads((await anext(told)).removeprefix("data: "))):
                    pass
                return document

        assert (await following(lambda _: True))["queue"] == []
        runs = [await asyncio.to_thread(lab.start, model="slow", **LONG) for _ in range(2)]
        found = await following(lambda document: [run["position"] for run in document["queue"]] == [None, 1])
        assert [run["id"] for run in found["queue"]] == runs
        begun, documents = time.monotonic(), 0
        while time.monotonic() - begun < 1:  # estimates change with every step, of which there are 200 a second
            await anext(told)
            documents += 1
        assert 1 <= documents <= 6
        for run in runs:
            await asyncio.to_thread(lab.post, f"/api/runs/{run}/cancel", 202)
        assert (await following(lambda document: not document["queue"]))["models"][0]["live"] == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await anext(told)

    with ThreadPoolExecutor(1) as thread:  # the browser tests may have left a loop in this one
        thread.submit(asyncio.run, watch()).result()
