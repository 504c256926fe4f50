"""Finds tokens of a model by their text, for people who want to feed one."""

from __future__ import annotations

import re
import threading
from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate, chain
from typing import NamedTuple

_MARK = "\ufdd0"  # a noncharacter, which text has no use for


class _Index(NamedTuple):
    """The vocabulary, short texts first. Searching one long text is 50 times quicker than 150,000 short ones."""

    exact: dict[str, int]  # the first id of a text
    ids: list[int]
    spaced: _Texts  # without case
    bare: _Texts  # and without a leading space


class _Texts:
    """Texts in one, each after a mark."""

    def __init__(self, texts: list[str]) -> None:
        self._all = "".join(_MARK + text for text in texts) + _MARK
        self._starts = list(accumulate((1 + len(text) for text in texts), initial=0))

    def find(self, wanted: str) -> Iterator[int]:
        """Which of the texts hold `wanted`, or begin with it if it begins with the mark; in their order."""
        at = self._all.find(wanted)
        while at >= 0:
            which = bisect(self._starts, at) - 1
            yield which
            at = self._all.find(wanted, self._starts[which + 1])


class Vocabulary:
    """The tokens `0 … size - 1` of a model. Indexed at the first search, once; any thread may search."""

    def __init__(self, size: int, text: Callable[[int], str]) -> None:
        self.text = text
        self._size = size
        self._lock = threading.Lock()
        self._index: _Index | None = None

    def search(self, query: str, limit: int) -> list[int]:
        """Ids of at most `limit` tokens: those of just this text, then those that begin with it, then the rest.

        Case decides the order only; so does a token's leading space, unless the query has one. `#123` also names
        a token by its id.
        """
        found: dict[int, None] = {}  # in order, each once
        if not query or _MARK in query:
            return []
        for token in chain(self._named(query), self._matches(query)):
            found[token] = None
            if len(found) == limit:
                break
        return list(found)

    def _named(self, query: str) -> Iterator[int]:
        numbered = re.fullmatch(r"#(\d{1,9})", query, re.ASCII)
        if numbered and int(numbered[1]) < self._size:
            yield int(numbered[1])

    def _matches(self, query: str) -> Iterator[int]:
        exact, ids, spaced, bare = self._indexed()
        yield from (exact[text] for text in (query, f" {query}") if text in exact)
        wanted = query.casefold()
        begins = spaced if wanted.startswith(" ") else bare
        yield from (ids[i] for i in begins.find(_MARK + wanted))
        yield from (ids[i] for i in spaced.find(wanted))

    def _indexed(self) -> _Index:
        with self._lock:
            if self._index is None:
                texts = [self.text(token) for token in range(self._size)]
                folded = [text.casefold() for text in texts]
                bare = [text.removeprefix(" ") for text in folded]
                # By this length a text that differs in case or space only comes before all that go on.
                ids = sorted(range(self._size), key=lambda token: len(bare[token]))
                exact = {texts[token]: token for token in reversed(range(self._size))}
                spaced = [folded[token] for token in ids]
                self._index = _Index(exact, ids, _Texts(spaced), _Texts([bare[token] for token in ids]))
            return self._index
