"""How many threads torch uses on a CPU."""

from __future__ import annotations

import os

import torch

from superpose.engines.host import physical_cores


def use_physical_cores() -> None:
    """At most one thread a physical core that this process may use: a second one only slows the products."""
    cores = physical_cores()
    if "OMP_NUM_THREADS" not in os.environ and cores is not None and cores < torch.get_num_threads():
        torch.set_num_threads(cores)
