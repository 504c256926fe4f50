"""The routes of models, over engines that the test places itself."""

import pytest
from fastapi.testclient import TestClient

from superpose.engine import AUTOMATIC
from superpose.engines.toy import VOCAB, ToyEngine
from superpose.server.app import make_app
from superpose.server.shelf import Shelf
from superpose.store import Store


class Lab:
    """An app in this process: its client, its shelf, its store."""

    def __init__(self):
        self.store = Store(None)
        self.shelf = Shelf("toy", AUTOMATIC, self.store)
        self.shelf.put("toy", ToyEngine())
        self.http = TestClient(make_app(self.shelf, self.store, None))

    def get(self, path, **query):
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def lab():
    made = Lab()
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
