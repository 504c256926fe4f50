"""Chat templates: programs of strangers, run in a sandbox as transformers runs them, with narrower walls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sized
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node, Scope
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from superpose.engine import UnsupportedModel
from superpose.problems import clip

_LONGEST = 1 << 20  # bits of a number, or items of what is repeated


class Renderer:
    """Text of messages by a template, with the words that templates of the model hub expect.

    Raises UnsupportedModel for a template that cannot be read.
    """

    def __init__(self, template: str, special: Mapping[str, Any]) -> None:
        world = _World(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
        world.filters["tojson"] = _to_json
        world.globals |= {"raise_exception": _refuse, "strftime_now": _now, "dict": _Dict(), "namespace": _Namespace}
        try:
            self._template = world.from_string(template)
        except jinja2.TemplateError as error:
            raise UnsupportedModel(f"the chat template of this model cannot be read: {error}") from error
        self._special = special

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """The text, with what begins the answer at its end. Raises whatever the template does."""
        # None, as in transformers: templates ask whether these are none, which what is not there is not.
        nothing = {"tools": None, "documents": None}
        return self._template.render(messages=messages, add_generation_prompt=True, **nothing, **self._special)


class _World(ImmutableSandboxedEnvironment):
    """A sandbox in which no product or power is larger than any template needs, nor computed while one is read.

    What else may take long, such as loops in loops, is not looked after.
    """

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """The product or power."""
        if _size(operator, left, right) > _LONGEST:
            raise jinja2.TemplateError(f"it computes {_told(left)} {operator} {_told(right)}")
        return super().call_binop(context, operator, left, right)


def _size(operator: str, left: Any, right: Any) -> int:
    """Bits that a whole number has at most, or items of what is repeated; 0 of what cannot be large."""
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * max(1, right) if operator == "**" else left.bit_length() + right.bit_length()
    for items, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(items, Sized):
            return len(items) * max(0, times)
    return 0


def _told(value: Any) -> str:
    long = isinstance(value, int) and value.bit_length() > 64  # Python writes no number of thousands of digits
    return f"a number of {value.bit_length()} bits" if long else clip(repr(value))


class _Dict:
    """`dict` of a template: it makes dictionaries, and shows nothing of the type."""

    def __call__(self, *given: Any, **named: Any) -> dict[Any, Any]:
        return dict(*given, **named)

    def fromkeys(self, *given: Any) -> dict[Any, Any]:
        """A dictionary of these keys."""
        return dict.fromkeys(*given)


class _Namespace(Namespace):
    """`namespace` of a template, without the attributes by which Python is reached; as transformers has it."""

    def __init__(self, /, *given: Any, **named: Any) -> None:
        super().__init__()
        for name, value in dict(*given, **named).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.TemplateError(f"it sets {clip(str(name))}")
        super().__setitem__(name, value)


class _Generation(Extension):
    """`{% generation %}` marks what the model says, which matters in training only."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> Node:
        """What stands inside; what it sets does not outlive it, as in transformers."""
        line = next(parser.stream).lineno
        return Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
