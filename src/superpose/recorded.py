"""What a run was fed, for the store, and from the store piece by piece, as it is fed again."""

from __future__ import annotations

import numpy as np

from superpose.events import Event
from superpose.replay import is_partial, mixture_of
from superpose.store import Store
from superpose.store_events import Feed
from superpose.types import Mixture

MOST_KEPT = 4096  # candidates of a mixture that are kept for replay


class Recorded:
    """The mixtures of a run's first `steps` steps. `partial` tells whether some of what was read was not kept."""

    def __init__(self, store: Store, run: str, seed: int, steps: int) -> None:
        self.partial = False
        self._store, self._run, self._seed, self._steps = store, run, seed, steps

    def __len__(self) -> int:
        return self._steps

    def part(self, at: int, most: int) -> list[Mixture]:
        """The mixtures of step `at` and of those after it, at most so many."""
        events = self._store.steps(self._run, at, min(most, self._steps - at))
        kept = {
            feed.step: (np.frombuffer(feed.ids, "<i4"), np.frombuffer(feed.weights, "<f4"))
            for feed in self._store.feeds(self._run, at, at + len(events))
        }
        fed = [mixture_of(event, self._seed, kept) for event in events]
        self.partial |= any(map(is_partial, events, fed))
        return fed


def feed(run: str, event: Event, fed: Mixture) -> Feed:
    """The heaviest of a large mixture's candidates, for replay."""
    ids, weights = fed.ids, fed.weights
    if len(ids) > MOST_KEPT:
        heavy = fed.heaviest(MOST_KEPT)
        ids, weights = ids[heavy], weights[heavy]
    return Feed(run, event["step"], ids.astype("<i4").tobytes(), weights.astype("<f4").tobytes())
