"""What this machine has: free memory, and processor cores."""

from __future__ import annotations

import os
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def free_memory() -> int | None:
    """Bytes that can still be had, or None where the system does not say."""
    try:  # what the kernel could free counts: after a large download nearly all memory holds cached files
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # Windows
        return None


def physical_cores() -> int | None:
    """How many physical cores this process may use, or None where the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    try:
        return len({Path(_SIBLINGS.format(cpu)).read_text() for cpu in os.sched_getaffinity(0)})
    except OSError:
        return None
