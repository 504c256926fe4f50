"""Lists of runs: the right rows in the right order, page by page, quick with many runs, whatever is searched."""

import base64
import json
import random
import sqlite3
from typing import get_args

import pytest

from superpose.problems import BadInput
from superpose.store import Store
from superpose.store_list import Query, Sort, _count_sql, _page_sql
from superpose.store_words import Hits

STRATEGIES = ("nucleus", "sample")


@pytest.fixture(params=["indexed", "plain"])
def open_store(request, tmp_path, monkeypatch):
    """Opens a store of an SQLite with the trigram index, and of one without it."""
    if request.param == "plain":
        monkeypatch.setattr("superpose.store_words.INDEX", "CREATE VIRTUAL TABLE trigrams USING none_such(x)")

    def make():
        store = Store(tmp_path)
        assert store._words.indexed == (request.param == "indexed")
        return store

    return make


def make_run(store, user="hi", *, strategy="nucleus", model="toy", seed=0, answer=None, speed=1.0, steps=1, **spec):
    run = store.create(
        {"user": user, "system": "", "strategy": {"name": strategy}, "model": model, "seed": seed, **spec}
    )
    if answer is not None:
        text = [answer, *[""] * (steps - 1)]
        events = [
            {"type": "step", "step": i, "phase": "answer", "kind": "sampled", "text": text[i]} for i in range(steps)
        ]
        store.append([(run, event) for event in events])
        store.append([(run, {"type": "run_finished", "timing": {"tokens_per_second": speed}})])
    return run


def listed(store, **query):
    return [row["id"] for row in store.summaries(Query(**query)).runs]


def all_pages(store, **query):
    found, after, total = [], None, None
    while True:
        page = store.summaries(Query(after=after, **query))
        found += page.runs
        total, after = page.total, page.next
        if after is None:
            return found, total


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """60 runs in which every column repeats."""
    store, dice = Store(tmp_path_factory.mktemp("many")), random.Random(5)
    for number in range(60):
        run = make_run(
            store, f"question {number % 9}", strategy=dice.choice(STRATEGIES), model=dice.choice(["a", "b"]),
            seed=dice.randrange(3), answer="x" if number % 4 else None, speed=dice.randrange(3),
            steps=dice.randrange(1, 4),
        )  # fmt: skip
        if number % 3 == 0:
            store.annotate(run, dice.choice(["Alpha", "beta", "Ärger"]), [dice.choice(["t", "u"])])
    return store


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", get_args(Sort))
def test_pages_give_every_run_once_in_order(many, sort, order):
    whole = many.summaries(Query(sort=sort, order=order, limit=200)).runs
    assert len(whole) == 60
    for limit, filters in ((7, {}), (1, {}), (3, {"strategy": "sample", "model": "a"}), (4, {"tag": "t"})):
        rows, total = all_pages(many, sort=sort, order=order, limit=limit, **filters)
        wanted = [
            row for row in whole
            if all(row[name] == value for name, value in filters.items() if name != "tag")
            and ("tag" not in filters or filters["tag"] in row["tags"])
        ]  # fmt: skip
        assert [row["id"] for row in rows] == [row["id"] for row in wanted]
        assert total == len(wanted) > 0
    keys = {"created": "created_at"}
    if sort != "name":
        values = [row[keys.get(sort, sort)] for row in whole if row["status"] == "finished"]
        assert values == sorted(values, reverse=order == "desc")
    else:
        names = [row["name"].casefold() for row in whole if row["name"]]
        assert names == sorted(names, reverse=order == "desc")
        assert all(row["name"] for row in (whole if order == "asc" else whole[::-1])[:20])  # the named ones together


def test_a_page_goes_on_when_its_last_run_is_gone_and_new_ones_come(tmp_path):
    store = Store(tmp_path)
    ids = [make_run(store, answer="x") for _ in range(5)]
    page = store.summaries(Query(limit=2))
    assert [row["id"] for row in page.runs] == ids[:2:-1]
    store.delete(ids[3])
    make_run(store)
    assert listed(store, after=page.next) == ids[2::-1]


