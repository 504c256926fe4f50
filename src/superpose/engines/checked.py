"""What engines have in common, above all what they refuse, each in a sentence: a call that fails changes no lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from superpose.engine import BadShape, EngineInfo, LaneTooLong, Readout
from superpose.engines.readout import check_ask
from superpose.types import IntArray, Mixture


class Checked:
    """Base of engines, with the checks of a call. Raises UnknownLane, BadShape, LaneTooLong."""

    info: EngineInfo

    def length(self, lane: int) -> int:
        """How many positions a lane holds. Raises UnknownLane."""
        raise NotImplementedError

    def meanwhile(self, act: Callable[[], object]) -> None:
        """Does this at once: the host itself makes the steps."""
        act()

    def _within(self, lane: int, upto: int) -> None:
        """That a lane can be cut back to `upto` positions."""
        if not 0 <= upto <= self.length(lane):
            raise BadShape(f"lane {lane} holds {self.length(lane)} positions; {upto} of them cannot be kept")

    def _admit(self, lane: int, inputs: Sequence[Mixture] | IntArray, ask: Readout) -> None:
        """That a lane can take these inputs and answer this question."""
        length = self.length(lane)
        self._check_ids(inputs)
        check_ask(ask)
        if len(inputs) == 0:
            raise BadShape("there is nothing to feed")
        if length + len(inputs) > self.info.context:
            raise LaneTooLong(
                f"lane {lane} holds {length} tokens and would exceed the context of {self.info.context} by taking "
                f"{len(inputs)} more"
            )

    def _check_ids(self, inputs: Sequence[Mixture] | IntArray) -> None:
        """That token ids are integers of the vocabulary."""
        given = [inputs] if isinstance(inputs, np.ndarray) else [mixture.ids for mixture in inputs]
        for ids in given:
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise BadShape(f"token ids are a list of integers, not {ids.dtype} of shape {ids.shape}")
            # By their places: an array's own min and max take five times as long where it is as short as these.
            if ids.size and not 0 <= ids.item(ids.argmin()) <= ids.item(ids.argmax()) < self.info.vocab:
                raise BadShape(f"token ids must be from 0 to {self.info.vocab - 1}")
