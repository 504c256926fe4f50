"""What the routes answer, as types: for the OpenAPI document, and through it for the page (web/openapi.py)."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from superpose.events import RunEvent, RunRecord, Status
from superpose.spec import RunSpec

REF = "#/components/schemas/{model}"


def says(answer: Any, status: int = 200) -> dict[str, Any]:
    """Options of a route that document its answer and leave the answer itself alone."""
    return {"response_model": None, "responses": {status: {"model": answer}}}


def tells(answer: str) -> dict[str, Any]:
    """Options of a route that streams JSON of this schema as server-sent events."""
    content = {"text/event-stream": {"schema": {"$ref": REF.format(model=answer)}}}
    return {"response_model": None, "response_class": StreamingResponse, "responses": {200: {"content": content}}}


@cache
def streamed() -> dict[str, Any]:
    """Schemas that no route declares: what a spec may say, the frozen spec, the events of a stream."""
    given = RunSpec.model_json_schema(ref_template=REF)
    frozen = RunSpec.model_json_schema(mode="serialization", ref_template="#/components/schemas/Frozen{model}")
    events = TypeAdapter(RunEvent).json_schema(mode="serialization", ref_template=REF)
    record = TypeAdapter(RunRecord).json_schema(mode="serialization", ref_template=REF)
    parts = {**given.pop("$defs"), **events.pop("$defs"), **record.pop("$defs")}
    parts |= {f"Frozen{name}": part for name, part in frozen.pop("$defs").items()}
    schemas = {**parts, "RunSpec": given, "FrozenRunSpec": frozen, "RunEvent": events, "RunRecord": record}
    for name, schema in schemas.items():
        if name.startswith("Frozen"):
            schema["required"] = list(schema["properties"])  # a run says all of it
    schemas["FrozenRunSpec"]["properties"]["strategy"]["additionalProperties"] = True  # its parameters
    for name in ("RunQueued", "RunRecord"):  # plain dictionaries in Python
        schemas[name]["properties"]["spec"] = {"$ref": REF.format(model="FrozenRunSpec")}
    return schemas


class Health(TypedDict):
    """That the server lives."""

    status: Literal["ok"]
    version: str


class StrategyInfo(TypedDict):
    """A strategy as form, docs and command line tell it."""

    name: str
    help: str
    doc: str
    transition: str
    thinks: bool  # false: rules the whole generation, without a phase of its own for thinking
    end_probability: float | None  # of a run that names none
    paper: str | None  # arXiv id
    schema: dict[str, Any]  # JSON Schema of its parameters


class Warnings(TypedDict):
    """What a careful colleague would say of a spec before it is run."""

    warnings: list[str]


class RunRow(TypedDict):
    """A run as lists show it; long texts are cut."""

    id: str
    created_at: str
    status: Status
    name: str | None
    tags: list[str]
    strategy: str
    model: str | None
    seed: int | None
    steps: int
    tokens_per_second: float | None
    answer: str
    user: str
    error: str | None
    parent: str | None
    fork_step: int | None
    imported: bool
    spec: dict[str, Any]  # without its long parts


class RunsPage(TypedDict):
    """A page of a list; `next` is where the following one begins, `total` null where counting would be slow."""

    runs: list[RunRow]
    next: str | None
    total: int | None


class Facet(TypedDict):
    """What runs can be filtered by, and how many have it."""

    name: str
    count: int


class Facets(TypedDict):
    """All facets, each a bounded list."""

    strategies: list[Facet]
    models: list[Facet]
    statuses: list[Facet]
    tags: list[Facet]


class Labelled(TypedDict):
    """A run's name and tags."""

    name: str | None
    tags: list[str]


class Standing(TypedDict):
    """A run and its status."""

    id: str
    status: Status


class Relative(TypedDict):
    """A run among those that were branched from one another."""

    id: str
    name: str | None
    status: Status
    parent: str | None
    step: int | None  # of the parent, where it branched
    edit: str | None  # by hand, in words
    strategy: str
    created_at: str
    answer: str


class Family(TypedDict):
    """The first run of a family, and all runs branched from it, parents first."""

    root: str
    runs: list[Relative]


class Outcome(TypedDict):
    """What came of a run; the answer is whole, and null while the run goes on."""

    id: str
    status: Status
    seed: int
    steps: int
    answer: str | None


class ModelInfo(TypedDict):
    """A loaded model, as measured."""

    engine: str
    model: str
    device: str
    dtype: str
    vocab: int
    context: int
    max_lanes: int
    parameters: int | None
    invariance: str
    fingerprint: str
    checks: list[str]  # the self-check in words


class Model(TypedDict):
    """A model at hand, on its way or loaded."""

    name: str
    about: str | None
    status: Literal["available", "loading", "ready", "unloading", "failed"]
    stage: str | None
    done: float
    total: float
    error: str | None
    info: ModelInfo | None
    memory: int | None  # bytes: weights and cache
    cache: int | None  # bytes: keys and values of the live runs
    live: int
    queued: int


class Ahead(TypedDict):
    """A run that is not over."""

    id: str
    model: str
    status: Literal["queued", "running", "paused"]
    position: int | None  # among the queued ones of its model, from 1
    eta_s: float | None  # until a queued run starts or a running one ends, at the latest
    unread: int  # tokens, and recorded steps (of a branch, after a long pause), that it reads before its next step
    strategy: str
    user: str


class Queue(TypedDict):
    """All runs that are not over."""

    runs: list[Ahead]


class Models(TypedDict):
    """All models, and who waits for them."""

    default: str
    models: list[Model]
    queue: list[Ahead]


class Chosen(Models):
    """All models, and the name of the one that was meant."""

    model: str


class TokenText(TypedDict):
    """A token of the vocabulary."""

    id: int
    text: str


class Neighbour(TokenText):
    """A token, and the cosine of the angle between its embedding and a mixed one."""

    cosine: float


class Measured(TypedDict):
    """What a mixture is, before it is fed; no ratio where its length is not a finite number."""

    norm_ratio: float | None
    nearest: list[Neighbour]  # of the whole vocabulary, nearest first


class Tokens(TypedDict):
    """Tokens that were found."""

    tokens: list[TokenText]


class Counted(Tokens):
    """A text's tokens."""

    count: int


class PromptText(TypedDict):
    """A prompt as the template renders it."""

    text: str
    token_ids: list[int]


class Rendered(Counted):
    """A prompt as the model gets it."""

    context: int
    prompt: PromptText
