"""Who waits for a model, at which place, and for how long at most."""

from __future__ import annotations

import heapq
from typing import Any

from superpose.runner import Runner

_SHOWN = 80  # characters of a prompt


def line(model: str, runner: Runner) -> list[dict[str, Any]]:
    """The runs of a model that are not over, live ones first.

    `position` counts those that wait, from 1. `eta_s` is when a queued run starts, and when a running one ends, at
    the latest if steps keep the pace of late and every run uses all of its steps; None when there is no pace yet.
    """
    pace, ahead = runner.pace, runner.ahead()
    ends = [pace * run.left for run in ahead if run.status == "running"]
    # A paused run gives its lane up when another needs it.
    lanes = sorted([*ends, *[0.0] * (runner.engine.info.max_lanes - len(ends))])
    rows: list[dict[str, Any]] = []
    position = 0
    for run in ahead:
        eta: float | None = None
        if run.status == "running":
            eta = pace * run.left
        elif run.status == "queued":
            position += 1
            eta = lanes[0]
            heapq.heapreplace(lanes, eta + pace * run.left)
        rows.append({
            "id": run.run, "model": model, "status": run.status,
            "position": position if run.status == "queued" else None,
            "eta_s": round(eta, 1) if pace and eta is not None else None,
            "unread": run.unread,
            "strategy": run.spec.strategy.name, "user": run.spec.user[:_SHOWN],
        })  # fmt: skip
    return rows
