"""Routes of the models: what is loaded, and their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from superpose.engine import EngineError
from superpose.models import canonical
from superpose.problems import BadInput, check_text
from superpose.questions import Unanswered
from superpose.runner import Runner
from superpose.server import streams
from superpose.server.answers import Chosen, Counted, Measured, Models, Queue, Rendered, Tokens, says, tells
from superpose.server.problems import Problem
from superpose.server.shelf import Shelf
from superpose.spec import Edit


class ModelName(BaseModel):
    """Which model is meant."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=1000)


class Load(ModelName):
    """Which model is to be loaded, and with weights of how many bits; null takes what the server was started with."""

    quantize: Literal["int8", "int4"] | None = None


class Words(BaseModel):
    """What `POST /api/tokenize` counts: one text, or the messages of a prompt."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    text: str | None = None
    system: str = ""
    user: str | None = None


class Asked(BaseModel):
    """A mixture as a fork takes it, and the model that is to measure it."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    mixture: Edit


def routes(shelf: Shelf) -> APIRouter:
    """The routes over a shelf of models."""
    router = APIRouter(prefix="/api")

    @router.get("/models", **says(Models))
    def list_models() -> dict[str, Any]:
        """Models that are loaded, loading or at hand, with load progress and self-check."""
        return shelf.describe()

    @router.get("/models/events", **tells("Models"))
    async def model_events() -> StreamingResponse:
        """The models document anew after every change, as server-sent events."""
        return streams.response(streams.models(shelf))

    @router.post("/models/load", status_code=202, **says(Chosen, 202))
    def load_model(wanted: Load) -> dict[str, Any]:
        """Begins to load a model: a known name, a hub id, a folder or a .gguf file; `model` is its name from now on."""
        shelf.load(wanted.model, wanted.quantize)
        return {"model": canonical(wanted.model), **shelf.describe()}

    @router.post("/models/unload", status_code=202, **says(Chosen, 202))
    def unload_model(wanted: ModelName) -> dict[str, Any]:
        """Frees the memory of a model without runs, and forgets one that failed to load."""
        shelf.unload(wanted.model)
        return {"model": canonical(wanted.model), **shelf.describe()}

    @router.get("/queue", **says(Queue))
    def queue() -> dict[str, Any]:
        """The runs that are not over: status, position among a model's queued ones, seconds left at most.

        `eta_s` is until a queued run starts or a running one ends.
        """
        return {"runs": shelf.describe()["queue"]}

    @router.post("/tokenize", **says(Rendered | Counted))
    def tokenize(words: Words) -> dict[str, Any]:
        """A text's tokens, or a prompt as the model gets it."""
        runner = shelf.runner(words.model)
        if words.text is not None:
            return _counted(runner, runner.engine.tokenizer.encode(check_text("text", words.text)))
        if words.user is None:
            raise BadInput("text", "give either text, or user (and system)")
        try:
            check_text("system", words.system)
            prompt = runner.engine.tokenizer.chat(words.system, check_text("user", words.user))
        except BadInput:
            raise
        except ValueError as refused:
            raise BadInput("user", str(refused)) from refused
        context = runner.engine.info.context
        return {**_counted(runner, prompt.token_ids), "context": context, "prompt": prompt._asdict()}

    @router.get("/tokens", **says(Tokens))
    def find_tokens(
        q: Annotated[str, Query(max_length=200)],
        model: str | None = None,
        limit: Annotated[int, Query(ge=1, le=50)] = 20,
    ) -> dict[str, Any]:
        """Tokens of the model's vocabulary by text (just it, then its beginning, then anywhere), or `#123` by id."""
        vocabulary = shelf.vocabulary(model)
        return {"tokens": _told(vocabulary.text, vocabulary.search(q, limit))}

    @router.post("/mixture", **says(Measured))
    def measure(asked: Asked) -> dict[str, Any]:
        """A mixture's length, over the mean length of a token's embedding, and the tokens nearest to it by cosine."""
        runner = shelf.runner(asked.model)
        try:
            ratio, nearest = runner.measure(asked.mixture.mixture())
        except (Unanswered, EngineError) as error:
            raise Problem(503, str(error), headers={"Retry-After": "1"}) from error
        told = [{"id": token, "text": runner.text(token), "cosine": cosine} for token, cosine in nearest]
        return {"norm_ratio": ratio, "nearest": told}

    return router


def _counted(runner: Runner, ids: list[int]) -> dict[str, Any]:
    return {"count": len(ids), "tokens": _told(runner.text, ids)}


def _told(text: Callable[[int], str], ids: list[int]) -> list[dict[str, Any]]:
    return [{"id": token, "text": text(token)} for token in ids]
