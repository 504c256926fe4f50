"""The strategy base class. Subclassing it is registering it: CLI, API, page and docs follow.

A strategy turns the belief of a step into what is fed next. It sees numpy arrays, never the model.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, ClassVar

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, ValidationError

from superpose import rng
from superpose.problems import BadInput, clip, from_validation
from superpose.types import Distribution, Mixture


@dataclass(frozen=True, slots=True)
class Step:
    """Where in its run a strategy is asked: the step's index from 0, and the run's seed."""

    index: int
    seed: int

    def generator(self) -> Generator:
        """The random numbers of this step's weights, keyed by (seed, step)."""
        return rng.generator(self.seed, self.index, "weights")


@dataclass(frozen=True)
class Stop:
    """A strategy's word that thinking is over; `reason` is a short sentence for people."""

    reason: str


Mix = Callable[[Distribution, Step], Mixture | Stop]


class Strategy(BaseModel):
    """Base class: fields are the parameters, the docstring is the help, `mix` is the method.

    Fields carry bounds and descriptions; the JSON Schema of the class draws the form.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    name: ClassVar[str]
    transition: ClassVar[str] = "</think><think>"
    registry: ClassVar[dict[str, type[Strategy]]] = {}

    def __init_subclass__(cls, *, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not name:
            return  # an intermediate base, not a strategy
        if not cls.__doc__:
            raise TypeError(f"strategy {name!r} needs a docstring: its first line is the help text")
        taken = Strategy.registry.get(name)
        if taken is not None and taken.__qualname__ != cls.__qualname__:
            raise TypeError(f"strategy name {name!r} is taken by {taken.__module__}.{taken.__qualname__}")
        cls.name = name
        Strategy.registry[name] = cls

    def support(self) -> int:
        """How many candidates it must see; 0 means the whole vocabulary."""
        raise NotImplementedError

    def mass(self) -> float:
        """With a support of 0: the cumulative probability beyond which no candidate matters."""
        return 1.0

    def mix(self, d: Distribution, step: Step) -> Mixture | Stop:
        """What is fed at this step, or the end of thinking."""
        raise NotImplementedError

    def begin(self) -> Mix:
        """A fresh callable for one run; stateful strategies return one that keeps the state."""
        return self.mix

    def to_json(self) -> dict[str, Any]:
        """The strategy as the JSON of a RunSpec: its name and every parameter."""
        return {"name": self.name, **self.model_dump(mode="json")}

    @classmethod
    def help(cls) -> str:
        """The first line of the docstring."""
        return cleandoc(cls.__doc__ or "").splitlines()[0]

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Name, help, whole docstring, transition and JSON Schema: what form, CLI and docs are drawn from."""
        schema = cls.model_json_schema()
        return {
            "name": cls.name,
            "help": cls.help(),
            "doc": cleandoc(cls.__doc__ or ""),
            "transition": cls.transition,
            "schema": {
                "type": "object",
                "properties": schema.get("properties", {}),
                "additionalProperties": False,
            },
        }


def strategies() -> dict[str, type[Strategy]]:
    """Every registered strategy by name; the built-in ones are found by listing their folder."""
    package = importlib.import_module("superpose.strategies")
    for module in pkgutil.iter_modules(package.__path__, "superpose.strategies."):
        importlib.import_module(module.name)
    return dict(sorted(Strategy.registry.items()))


def make_strategy(value: object) -> Strategy:
    """The strategy that a name, a `{"name": …, parameters}` object or a Strategy stands for.

    Raises BadInput that names the parameter, its value and what is allowed.
    """
    if isinstance(value, Strategy):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise BadInput(
            "strategy", 'strategy must be a name or an object such as {"name": "non_uniform", "k": 5}'
        )
    known = strategies()
    name = value["name"]
    if name not in known:
        raise BadInput("strategy", f"unknown strategy {clip(name)!r}; allowed: {', '.join(known)}")
    cls = known[name]
    parameters = {key: given for key, given in value.items() if key != "name"}
    for key in parameters:
        if key not in cls.model_fields:
            allowed = ", ".join(cls.model_fields) or "none"
            raise BadInput(
                f"strategy.{clip(key)}", f"{name} has no parameter {clip(key)!r}; allowed: {allowed}"
            )
    try:
        return cls(**parameters)
    except ValidationError as error:
        raise from_validation(error, "strategy") from error
