"""The strategy base class. Subclassing it is registering it: CLI, API, page and docs follow.

A strategy turns the belief of a step into what is fed next. It sees numpy arrays, never the model.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, ValidationError

from superpose import rng
from superpose.problems import BadInput, clip, from_validation
from superpose.types import Distribution, Mixture, Sampling


@dataclass(frozen=True, slots=True)
class Step:
    """Where in its run a strategy is asked: the step's index from 0, and the run's seed."""

    index: int
    seed: int

    def generator(self) -> Generator:
        """The random numbers of this step's weights, keyed by (seed, step); asked for again, they start anew."""
        return rng.generator(self.seed, self.index, "weights")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a strategy may know of its run and its model before the first step."""

    seed: int
    temperature: float
    T_e: int
    T_total: int
    filters: Sampling
    end_marker: tuple[int, ...]  # `</think>`, the first token of which ends thinking
    end_of_text: frozenset[int]
    encode: Callable[[str], list[int]]  # template text to token ids: control tokens are control tokens
    text: Callable[[int], str]  # a token's text for people
    parameters: int = 0  # of the model; 0 = unknown
    embedding_scale: float = 1.0  # what the model's embedding module multiplies rows by


@dataclass(frozen=True)
class Stop:
    """A strategy's word that thinking is over; `reason` is a short sentence for people."""

    reason: str


Mix = Callable[[Distribution, Step], Mixture | Stop]
Memory = Literal["nothing", "facts", "candidates"]
_FIRST = (  # in lists: the lab's own six and the baseline
    "non_uniform",
    "element_wise_max",
    "inverse_p",
    "dirichlet",
    "nucleus",
    "answer_directly_element_wise_max",
    "sample",
)


class Strategy(BaseModel):
    """Base class: fields are the parameters, the docstring is the help, `mix` is the method.

    Fields carry bounds and descriptions; the JSON Schema of the class draws the form. Class variables say what
    is no parameter: the text of the transition; whether the strategy `thinks` before the answer or rules the whole
    generation (then drawn tokens are its text, and a drawn end of text its end); the `end_probability` of a run
    that names none (None where the method has an end rule of its own); whether weights may leave the convex
    `hull`; whether what is fed depends on the seed; what its state `remembers`, which tells whether a fork can rebuild
    it from a record: "nothing", "facts" (entropies, the drawn token, the likeliest candidates: always recorded) or all
    "candidates" that it reads; the paper; and warnings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    name: ClassVar[str]
    transition: ClassVar[str] = "</think><think>"
    thinks: ClassVar[bool] = True
    end_probability: ClassVar[float | None] = 0.05
    hull: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True  # while thinking
    remembers: ClassVar[Memory | None] = None  # None: "candidates" where `begin` is overridden, else "nothing"
    paper: ClassVar[str | None] = None  # arXiv id
    least_parameters: ClassVar[int] = 0  # below which the paper, or those who repeated it, saw losses
    registry: ClassVar[dict[str, type[Strategy]]] = {}

    def __init_subclass__(cls, *, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not name:
            return  # an intermediate base, not a strategy
        if not cls.__doc__:
            raise TypeError(f"strategy {name!r} needs a docstring: its first line is the help text")
        taken = Strategy.registry.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
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

    def begin(self, run: Setting) -> Mix:
        """A fresh callable for one run; stateful strategies return one that keeps the state."""
        return self.mix

    def memory(self) -> Memory:
        """What the state follows from."""
        if self.remembers is not None:
            return self.remembers
        return "nothing" if type(self).begin is Strategy.begin else "candidates"

    def warnings(self, run: Setting) -> list[str]:
        """What a careful colleague would say of these parameters in this run, one sentence each."""
        said = []
        if 0 < run.parameters < self.least_parameters:
            least, has = self.least_parameters / 1e9, run.parameters / 1e9
            said.append(f"{self.name} was seen to lose accuracy under {least:g}B parameters; this has {has:.2g}B.")
        if abs(run.embedding_scale - 1) > 0.01 and self.name != "sample":
            scale = f"{run.embedding_scale:.4g}"
            said.append(f"This model scales its embeddings by {scale}; mixtures are of the scaled ones.")
        return said

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
            "thinks": cls.thinks,
            "end_probability": cls.end_probability,
            "paper": cls.paper,
            "schema": {
                "type": "object",
                "properties": schema.get("properties", {}),
                "additionalProperties": False,
            },
        }


def load_strategies(path: Path) -> list[str]:
    """The names that a Python file of a user's own registers. Raises BadInput in words.

    The file is run as it is, so it is only ever one that the user named on the command line.
    """
    strategies()
    before = set(Strategy.registry)
    found = importlib.util.spec_from_file_location(f"strategies_of_{path.stem}", path)
    if found is None or found.loader is None or not path.is_file():
        raise BadInput("strategies", f"--strategies takes a Python file; got {clip(str(path))!r}")
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise BadInput("strategies", f"{path.name} raised {type(error).__name__}: {error}") from error
    added = sorted(set(Strategy.registry) - before)
    if not added:
        raise BadInput("strategies", f"{path.name} registers no strategy: subclass Strategy with name=…")
    return added


def strategies() -> dict[str, type[Strategy]]:
    """Every registered strategy by name; the built-in ones are found by listing their folder."""
    package = importlib.import_module("superpose.strategies")
    for module in pkgutil.iter_modules(package.__path__, "superpose.strategies."):
        importlib.import_module(module.name)
    first = [name for name in _FIRST if name in Strategy.registry]
    return {name: Strategy.registry[name] for name in [*first, *sorted(set(Strategy.registry) - set(first))]}


def make_strategy(value: object) -> Strategy:
    """The strategy that a name, a `{"name": …, parameters}` object or a Strategy stands for.

    Raises BadInput that names the parameter, its value and what is allowed.
    """
    if isinstance(value, Strategy):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise BadInput("strategy", 'strategy must be a name or an object such as {"name": "non_uniform", "k": 5}')
    known = strategies()
    name = value["name"]
    if name not in known:
        raise BadInput("strategy", f"unknown strategy {clip(name)!r}; allowed: {', '.join(known)}")
    cls = known[name]
    parameters = {key: given for key, given in value.items() if key != "name"}
    for key in parameters:
        if key not in cls.model_fields:
            allowed = ", ".join(cls.describe()["schema"]["properties"]) or "none"
            raise BadInput(f"strategy.{clip(key)}", f"{name} has no parameter {clip(key)!r}; allowed: {allowed}")
    try:
        return cls(**parameters)
    except ValidationError as error:
        raise from_validation(error, "strategy") from error
