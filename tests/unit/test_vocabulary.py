"""The search for a token: what comes first, and that it is quick."""

import time
from itertools import pairwise

import pytest

from superpose.server.vocabulary import Vocabulary

TEXTS = ["the", " the", "The", " THE", "then", " other", "x", " ", "\n", "a\nb", "⟨E2 80⟩", "</think>", "#3", "", "ß"]


def search(query, limit=20, texts=TEXTS):
    return [texts[token] for token in Vocabulary(len(texts), texts.__getitem__).search(query, limit)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("the", ["the", " the", "The", " THE", "then", " other"]),
        ("The", ["The", "the", " the", " THE", "then", " other"]),
        (" the", [" the", " THE"]),
        (" ", [" ", " the", " THE", " other", "⟨E2 80⟩"]),
        ("think", ["</think>"]),
        ("\n", ["\n", "a\nb"]),
        ("e2", ["⟨E2 80⟩"]),
        ("#3", [" THE", "#3"]),
        ("#15", []),
        ("SS", ["ß"]),
        ("zz", []),
        ("\ufdd0", []),
        ("", []),
    ],
)
def test_just_this_text_first_then_its_beginning_then_anywhere(query, found):
    assert search(query) == found


def test_at_most_so_many():
    assert search("the", 3) == ["the", " the", "The"]


def test_neighbours_are_never_taken_for_one_text():
    texts = ["ab", "cd", "ab", "e"]
    assert search("bc", texts=texts) == []
    assert Vocabulary(4, texts.__getitem__).search("ab", 9) == [0, 2]


def test_a_search_takes_little_of_150_000_tokens():
    texts = [f"{' ' * (n % 2)}{n * 7919 % 999_983:x}" for n in range(150_000)]
    vocabulary = Vocabulary(len(texts), texts.__getitem__)
    vocabulary.search("first", 1)
    times = [time.perf_counter()]
    for query in ["a", " ", "ff", " ff", "abc", "nothing has it", "#149999"]:
        vocabulary.search(query, 50)
        times.append(time.perf_counter())
    assert max(after - before for before, after in pairwise(times)) < 0.05
