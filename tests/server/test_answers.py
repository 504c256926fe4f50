"""What the server says is what its OpenAPI document says, and what the page's types say."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from superpose.engine import EngineOptions
from superpose.events import RunEvent, RunRecord
from superpose.server import answers
from superpose.server.app import make_app
from superpose.server.shelf import Shelf
from superpose.store import Store

WEB = Path(__file__).parents[2] / "web"


@pytest.fixture
def client() -> Iterator[TestClient]:
    store = Store(None)
    shelf = Shelf("toy", EngineOptions(), store)
    shelf.load("toy")
    with TestClient(make_app(shelf, store, None)) as found:
        while found.get("/api/models").json()["models"][0]["status"] != "ready":
            time.sleep(0.02)
        yield found


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("openapi", WEB / "openapi.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_types_are_up_to_date() -> None:
    """Make them again with: python web/openapi.py"""
    maker = generator()
    assert maker.FILE.read_text(encoding="utf-8") == maker.written(maker.document()["components"]["schemas"])


def test_every_answer_has_a_schema() -> None:
    document = generator().document()
    bare = [
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, about in methods.items()
        for status, response in about["responses"].items()
        for kind, content in (response.get("content") or {}).items()
        if status.startswith("2") and "export" not in path
        if not {"$ref", "anyOf", "items"} & set(content.get("schema", {})) or kind == "application/octet-stream"
    ]
    assert bare == []
    text = json.dumps(document)
    names = set(document["components"]["schemas"])
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} <= names


def fits(kind: Any, value: Any) -> None:
    """Strictly: no field is missing, and none is there that the type does not name."""
    assert TypeAdapter(kind).validate_json(json.dumps(value), strict=True) == value


def started(client: TestClient, **spec: Any) -> str:
    run: str = client.post("/api/runs", json={"user": "What?", "seed": 3, "T_e": 4, "T_total": 8, **spec}).json()["id"]
    return run


def over(client: TestClient, run: str) -> list[dict[str, Any]]:
    """The events of a run, once it has ended."""
    lines = client.get(f"/api/runs/{run}/events").text.splitlines()
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


def test_events_and_records_are_as_told(client: TestClient) -> None:
    seen: set[str] = set()
    names = [strategy["name"] for strategy in client.get("/api/strategies").json()]
    runs = [started(client, strategy=name) for name in names]
    runs.append(
        client.post(f"/api/runs/{runs[0]}/fork", json={"step": 2}).json()["id"] if over(client, runs[0]) else ""
    )
    live = started(client, T_e=3000, T_total=3500, end_probability=None)
    for act in ("pause", "resume", "cancel"):
        assert client.post(f"/api/runs/{live}/{act}").status_code == 202
        time.sleep(0.1)
    for run in [*runs, live]:
        for event in over(client, run):
            fits(RunEvent, event)
            seen.add(event["type"])
        record = client.get(f"/api/runs/{run}").json()
        fits(RunRecord, record)
    assert seen >= {"run_queued", "run_started", "prefilled", "step", "phase_ended", "replayed", "run_finished"}
    assert seen >= {"run_paused", "run_resumed", "run_cancelled"}


def test_answers_are_as_told(client: TestClient) -> None:
    run = started(client)
    over(client, run)
    child = client.post(f"/api/runs/{run}/fork", json={"step": 2}).json()["id"]
    over(client, child)
    label = client.patch(f"/api/runs/{run}", json={"name": "n", "tags": ["t"]}).json()
    told = {
        "/healthz": answers.Health,
        "/api/strategies": list[answers.StrategyInfo],
        "/api/runs": answers.RunsPage,
        "/api/runs/facets": answers.Facets,
        f"/api/runs/{run}/family": answers.Family,
        f"/api/outcomes?runs={run},{child}": list[answers.Outcome],
        "/api/models": answers.Models,
        "/api/queue": answers.Queue,
        "/api/tokens?q=a": answers.Tokens,
    }
    for path, kind in told.items():
        answer = client.get(path).json()
        assert answer, path
        fits(kind, answer)
    fits(answers.Labelled, label)
    fits(answers.Counted, client.post("/api/tokenize", json={"text": "hi"}).json())
    fits(answers.Rendered, client.post("/api/tokenize", json={"user": "hi"}).json())
    fits(answers.Warnings, client.post("/api/check", json={"user": "hi"}).json())
    fits(answers.Chosen, client.post("/api/models/load", json={"model": "toy"}).json())
    live = started(client, T_e=3000, T_total=3500, end_probability=None)
    queue = client.get("/api/queue").json()
    fits(answers.Queue, queue)
    assert queue["runs"]
    client.post(f"/api/runs/{live}/cancel")
    over(client, live)
    assert client.delete(f"/api/runs/{run}").status_code == 204
    fits(answers.Standing, client.post(f"/api/runs/{run}/restore").json())
