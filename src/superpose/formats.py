"""What files of runs may hold: JSON of whole characters and finite numbers, and the shape of events and records.

The files may be anyone's, so types and bounds are strict. Fields of an event that this superpose does not know are
kept, if they are not nested deeply.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from superpose.events import EndedBy, Phase, Status
from superpose.problems import BadInput, clip, from_validation
from superpose.types import Combine, Kind, Rescale

_EXACT = 2**53 - 1  # the largest integer that JSON keeps exact in a browser
_DEPTH = 24


def bad(sentence: str) -> BadInput:
    """The refusal of a file."""
    return BadInput("file", sentence)


def parse(text: str, where: str) -> Any:
    """The JSON of a text: finite numbers that a browser keeps exact, whole characters."""
    try:
        value = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_whole)
        if "\\u" in text:  # elsewhere half characters cannot come from UTF-8
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise bad(f"{where} holds a lone surrogate; only whole Unicode characters are allowed") from None
    except RecursionError:
        raise bad(f"{where} is nested too deeply") from None
    except _Unfit as error:
        raise bad(f"{where} holds the number {clip(str(error), 30)}; {error.rule}") from None
    except ValueError as error:
        raise bad(f"{where} is not valid JSON: {clip(str(error))}") from None


class _Unfit(ValueError):
    """A number that is not taken."""

    def __init__(self, number: str, rule: str) -> None:
        super().__init__(number)
        self.rule = rule


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Unfit(text, "only finite numbers are allowed")
    return value


def _whole(text: str) -> int:
    value = int(text) if len(text) <= 17 else _EXACT + 1
    if abs(value) > _EXACT:
        raise _Unfit(text, f"whole numbers must be within {_EXACT}")
    return value


def _plain(value: Any) -> Any:
    """A value that no model describes, if it is not nested deeply: all who read it later recurse."""
    level = [value]
    for _ in range(_DEPTH):
        level = [
            part
            for item in level
            if isinstance(item, dict | list)
            for part in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return value
    raise bad("the file is nested too deeply")


# -- what is allowed ------------------------------------------------------------------------------------------

_Plain = Annotated[Any, AfterValidator(_plain)]
Id = Annotated[str, Field(min_length=1, max_length=100)]
_Text = Annotated[str, Field(max_length=2_000_000)]
_Short = Annotated[str, Field(max_length=10_000)]
_Token = Annotated[int, Field(ge=0, lt=2**31)]
_Tokens = Annotated[list[_Token], Field(max_length=2_000_000)]
_Count = Annotated[int, Field(ge=0, le=10_000_000)]
_Engine = Annotated[dict[str, _Plain], Field(max_length=100)]
_Share = Annotated[float, Field(ge=-0.001, le=1.001)]  # rounding may take it over the edge
_Positive = Annotated[float, Field(ge=0, le=1e12)]
_Number = Annotated[float, Field(ge=-1e12, le=1e12)]
_ABSENT: Any = None  # the default of fields that may be left out, yet not be null


def _moment(value: str) -> str:
    """A time that every part of the lab reads alike."""
    if not re.fullmatch(r"(19[7-9]|2\d\d)\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", value):
        raise bad(f"a time must be written like 2026-01-31T12:00:00.000+00:00; got {clip(value, 40)!r}")
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        raise bad(f"{value} is no time: {error}") from None
    return value


def _once(items: list[Any]) -> list[Any]:
    if len({item.id for item in items}) < len(items):
        raise bad("a step names a token twice")
    return items


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, _Plain]


class _Believed(_Part):
    id: _Token
    text: _Short
    probability: _Share


class _Fed(_Part):
    id: _Token
    text: _Short
    weight: _Number


class _FedRest(_Part):
    count: _Count
    weight: _Number


class _TokenShown(_Part):
    id: _Token
    text: _Short
    probability: _Share | None


class Step(_Part):
    """One forward pass, as records and events tell it."""

    step: _Count
    phase: Phase
    kind: Kind
    token: _TokenShown
    text: _Short
    fed: Annotated[list[_Fed], Field(min_length=1, max_length=64), AfterValidator(_once)]
    fed_rest: _FedRest = _ABSENT
    combine: Combine
    rescale: Rescale | _Positive = _ABSENT
    noise: _Number = _ABSENT
    noise_seed: _Count | Annotated[int, Field(ge=0, le=_EXACT)] = _ABSENT
    drawn: _Believed = _ABSENT
    believed: Annotated[list[_Believed], Field(min_length=1, max_length=64), AfterValidator(_once)]
    tail: _Share
    entropy: _Number
    entropy_raw: _Number
    norm_ratio: _Positive | None
    reason: _Short | None
    t_ms: _Positive


class _Strategy(_Part):
    name: Annotated[str, Field(min_length=1, max_length=100)]


class _Answer(_Part):
    temperature: _Positive | None
    top_p: _Share
    top_k: _Count
    min_p: _Share


class _Edit(_Part):
    ids: Annotated[list[_Token], Field(min_length=1, max_length=256)]
    weights: Annotated[list[_Number], Field(min_length=1, max_length=256)]
    combine: Combine = _ABSENT


class _Fork(_Part):
    run: Id
    step: _Count
    mixture: _Edit | None


class _Spec(_Part):
    model: Annotated[str, Field(max_length=1000)] | None
    system: _Text
    user: _Text
    strategy: _Strategy
    T_e: _Count
    T_total: _Count
    temperature: _Positive
    answer: _Answer
    end_probability: _Share | None
    transition: _Text | None
    seed: Annotated[int, Field(ge=0, le=_EXACT)]
    fork: _Fork | None


_Created = Annotated[str, AfterValidator(_moment)]
Name = Annotated[str, Field(max_length=200)] | None
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=50)]], Field(max_length=20)]


class _Prompt(_Part):
    text: _Text
    token_ids: _Tokens


class _Timing(_Part):
    queue_s: _Positive
    prefill_s: _Positive
    decode_s: _Positive
    tokens_per_second: _Positive


class _Replay(_Part):
    steps: _Count
    error: _Positive | None
    words: _Short
    state: _Short
    state_words: _Short


class _Queued(_Part):
    type: Literal["run_queued"]
    spec: _Spec
    created_at: _Created
    name: Name = None
    tags: Tags = []


class _Started(_Part):
    type: Literal["run_started"]
    prompt: _Prompt
    engine: _Engine
    queue_s: _Positive


class _Prefilled(_Part):
    type: Literal["prefilled"]
    prefill_s: _Positive


class _StepEvent(Step):
    type: Literal["step"]


class _Replayed(_Replay):
    type: Literal["replayed"]


class _PhaseEnded(_Part):
    type: Literal["phase_ended"]
    phase: Phase
    ended_by: EndedBy | None
    reason: _Short | None
    steps: _Count
    text: _Short
    token: _Believed | None = None


class _Paused(_Part):
    type: Literal["run_paused"]
    step: _Count
    held_s: _Positive


class _Resumed(_Part):
    type: Literal["run_resumed"]
    status: Literal["queued", "running"]


class _Released(_Part):
    type: Literal["lane_released"]


class _Finished(_Part):
    type: Literal["run_finished"]
    timing: _Timing = _ABSENT
    error: None = None


class _Cancelled(_Part):
    type: Literal["run_cancelled"]
    timing: _Timing = _ABSENT
    error: _Text | None = None


class _Failed(_Part):
    type: Literal["run_failed"]
    timing: _Timing = _ABSENT
    error: _Text


AnyEvent = Annotated[
    _Queued | _Started | _Prefilled | _StepEvent | _PhaseEnded | _Paused | _Resumed | _Released | _Replayed
    | _Finished | _Cancelled | _Failed,
    Field(discriminator="type"),
]  # fmt: skip
TYPES = {name for model in get_args(get_args(AnyEvent)[0]) for name in get_args(model.model_fields["type"].annotation)}


class _PhaseText(_Part):
    text: _Text
    steps: _Count
    ended_by: EndedBy | None
    reason: _Short | None


class Record(_Part):
    """A whole run; `events.fold` makes it."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    status: Status
    created_at: _Created
    name: Name
    tags: Tags
    spec: _Spec
    engine: _Engine | None
    prompt: _Prompt | None
    steps: list[Any]  # each is checked by itself: models of all at once would take half a gigabyte
    thinking: _PhaseText
    answer: _PhaseText
    text: _Text
    timing: _Timing
    replay: _Replay | None = None
    error: _Text | None


@cache
def _model(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def check(kind: Any, value: object, where: str, field: str = "") -> None:
    """Raises BadInput unless the value is of the kind. The value itself is kept: nothing is converted."""
    try:
        _model(kind).validate_python(value)
    except ValidationError as error:
        raise bad(f"{where}: {from_validation(error, field)}") from None
