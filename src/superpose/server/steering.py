"""Routes that steer runs: cancel, pause, resume, single steps, forks. The events of a run say what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from superpose.problems import BadInput, clip
from superpose.runner import Runner
from superpose.server.problems import Problem
from superpose.server.requests import Created, Run, json_body
from superpose.server.shelf import Shelf
from superpose.spec import RunSpec, make_spec
from superpose.store import Store

_KEPT = ("system", "user", "fork")  # what a fork has from its parent, or from its step and mixture


class Wanted(BaseModel):
    """How many single steps a paused run is to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    n: int = Field(1, ge=1, le=1000)


class Answer(BaseModel):
    """A run's status when it was asked for something; its events say when that is done."""

    id: str
    status: str


def routes(shelf: Shelf, store: Store) -> APIRouter:
    """The router over a shelf of models and the store of their runs."""
    router = APIRouter(prefix="/api/runs/{run}")

    def asked(run: str, ask: Callable[[Runner], bool], refused: str) -> Answer:
        """Passes a wish on to the runner that has the run. Raises Problem where none has."""
        taken = any([ask(runner) for runner in shelf.runners()])
        if not taken and store.live([run]):
            store.recover()  # its process may have died
        status = store.status(run)
        if not taken and store.live([run]):
            raise Problem(409, refused)
        return Answer(id=run, status=status)

    elsewhere = "run {} is live in another process; steer it there"

    @router.post("/cancel", status_code=202)
    def cancel(run: Run) -> Answer:
        """Ends a live run within one step; nothing happens to one that is over."""
        return asked(run, lambda runner: runner.cancel(run), elsewhere.format(run))

    @router.post("/pause", status_code=202)
    def pause(run: Run) -> Answer:
        """Lets a live run wait, within one step; its cache is kept for a while."""
        return alive(asked(run, lambda runner: runner.pause(run), elsewhere.format(run)), "paused")

    @router.post("/resume", status_code=202)
    def resume(run: Run) -> Answer:
        """Lets a paused run go on; nothing happens to one that is not paused."""
        return alive(asked(run, lambda runner: runner.resume(run), elsewhere.format(run)), "resumed")

    @router.post("/step", status_code=202)
    def step(run: Run, wanted: Annotated[Wanted | None, Body()] = None) -> Answer:
        """Lets a paused run make single steps."""
        here = any(each.run == run for runner in shelf.runners() for each in runner.ahead())
        said = f"run {run} is not paused; pause it first, then step" if here else elsewhere.format(run)
        return alive(asked(run, lambda runner: runner.advance(run, wanted.n if wanted else 1), said), "stepped")

    @router.post(
        "/fork",
        status_code=201,
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def fork(request: Request, run: Run) -> Created:
        """Queues a child that begins with this run's steps before `step`, feeds `mixture` (null = the strategy's own
        choice), and goes on; other fields of the body change the spec.
        """
        given = await json_body(request)

        def make() -> Created:
            spec = _child(store.spec(run), run, given)
            return Created(id=shelf.runner(spec.model).submit(spec))

        return await run_in_threadpool(make)

    return router


def alive(answer: Answer, done: str) -> Answer:
    """The answer of a run that is not over. Raises Problem for one that is."""
    if answer.status in ("finished", "cancelled", "failed"):
        raise Problem(409, f"run {answer.id} is {answer.status}; only a live run can be {done}")
    return answer


def _child(parent: dict[str, Any], run: str, given: object) -> RunSpec:
    """The spec of a fork: the parent's with the changes. Raises BadInput."""
    if not isinstance(given, dict):
        raise BadInput("", 'a fork is a JSON object such as {"step": 14}')
    changes = dict(given)
    fork = {"run": run, "step": changes.pop("step", None), "mixture": changes.pop("mixture", None)}
    for field in changes:
        if field in _KEPT or field not in RunSpec.model_fields:
            allowed = ", ".join(name for name in RunSpec.model_fields if name not in _KEPT)
            raise BadInput(clip(field), f"a fork cannot change {clip(field)!r}; allowed: step, mixture, {allowed}")
    spec = {**parent, **changes, "fork": fork}
    if isinstance(changes.get("answer"), dict):
        spec["answer"] = {**parent["answer"], **changes["answer"]}
    strategy = changes.get("strategy", parent["strategy"])
    name = strategy.get("name") if isinstance(strategy, dict) else strategy
    if name != parent["strategy"]["name"] and "end_probability" not in changes:
        del spec["end_probability"]  # another strategy has a rule of its own
    return make_spec(spec)
