"""The run library over HTTP: lists, delete with undo, families, files."""

import csv
import io
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
    assert row["answer"] == record["thinking"]["text"] + record["answer"]["text"] != ""  # one generation


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


def test_a_family_is_told_parents_first(http):
    root = run_to_end(http, seed=1)
    child = http.post(f"/api/runs/{root}/fork", json={"step": 1, "mixture": {"ids": [65], "weights": [1.0]}}).json()[
        "id"
    ]
    other = http.post(f"/api/runs/{root}/fork", json={"step": 2, "strategy": "sample"}).json()["id"]
    for run in (child, other):
        while http.get(f"/api/runs/{run}").json()["status"] != "finished":
            time.sleep(0.005)
    grandchild = http.post(f"/api/runs/{child}/fork", json={"step": 3}).json()["id"]
    told = http.get(f"/api/runs/{grandchild}/family").json()
    assert told == http.get(f"/api/runs/{root}/family").json() | {"runs": told["runs"]}
    assert told["root"] == root
    assert [(row["id"], row["parent"], row["step"], row["edit"]) for row in told["runs"]] == [
        (root, None, None, None),
        (child, root, 1, "forced `A`"),
        (other, root, 2, None),
        (grandchild, child, 3, None),
    ]
    assert {"name", "status", "strategy", "created_at", "answer"} < set(told["runs"][0])
    assert listed(http, parent=root) == [other, child]
    while http.get(f"/api/runs/{grandchild}").json()["status"] != "finished":
        time.sleep(0.005)
    http.delete(f"/api/runs/{root}")
    told = http.get(f"/api/runs/{grandchild}/family").json()  # a child outlives its parent
    assert (told["root"], [row["id"] for row in told["runs"]]) == (child, [child, grandchild])
    assert http.get(f"/api/runs/{root}/family").status_code == 404


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_files_go_out_and_come_back(http, form):
    one, two = run_to_end(http, seed=1), run_to_end(http, seed=2)
    http.patch(f"/api/runs/{one}", json={"name": 'My "Run"\r\nX-Evil: 1', "tags": ["a"]})
    single = http.get(f"/api/runs/{one}/export", params={"format": form})
    assert single.headers["content-disposition"] == f'attachment; filename="superpose-my-run-x-evil-1-{one}.{form}"'
    assert "x-evil" not in single.headers
    both = http.get("/api/export", params={"runs": f"{one},{two},{one}", "format": form})
    assert both.headers["content-disposition"] == f'attachment; filename="superpose-2-runs.{form}"'
    for file, runs in ((single, [one]), (both, [one, two])):
        answer = http.post("/api/import", content=file.content)
        assert answer.status_code == 201
        assert len(answer.json()["ids"]) == len(runs)
        for old, new in zip(runs, answer.json()["ids"], strict=True):
            record = http.get(f"/api/runs/{new}").json()
            assert record == http.get(f"/api/runs/{old}").json() | {"id": new}
    assert len(listed(http, imported="true")) == 3
    assert len(listed(http, imported="false")) == 2


def test_tables_are_files_too(http):
    run = run_to_end(http, seed=1)
    table = http.get("/api/export", params={"runs": run, "format": "csv"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    steps = http.get(f"/api/runs/{run}").json()["steps"]
    assert len(list(csv.DictReader(io.StringIO(table.text, newline="")))) == len(steps)


def test_files_of_what_is_not_there_are_refused(http):
    run = run_to_end(http)
    assert "format must be one of" in refusal(http.get(f"/api/runs/{run}/export?format=xml"), 422)
    assert "no run 'nope'" in refusal(http.get("/api/runs/nope/export"), 404)
    assert "no run 'nope'" in refusal(http.get(f"/api/export?runs={run},nope"), 404)
    assert "runs must name 1 to 200 runs" in refusal(http.get("/api/export?runs=,"), 422)
    many = ",".join(str(number) for number in range(201))
    assert "runs must name 1 to 200 runs, as in a,b; got 201" in refusal(http.get(f"/api/export?runs={many}"), 422)


def test_a_hostile_file_changes_nothing(http):
    good = http.get(f"/api/runs/{run_to_end(http)}/export?format=jsonl").content
    before = listed(http)
    for bad in (good + b"{", good + good, good.replace(b'"tail":', b'"tail":NaN,"was":'), b"\x1f\x8b", b"[" * 10**6):
        assert refusal(http.post("/api/import", content=bad), 422)
    assert listed(http) == before


def test_only_imports_may_be_large(http):
    two_million = b"x" * 2_000_000
    assert "neither JSON" in refusal(http.post("/api/import", content=two_million), 422)
    assert "at most 1000000 bytes" in refusal(http.post("/api/runs", content=two_million), 413)
    huge = {"Content-Length": "64000001"}
    assert "at most 64000000 bytes" in refusal(http.post("/api/import", content=b"x", headers=huge), 413)
    parts = (bytes(1_000_000) for _ in range(66))
    assert "at most 64000000 bytes" in refusal(http.post("/api/import", content=parts), 413)
