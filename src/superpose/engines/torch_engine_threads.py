"""Which threads torch uses on a CPU, and how many."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import torch

from superpose.engines.host import physical_cores

Made = TypeVar("Made")


def use_physical_cores() -> None:
    """At most one thread a physical core that this process may use: a second one only slows the products."""
    cores = physical_cores()
    if "OMP_NUM_THREADS" not in os.environ and cores is not None and cores < torch.get_num_threads():
        torch.set_num_threads(cores)


def aside(make: Callable[[], Made]) -> Made:
    """What `make` returns or raises, called in a thread of its own.

    OpenMP keeps helpers for each thread that has called torch, as long as that lives. More of them than cores no longer
    wait for each other awake: steps took 8 % longer beside the idle helpers of the thread that had loaded the model.
    """
    made: Future[Made] = Future()

    def work() -> None:
        try:
            made.set_result(make())
        except BaseException as error:
            made.set_exception(error)

    # Not an executor's: that would hold a user who interrupts a long load until its end.
    thread = threading.Thread(target=work, name="superpose-aside", daemon=True)
    thread.start()
    thread.join()
    return made.result()
