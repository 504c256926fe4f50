"""RunSpec: what to run, as frozen JSON. A run is its own recipe."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from superpose.problems import BadInput, check_text, from_validation
from superpose.strategy import Strategy, make_strategy
from superpose.types import Combine, Mixture, Sampling

MAX_SEED = 2**53 - 1  # the largest integer that JSON keeps exact in a browser
_T_E = 50  # thinking steps of a run that names none
_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def _seed(value: object) -> object:
    return secrets.randbelow(2**31) if value is None else value


StrategyField = Annotated[
    InstanceOf[Strategy],
    BeforeValidator(make_strategy),
    PlainSerializer(lambda strategy: strategy.to_json()),
    WithJsonSchema({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}),
]


class AnswerSampling(BaseModel):
    """How answer tokens are drawn; filters apply top-k, then top-p, then min-p."""

    model_config = _FROZEN

    temperature: float | None = Field(None, ge=0, le=10, description="of the answer; null = the run's")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the likeliest tokens up to this probability")
    top_k: int = Field(0, ge=0, description="keep this many likeliest tokens; 0 = all")
    min_p: float = Field(0.0, ge=0, le=1, description="keep tokens of at least this share of the likeliest")


class Edit(BaseModel):
    """A mixture by hand: what a fork feeds at its step in place of the strategy's choice."""

    model_config = _FROZEN

    ids: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(min_length=1, max_length=256, strict=False)
    weights: tuple[float, ...] = Field(min_length=1, max_length=256, strict=False, description="sum to 1")
    combine: Combine = "sum"

    @model_validator(mode="after")
    def _sound(self) -> Edit:
        self.mixture()  # raises ValueError
        return self

    def mixture(self) -> Mixture:
        """The mixture; one token alone is a forced one."""
        if len(self.ids) == 1 and abs(self.weights[0] - 1) <= 1e-3:
            return Mixture.token(self.ids[0], "injected", "forced by hand")
        ids, weights = np.array(self.ids, np.int32), np.array(self.weights, np.float32)
        shown = int(ids[np.argmax(weights)]) if len(ids) == len(weights) else None
        return Mixture(ids, weights, self.combine, shown=shown, reason="edited by hand")


class Fork(BaseModel):
    """Where a run was branched from: it begins with that run's steps before `step`."""

    model_config = _FROZEN

    run: str = Field(min_length=1, max_length=100, description="the parent")
    step: int = Field(ge=0, le=200_000, description="the first step of its own")
    mixture: Edit | None = Field(None, description="fed at that step; null = what the strategy chooses")


class RunSpec(BaseModel):
    """Everything that a run's tokens depend on, beside the machine."""

    model_config = _FROZEN

    model: str | None = Field(None, description="a loaded model; null = the server's own")
    system: str = Field("", description="system prompt; empty sends none")
    user: str = Field(description="user prompt")
    strategy: StrategyField = Field(default_factory=lambda: make_strategy("non_uniform"), validate_default=True)
    T_e: int = Field(
        _T_E, ge=0, le=100_000, description="most thinking steps (phase 1); left out, 50, or T_total if that is less"
    )
    T_total: int = Field(250, ge=1, le=100_000, description="most steps of both phases together")
    temperature: float = Field(0.8, ge=0, le=10, description="of the distribution; 0 = greedy")
    answer: AnswerSampling = AnswerSampling()
    end_probability: float | None = Field(
        0.05, gt=0, le=1, description="an end token this likely ends thinking; null = never"
    )
    transition: str | None = Field(None, description="text forced after thinking; null = the strategy's")
    seed: Annotated[int, BeforeValidator(_seed)] = Field(
        default_factory=lambda: _seed(None),
        ge=0,
        le=MAX_SEED,
        validate_default=True,
        description="of every random number; null = a fresh one",
    )
    fork: Fork | None = Field(None, description="the run and step this one was branched from")

    @model_validator(mode="before")
    @classmethod
    def _end_rule(cls, given: Any) -> Any:
        """A run that names no end_probability takes its strategy's: methods with an end rule of their own have none."""
        if not isinstance(given, dict) or "end_probability" in given:
            return given
        strategy = make_strategy(given.get("strategy", "non_uniform"))
        return {**given, "strategy": strategy, "end_probability": strategy.end_probability}

    @model_validator(mode="before")
    @classmethod
    def _thinking(cls, given: Any) -> Any:
        """A run that names no T_e thinks no longer than it lasts."""
        total = given.get("T_total") if isinstance(given, dict) and "T_e" not in given else None
        return {**given, "T_e": total} if isinstance(total, int) and 0 < total < _T_E else given

    @field_validator("user", "system", "transition")
    @classmethod
    def _whole_text(cls, value: str | None, info: Any) -> str | None:
        return None if value is None else check_text(info.field_name, value)

    @model_validator(mode="after")
    def _together(self) -> RunSpec:
        if not self.user.strip():
            raise BadInput("user", "user is empty; a run needs a user prompt")
        if self.T_e > self.T_total:
            raise BadInput("T_e", f"T_e must be at most T_total ({self.T_total}); got {self.T_e}")
        return self

    @property
    def answer_temperature(self) -> float:
        """The temperature of the answer."""
        return self.temperature if self.answer.temperature is None else self.answer.temperature

    @property
    def filters(self) -> Sampling:
        """The filters of every draw."""
        return Sampling(self.answer.top_p, self.answer.top_k, self.answer.min_p)

    @property
    def transition_text(self) -> str:
        """The text forced between the phases."""
        return self.strategy.transition if self.transition is None else self.transition


def make_spec(value: object) -> RunSpec:
    """The RunSpec that a JSON object stands for. Raises BadInput: field, value, what is allowed."""
    if not isinstance(value, dict):
        raise BadInput("", "a run spec must be a JSON object")
    try:
        return RunSpec.model_validate(value)
    except ValidationError as error:
        raise from_validation(error) from error
