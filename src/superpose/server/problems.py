"""Errors as RFC 9457 problem documents: what was wrong, which field, what is allowed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from superpose.problems import BadInput, clip, from_errors
from superpose.store import LiveRun
from superpose.store_events import UnknownRun


class Problem(Exception):
    """An answer that is an error; `detail` is one sentence."""

    def __init__(self, status: int, detail: str, field: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.field, self.headers = status, detail, field, headers


def document(status: int, detail: str, field: str | None = None) -> dict[str, Any]:
    """The problem document itself."""
    body: dict[str, Any] = {
        "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail,
    }  # fmt: skip
    return body if field is None else {**body, "field": field}


def response(status: int, detail: str, field: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    """The problem document as a response."""
    return JSONResponse(document(status, detail, field), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem document."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> JSONResponse:
        return response(error.status, error.detail, error.field, error.headers)

    @app.exception_handler(BadInput)
    async def _bad_input(_: Request, error: BadInput) -> JSONResponse:
        return response(422, str(error), error.field)

    @app.exception_handler(UnknownRun)
    async def _unknown_run(_: Request, error: UnknownRun) -> JSONResponse:
        return response(404, f"there is no run {clip(str(error.args[0]))!r}")

    @app.exception_handler(LiveRun)
    async def _live_run(_: Request, error: LiveRun) -> JSONResponse:
        return response(409, f"run {error.args[0]} is live; cancel it first")

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = from_errors(error.errors(), skip=1)
        broken = error.errors()[0]["type"] == "json_invalid"
        return response(400, "the body is not valid JSON") if broken else response(422, str(problem), problem.field)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return response(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        return response(500, f"the server failed: {type(error).__name__}; its log says more")
