"""The run library: lists, labels, families, delete and restore, files."""

from __future__ import annotations

from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from superpose.events import Status
from superpose.exports import MEDIA, Form, export, file_name
from superpose.imports import read
from superpose.problems import BadInput, check_text
from superpose.server.answers import Facets, Family, Labelled, RunsPage, Standing, says
from superpose.server.requests import Run
from superpose.store import Store
from superpose.store_list import Order, Sort
from superpose.store_list import Query as Wanted

MOST = 200  # runs of one request
_Id = Annotated[str, Field(min_length=1, max_length=100)]
_Format = Annotated[Form, Query(alias="format")]
_Filter = Annotated[str | None, Query(max_length=1000)]


class Label(BaseModel):
    """What `PATCH /api/runs/{id}` sets; a field left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=200)
    tags: list[Annotated[str, Field(min_length=1, max_length=50)]] | None = Field(None, max_length=20)


class Adopted(BaseModel):
    """The ids of runs that came from a file."""

    ids: list[str]


class Ids(BaseModel):
    """Runs to delete or restore together."""

    model_config = ConfigDict(extra="forbid")

    ids: list[_Id] = Field(min_length=1, max_length=MOST)


def routes(store: Store) -> APIRouter:
    """The routes of the run library over a store."""
    router = APIRouter(prefix="/api")
    importing = Lock()  # a file takes many times its size in memory

    @router.get("/runs", **says(RunsPage))
    def list_runs(
        search: Annotated[str, Query(max_length=200)] = "",
        strategy: _Filter = None,
        model: _Filter = None,
        status: Status | None = None,
        tag: _Filter = None,
        parent: _Filter = None,
        imported: bool | None = None,
        sort: Sort = "created",
        order: Order = "desc",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[str | None, Query(max_length=8000)] = None,
    ) -> dict[str, Any]:
        """Runs that pass all filters and hold all words of `search`; `next` is the `after` of the following page.

        `total` counts the runs of all pages; it is null for a search with more than 1,000 hits.
        """
        wanted = Wanted(search, strategy, model, status, tag, parent, imported, sort, order, limit, after)
        return store.summaries(wanted)._asdict()

    @router.get("/runs/facets", **says(Facets))
    def facets() -> dict[str, list[dict[str, Any]]]:
        """What runs can be filtered by, with how many runs each."""
        return store.facets()

    @router.post("/runs/delete", status_code=204)
    def delete_runs(chosen: Ids) -> None:
        """Hides runs, all or none; they can be restored for some minutes."""
        store.delete(*chosen.ids)

    @router.post("/runs/restore")
    def restore_runs(chosen: Ids) -> Ids:
        """Brings deleted runs back, all or none."""
        store.restore(*chosen.ids)
        return chosen

    @router.patch("/runs/{run}", **says(Labelled))
    def label_run(run: Run, label: Label) -> dict[str, Any]:
        """Sets a run's name and tags."""
        before = store.label(run)
        name = label.name if "name" in label.model_fields_set else before["name"]
        tags = label.tags if label.tags is not None else before["tags"]
        for field, text in [("name", name or ""), *(("tags", tag) for tag in tags)]:
            check_text(field, text)
        store.annotate(run, name, tags)
        return store.label(run)

    @router.delete("/runs/{run}", status_code=204)
    def delete_run(run: str) -> None:
        """Hides a run that is not live; it can be restored for some minutes."""
        store.delete(run)

    @router.post("/runs/{run}/restore", **says(Standing))
    def restore_run(run: str) -> dict[str, str]:
        """Brings a deleted run back."""
        store.restore(run)
        return {"id": run, "status": store.status(run)}

    @router.get("/runs/{run}/family", **says(Family))
    def family(run: Run) -> dict[str, Any]:
        """The first run of the family, and all runs branched from it, parents first; at most 500."""
        return store.family(run)

    @router.get("/runs/{run}/export")
    def export_run(run: Run, form: _Format = "json") -> StreamingResponse:
        """A run as a file: its record (json), its events (jsonl) or its steps as a table (csv)."""
        return _file(store, [run], form, listed=False)

    @router.get("/export")
    def export_runs(runs: Annotated[str, Query(max_length=20_000)], form: _Format = "json") -> StreamingResponse:
        """Several runs, `runs=a,b`, as one file: a list of records, all events, or all steps."""
        ids = list(dict.fromkeys(part for part in runs.split(",") if part))
        if not 1 <= len(ids) <= MOST:
            raise BadInput("runs", f"runs must name 1 to {MOST} runs, as in a,b; got {len(ids)}")
        for run in ids:
            store.status(run)  # raises UnknownRun
        return _file(store, ids, form, listed=True)

    @router.post("/import", status_code=201)
    async def import_runs(request: Request) -> Adopted:
        """New runs from a file that was exported as json or jsonl; all of them, or none and a sentence."""

        def adopt(data: bytes) -> list[str]:
            with importing:
                return store.adopt(read(data))

        return Adopted(ids=await run_in_threadpool(adopt, await request.body()))

    return router


def _file(store: Store, runs: list[str], form: Form, listed: bool) -> StreamingResponse:
    name = file_name(store, runs, form)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(export(store, runs, form, listed), media_type=MEDIA[form], headers=headers)
