"""A lab over made-up models, for the Models screen: `small` has one lane, `second` loads slowly, `broken` fails.

Run as a script with a port and a data folder.
"""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

from superpose.engine import AUTOMATIC, Engine, EngineOptions, Memory, Progress, UnsupportedModel
from superpose.engines.toy import ToyEngine
from superpose.server import serve, shelf

STAGE_S = 0.6


class Counted(ToyEngine):
    """A toy of which the memory is counted."""

    def __init__(self, name: str, max_lanes: int) -> None:
        super().__init__(step_s=0.02, max_lanes=max_lanes)
        self.info = replace(self.info, model=name, parameters=134_515_008)

    def memory(self) -> Memory:
        return Memory(651_306_496, 14_745_600 * len(self._lanes))


def open_engine(name: str, options: EngineOptions, progress: Progress) -> Engine:
    """An engine by name."""
    if name == "small":
        return Counted(name, max_lanes=1)
    for stage in ("files", "weights", "self-check", "warm-up"):
        for done in range(4):
            progress(stage, done, 4)
            time.sleep(STAGE_S / 4)
        if name != "second" and stage == "weights":
            raise UnsupportedModel(f"{name!r} lacks 3 of its weights, lm_head.weight among them")
    return Counted(name, max_lanes=4)


if __name__ == "__main__":
    shelf.open_engine = open_engine
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        serve(Path(sys.argv[2]), "small", AUTOMATIC, listener, "127.0.0.1", lambda: None)
