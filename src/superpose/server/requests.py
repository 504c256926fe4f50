"""What several routes read from a request, and the answer they share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel

from superpose.server.problems import Problem


class Created(BaseModel):
    """The id of a new run."""

    id: str


async def json_body(request: Request) -> Any:
    """The JSON of a request. Raises Problem with the place where it breaks."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is not valid JSON: {error}") from error


def known_run(request: Request, run: str) -> str:
    """The id in the path. Raises UnknownRun, before the first byte of any answer."""
    request.app.state.store.status(run)
    return run


Run = Annotated[str, Depends(known_run)]
