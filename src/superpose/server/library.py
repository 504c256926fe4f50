"""The run library: lists, labels, delete and restore."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from superpose.events import Status
from superpose.problems import check_text
from superpose.server.requests import Run
from superpose.store import Store
from superpose.store_list import Order, Sort
from superpose.store_list import Query as Wanted

_Id = Annotated[str, Field(min_length=1, max_length=100)]
_Filter = Annotated[str | None, Query(max_length=1000)]


class Label(BaseModel):
    """What `PATCH /api/runs/{id}` sets; a field left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=200)
    tags: list[Annotated[str, Field(min_length=1, max_length=50)]] | None = Field(None, max_length=20)


class Ids(BaseModel):
    """Runs to delete or restore together."""

    model_config = ConfigDict(extra="forbid")

    ids: list[_Id] = Field(min_length=1, max_length=200)


def routes(store: Store) -> APIRouter:
    """The routes of the run library over a store."""
    router = APIRouter(prefix="/api/runs")

    @router.get("")
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

    @router.get("/facets")
    def facets() -> dict[str, list[dict[str, Any]]]:
        """What runs can be filtered by, with how many runs each."""
        return store.facets()

    @router.post("/delete", status_code=204)
    def delete_runs(chosen: Ids) -> None:
        """Hides runs, all or none; they can be restored for some minutes."""
        store.delete(*chosen.ids)

    @router.post("/restore")
    def restore_runs(chosen: Ids) -> Ids:
        """Brings deleted runs back, all or none."""
        store.restore(*chosen.ids)
        return chosen

    @router.patch("/{run}")
    def label_run(run: Run, label: Label) -> dict[str, Any]:
        """Sets a run's name and tags."""
        before = store.label(run)
        name = label.name if "name" in label.model_fields_set else before["name"]
        tags = label.tags if label.tags is not None else before["tags"]
        for field, text in [("name", name or ""), *(("tags", tag) for tag in tags)]:
            check_text(field, text)
        store.annotate(run, name, tags)
        return store.label(run)

    @router.delete("/{run}", status_code=204)
    def delete_run(run: str) -> None:
        """Hides a run that is not live; it can be restored for some minutes."""
        store.delete(run)

    @router.post("/{run}/restore")
    def restore_run(run: str) -> dict[str, str]:
        """Brings a deleted run back."""
        store.restore(run)
        return {"id": run, "status": store.status(run)}

    return router