def test_search_finds_words_in_prompts_answers_names_tags_and_strategies(open_store):
    store = open_store()
    apples = make_run(store, "How many APPLES, 100%?", system="be strict", answer="It is 42 äpfel.")
    pears = make_run(store, "数学 pears\0here", strategy="sample", answer="None of it.")
    store.annotate(pears, "Straße", ["for paper"])
    for search, found in {
        "apples": [apples], "APPL": [apples], "how apples": [apples], "apples how": [apples], "apples pears": [],
        '"many apples"': [apples], '"apples many"': [], "100%": [apples], "1%0": [], "42": [apples], "4": [apples],
        "ÄPFEL": [apples], "strict": [apples], "it": [pears, apples], "strasse": [pears], "PAPER": [pears],
        '"for paper"': [pears], "sample": [pears], "数": [pears], "数学": [pears], "here": [pears], "": [pears, apples],
        "user": [], "spec": [], '"': [pears, apples], '""': [pears, apples], "a\"b'c;--": [], "*": [], "_": [],
        "NOT apples": [], "ap* OR pears": [], "ｐａｐｅｒ": [pears], " ": [pears, apples], "\x00": [pears, apples],
    }.items():  # fmt: skip
        assert listed(store, search=search) == found, search
    store.annotate(pears, "other", [])
    assert listed(store, search="strasse") == []
    assert listed(store, search="other") == [pears]
    store.delete(pears)
    assert listed(store, search="other") == []
    store.restore(pears)
    assert listed(store, search="other") == [pears]
    assert listed(store, search="of", strategy="sample") == [pears]


def test_long_texts_are_searched_at_their_beginning_and_listed_short(open_store):
    store = open_store()
    run = make_run(
        store, "x" * 9_000 + " near " + "y" * 9_000 + " far", answer="z" * 5_000 + " end", transition="t" * 500
    )
    assert listed(store, search="near end") == [run]
    assert listed(store, search="far") == []
    (row,) = store.summaries(Query()).runs
    assert (len(row["user"]), len(row["answer"])) == (400, 400)
    assert len(json.dumps(row)) < 2_000
    assert listed(store, search="x" * 200) == [run]


def test_many_hits_are_not_counted_and_still_found(open_store, monkeypatch):
    monkeypatch.setattr("superpose.store_words.EXACT", 10)
    store = open_store()
    ids = [make_run(store, f"common {number:02}", answer="x") for number in range(25)]
    rows, total = all_pages(store, search="common", limit=7)
    assert ([row["id"] for row in rows], total) == (ids[::-1], None)
    rows, total = all_pages(store, search="common 07", limit=7)
    assert ([row["id"] for row in rows], total) == ([ids[7]], 1 if store._words.indexed else None)


def test_what_was_written_without_the_index_is_indexed_later(tmp_path, monkeypatch):
    store = Store(tmp_path)
    first, second = make_run(store, "alpha", answer="x"), make_run(store, "beta", answer="x")
    store.close()
    with monkeypatch.context() as without:
        without.setattr("superpose.store.Words._open", lambda _: False)
        store = Store(tmp_path)
        store.annotate(first, "gamma", [])
        third = make_run(store, "delta", answer="omega")
        assert listed(store, search="gamma") == [first]
        store.close()
    store = Store(tmp_path)
    assert store._words.indexed
    for search, run in {"gamma": first, "alpha": first, "beta": second, "delta": third, "omega": third}.items():
        assert listed(store, search=search) == [run]
    store.annotate(first, None, [])
    assert listed(store, search="gamma") == []
    sqlite3.connect(tmp_path / "runs.sqlite3").execute(
        "INSERT INTO trigrams (trigrams, rank) VALUES ('integrity-check', 1)"
    )


