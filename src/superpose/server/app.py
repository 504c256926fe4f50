"""The HTTP face of the lab: routes that check words, call a room below and answer. It decides nothing."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from superpose import __version__
from superpose.events import RunRecord
from superpose.problems import BadInput
from superpose.server import library, models, problems, steering, streams
from superpose.server.answers import REF, Health, Outcome, StrategyInfo, Warnings, says, streamed, tells
from superpose.server.guard import Guard
from superpose.server.requests import Created, Run, json_body
from superpose.server.shelf import Shelf
from superpose.spec import make_spec
from superpose.store import Store
from superpose.strategy import strategies

MOST = 2**53 - 1  # the largest integer that JSON keeps exact in a browser
Body = Annotated[Any, Depends(json_body)]
LastEvent = Annotated[int | None, Header(alias="Last-Event-ID", ge=-1, le=MOST)]
After = Annotated[int | None, Query(ge=-1, le=MOST)]


class Lab(FastAPI):
    """The app; its OpenAPI also holds what no route can declare: the spec of a run and the events of its stream."""

    def openapi(self) -> dict[str, Any]:
        """The schema of all routes."""
        schema = super().openapi()
        schema["components"]["schemas"].update(streamed())
        return schema


def make_app(shelf: Shelf, store: Store, hosts: frozenset[str] | None) -> FastAPI:
    """The lab's app over a store and a shelf of models; `hosts` are the names it answers for (None = any)."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(shelf.close)
        store.close()

    app = Lab(title="superpose", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, hosts=hosts)
    problems.install(app)

    app.state.store = store
    app.include_router(library.routes(store))
    app.include_router(models.routes(shelf))

    @app.get("/healthz", **says(Health))
    def health() -> dict[str, str]:
        """Says that the server lives."""
        return {"status": "ok", "version": __version__}

    @app.get("/api/strategies", **says(list[StrategyInfo]))
    def list_strategies() -> list[dict[str, Any]]:
        """Every strategy with its help and the JSON Schema of its parameters."""
        return [strategy.describe() for strategy in strategies().values()]

    @app.post(
        "/api/runs",
        status_code=201,
        openapi_extra={
            "requestBody": {"content": {"application/json": {"schema": {"$ref": REF.format(model="RunSpec")}}}}
        },
    )
    def create_run(given: Body) -> Created:
        """Queues a run; every field of the spec but `user` may be left out."""
        spec = make_spec(given)
        return Created(id=shelf.runner(spec.model).submit(spec))

    @app.post("/api/check", **says(Warnings))
    def check_run(given: Body, repeats: Annotated[int, Query(ge=1, le=1000)] = 1) -> dict[str, list[str]]:
        """Warnings about a spec that could run, with so many seeds; the same errors as starting it."""
        spec = make_spec(given)
        return {"warnings": shelf.runner(spec.model).check(spec, repeats)}

    @app.get("/api/runs/{run}")
    def read_run(run: Run) -> RunRecord:
        """The whole record of a run."""
        return store.record(run)

    app.include_router(steering.routes(shelf, store))

    @app.get("/api/runs/{run}/events", **tells("RunEvent"))
    def run_events(run: Run, last: LastEvent = None, after: After = None) -> Response:
        """A run's events after number `Last-Event-ID` (or `after`): replay, then live, until it has ended."""
        seen = last if last is not None else -1 if after is None else after
        start = store.position(run, seen)
        if not store.live([run]) and not store.events([run], start, 1):
            return Response(status_code=204)
        return streams.response(streams.runs(store, [run], start, lambda stored: stored.seq))

    @app.get("/api/events", **tells("RunEvent"))
    def many_events(
        runs: Annotated[str, Query(max_length=4000)],
        last: LastEvent = None,
        after: After = None,
    ) -> Response:
        """The events of several runs, `runs=a,b`, in one stream; ids number the store's events."""
        ids = _ids(runs)
        for run in ids:
            store.status(run)  # raises UnknownRun
        start = max(0, last if last is not None else after or 0)
        if not store.live(ids) and not store.events(ids, start, 1):
            return Response(status_code=204)
        return streams.response(streams.runs(store, ids, start, lambda stored: stored.position))

    @app.get("/api/outcomes", **says(list[Outcome]))
    def outcomes(runs: Annotated[str, Query(max_length=4000)]) -> list[dict[str, Any]]:
        """Status, seed, steps and, once it is over, the whole answer of each of `runs=a,b`."""
        return store.outcomes(_ids(runs))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        """The API on one page, without a script from elsewhere."""
        return HTMLResponse(_docs(app.openapi()))

    static = files("superpose") / "static"
    if (static / "index.html").is_file():
        app.frontend("/", directory=str(static), fallback="index.html")
    else:

        @app.get("/", include_in_schema=False)
        def unbuilt() -> HTMLResponse:
            return HTMLResponse("<p>The page is not built: run <code>python3 dev.py demo</code>.</p>", 503)

    return app


def _ids(runs: str) -> list[str]:
    ids = list(dict.fromkeys(part for part in runs.split(",") if part))
    if not 1 <= len(ids) <= 64:
        raise BadInput("runs", f"runs must name 1 to 64 runs, as in a,b; got {len(ids)}")
    return ids


def _docs(schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<dt><code>{method.upper()} {html.escape(path)}</code></dt>"
        f"<dd>{html.escape(about.get('description', ''))}</dd>"
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>superpose: API</title>'
        "<style>body{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}dd{margin:0 0 .8rem 1rem}"
        ":root{color-scheme:light dark}</style>"
        f'<h1>superpose {__version__}: API</h1><p>The whole schema: <a href="/openapi.json">openapi.json</a>. '
        f"Errors are RFC 9457 problem documents.</p><dl>{rows}</dl></html>"
    )
