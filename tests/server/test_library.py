"""The run library over HTTP: lists, delete with undo."""

import json
import time

import pytest
from fastapi.testclient import TestClient

from superpose.engine import EngineOptions
from superpose.engines.toy import ToyEngine
from superpose.server.app import make_app
from superpose.server.shelf import Shelf
from superpose.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def http(store):
    shelf = Shelf("toy", EngineOptions(), store)
    shelf.put("toy", ToyEngine())
    with TestClient(make_app(shelf, store, None)) as client:
        yield client


def run_to_end(http, **spec):
    run = http.post("/api/runs", json={"user": "What is 25 + 17?", "T_e": 2, "T_total": 6, **spec}).json()["id"]
    while http.get(f"/api/runs/{run}").json()["status"] in ("queued", "running"):
        time.sleep(0.005)
    return run


def listed(http, **query):
    return [row["id"] for row in http.get("/api/runs", params=query).json()["runs"]]


def refusal(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


def test_rows_tell_what_tables_show(http):
    run = run_to_end(http, strategy="sample", seed=7)
    (row,) = http.get("/api/runs").json()["runs"]
    record = http.get(f"/api/runs/{run}").json()
    spec = {
        name: record["spec"][name] for name in record["spec"] if name not in ("user", "system", "transition", "fork")
    }
    assert row == {
        "id": run, "created_at": record["created_at"], "status": "finished", "name": None, "tags": [],
        "strategy": "sample", "model": "toy", "seed": 7, "steps": len(record["steps"]),
        "tokens_per_second": record["timing"]["tokens_per_second"], "answer": row["answer"],
        "user": "What is 25 + 17?", "error": None, "parent": None, "fork_step": None, "imported": False, "spec": spec,
    }  # fmt: skip
    assert record["answer"]["text"].startswith(row["answer"])


def test_lists_filter_search_sort_and_page(http):
    first, second = (
        run_to_end(http, seed=2, strategy="sample"),
        run_to_end(http, user="a very special question", seed=1),
    )
    assert listed(http) == [second, first]
    assert listed(http, sort="seed", order="asc") == [second, first]
    assert listed(http, strategy="sample", model="toy", status="finished", imported="false") == [first]
    assert listed(http, search="special very") == [second]
    labels = {"name": "mine", "tags": ["a"]}
    assert http.patch(f"/api/runs/{first}", json=labels).json() == labels
    assert http.patch(f"/api/runs/{first}", json={"tags": ["b"]}).json() == {"name": "mine", "tags": ["b"]}
    assert (listed(http, tag="b"), listed(http, tag="a"), listed(http, search="mine")) == ([first], [], [first])
    page = http.get("/api/runs", params={"limit": 1, "sort": "name", "order": "asc"}).json()
    assert ([row["id"] for row in page["runs"]], page["total"]) == ([first], 2)
    assert listed(http, limit=1, sort="name", order="asc", after=page["next"]) == [second]
    assert http.get("/api/runs/facets").json()["strategies"] == [
        {"name": "non_uniform", "count": 1},
        {"name": "sample", "count": 1},
    ]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"after": "nonsense"}, "after is not a cursor of this list; leave it out for the first page"),
        ({"sort": "luck"}, "sort must be one of 'created', 'name'"),
        ({"order": "up"}, "order must be one of 'asc' or 'desc'"),
        ({"status": "done"}, "status must be one of 'queued'"),
        ({"imported": "maybe"}, "imported"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"limit": 201}, "limit must be at most 200"),
        ({"limit": 10**30}, "limit must be at most 200"),
        ({"search": "x" * 201}, "search must have at most 200 characters"),
    ],
)
def test_bad_questions_get_one_sentence(http, query, sentence):
    assert sentence in refusal(http.get("/api/runs", params=query), 422)


@pytest.mark.parametrize(
    "search", ["'", '"', '"" OR xyz', 'a" OR "b', "*", "\x00", "%", "\\", "NEAR(a b)", "😀", "\u202e", "ﬁ"]
)
def test_odd_searches_are_only_words(http, search):
    run_to_end(http, seed=1, T_e=0, T_total=1)
    answer = http.get("/api/runs", params={"search": search})
    assert answer.status_code == 200
    assert len(answer.json()["runs"]) == (0 if search.strip(' "\x00') else 1)


def test_delete_and_restore(http):
    run, other = run_to_end(http), run_to_end(http)
    assert http.delete(f"/api/runs/{run}").status_code == 204
    for path in ("", "/events", "/cancel", "/restore-not"):
        act = http.post if path == "/cancel" else http.get
        assert act(f"/api/runs/{run}{path}").status_code == 404
    assert http.delete(f"/api/runs/{run}").status_code == 404
    assert http.patch(f"/api/runs/{run}", json={"name": "x"}).status_code == 404
    assert listed(http) == [other]
    assert http.post(f"/api/runs/{run}/restore").json() == {"id": run, "status": "finished"}
    assert listed(http) == [other, run]
    assert "no run 'nope'" in refusal(http.post("/api/runs/nope/restore"), 404)
    assert "no run 'nope'" in refusal(http.post("/api/runs/delete", json={"ids": [run, "nope"]}), 404)
    assert listed(http) == [other, run]
    assert http.post("/api/runs/delete", json={"ids": [run, other]}).status_code == 204
    assert listed(http) == []
    assert http.post("/api/runs/restore", json={"ids": [run, other, run]}).status_code == 200
    assert listed(http) == [other, run]


@pytest.mark.parametrize(
    "body", [b"{}", b'{"ids": []}', b'{"ids": "x"}', b'{"ids": [1]}', b'{"ids": ["\\ud800"]}', b"[]", b"{"]
)
def test_bad_lists_of_runs_get_one_sentence(http, body):
    for path in ("delete", "restore"):
        answer = http.post(f"/api/runs/{path}", content=body, headers={"Content-Type": "application/json"})
        assert refusal(answer, 400 if body == b"{" else 422)
    many = json.dumps({"ids": [f"{number}" for number in range(201)]})
    answer = http.post("/api/runs/delete", content=many, headers={"Content-Type": "application/json"})
    assert "ids must have at most 200 entries" in refusal(answer, 422)


def test_live_runs_cannot_be_deleted(http):
    run = http.post("/api/runs", json={"user": "x", "T_e": 3000, "T_total": 3000, "end_probability": None}).json()["id"]
    assert "is live; cancel it first" in refusal(http.delete(f"/api/runs/{run}"), 409)
    assert "is live" in refusal(http.post("/api/runs/delete", json={"ids": [run]}), 409)
    http.post(f"/api/runs/{run}/cancel")
    while http.delete(f"/api/runs/{run}").status_code == 409:
        time.sleep(0.01)
    assert listed(http) == []
