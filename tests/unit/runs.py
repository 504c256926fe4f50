"""A long run of the toy, and what tests of steering ask of it."""

import time

from superpose.spec import make_spec

LONG = {"user": "x", "T_e": 60, "T_total": 90, "end_probability": None, "seed": 3}


def until(holds, seconds=10.0):
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)
    return found


def ended(store, run):
    until(lambda: store.status(run) in ("finished", "cancelled", "failed"), 30)
    return store.record(run)


def run_to_end(runner, store, **spec):
    return ended(store, runner.submit(make_spec({**LONG, **spec})))


def types(store, run):
    return [stored.type for stored in store.events([run], 0, limit=-1)]


def told(record, start=0):
    """What replays must repeat: all of a step but its clock."""
    steps = [dict(step) for step in record["steps"][start:]]
    for step in steps:
        del step["t_ms"]
        step.pop("noise_seed", None)
    return steps


def fork(runner, store, parent, step, mixture=None, **changes):
    spec = {**store.spec(parent), **changes, "fork": {"run": parent, "step": step, "mixture": mixture}}
    return ended(store, runner.submit(make_spec(spec)))
