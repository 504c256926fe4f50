"""What a recorded run was fed, read from the store piece by piece, as it is fed again."""

from __future__ import annotations

import numpy as np

from superpose.replay import is_partial, mixture_of
from superpose.store import Store
from superpose.types import Mixture


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