def cursors():
    def of(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()

    yield from ("x", "====", "a" * 5000, "é", "..", of(1), of([]), of({}), of(["created", "desc"]), of(None))
    yield from (of(["created", "desc", "1"]), of(["created", "desc", 1, 2]), of(["created", "desc", 1.5]))
    yield from (of(["created", "desc", 2**70]), of(["created", "desc", float("nan")]), of(["created", "desc", None]))
    yield base64.urlsafe_b64encode(b"[" * 3000).decode()
    yield base64.urlsafe_b64encode(b'["created","desc",' + b"9" * 5000 + b"]").decode()


@pytest.mark.parametrize("after", list(cursors()), ids=lambda after: after[:12])
def test_a_cursor_that_is_none_is_refused(many, after):
    with pytest.raises(BadInput, match="after is not a cursor of this list") as refused:
        many.summaries(Query(after=after))
    assert refused.value.field == "after"


def test_cursors_of_texts_and_other_orders_are_refused(many):
    by_name = many.summaries(Query(sort="name", limit=1)).next
    with pytest.raises(BadInput, match="cursor of another order"):
        many.summaries(Query(sort="seed", after=by_name))
    odd = base64.urlsafe_b64encode(json.dumps(["name", "desc", "\ud800", 1]).encode()).decode()
    with pytest.raises(BadInput, match="not a cursor"):
        many.summaries(Query(sort="name", after=odd))


def test_facets_count_what_is_visible(tmp_path):
    store = Store(tmp_path)
    runs = [make_run(store, strategy=strategy, answer="x") for strategy in ("sample", "nucleus", "sample")]
    store.annotate(runs[0], None, ["a", "b"])
    store.annotate(runs[2], None, ["a"])
    make_run(store, model="other")
    assert store.facets() == {
        "strategies": [{"name": "nucleus", "count": 2}, {"name": "sample", "count": 2}],
        "models": [{"name": "toy", "count": 3}, {"name": "other", "count": 1}],
        "statuses": [{"name": "finished", "count": 3}, {"name": "queued", "count": 1}],
        "tags": [{"name": "a", "count": 2}, {"name": "b", "count": 1}],
    }
    store.delete(runs[0])
    facets = store.facets()
    assert facets["tags"] == [{"name": "a", "count": 1}]
    assert facets["strategies"] == [{"name": "nucleus", "count": 2}, {"name": "sample", "count": 1}]


def test_live_runs_tell_what_they_have(tmp_path):
    store = Store(tmp_path)
    run = make_run(store)
    store.append([(run, {"type": "step", "step": 0, "phase": "answer", "kind": "sampled", "text": "so far"})])
    (row,) = store.summaries(Query()).runs
    assert (row["steps"], row["answer"], row["status"]) == (1, "so far", "queued")
    store.abandon(run)
    assert store.summaries(Query()).runs[0]["status"] == "failed"


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", get_args(Sort))
def test_a_page_walks_one_index_and_stops(many, sort, order):
    """What keeps 100,000 runs quick: no table is scanned, nothing is sorted, rows are read for the page alone."""
    hits = Hits("place IN (SELECT value FROM json_each(?))", ["[]"], True)
    after = many.summaries(Query(sort=sort, order=order, limit=1)).next
    query = Query(
        sort=sort,
        order=order,
        after=after,
        strategy="x",
        model="x",
        status="failed",
        tag="x",
        parent="x",
        imported=True,
    )
    for asked in (Query(sort=sort, order=order), query):
        first, *rest = plan_of(many, _page_sql(asked, hits))
        assert f"USING COVERING INDEX runs_{sort}" in first
        assert first.startswith("SEARCH") or asked.after is None
        assert "TEMP B-TREE" not in "".join([first, *rest])
    assert "USING COVERING INDEX" in plan_of(many, _count_sql(query, hits))[0]


def test_facets_count_along_indexes(many):
    """What may be counted group by group needs no sort of all runs."""
    asked = []
    many._reader.set_trace_callback(asked.append)
    many.facets()
    many._reader.set_trace_callback(None)
    counts = [sql for sql in asked if "count(*)" in sql]
    assert len(counts) == 4
    for sql in counts:
        assert "USE TEMP B-TREE FOR GROUP BY" not in plan_of(many, (sql, ()))


def plan_of(store, statement):
    sql, values = statement
    return [row["detail"] for row in store._db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
