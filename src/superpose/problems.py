"""What a user got wrong, as one sentence and the field it concerns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

_RULES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "missing": "is required",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "list_type": "must be a list",
    "string_unicode": "must be whole Unicode characters",
    "int_parsing": "must be a whole number",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be one of {expected}",
}


class BadInput(ValueError):
    """Words that cannot become a run; `field` says where, the message is a sentence for the user."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def from_validation(error: ValidationError, prefix: str = "") -> BadInput:
    """The first complaint of pydantic in this house's words: field, rule, value."""
    return from_errors(error.errors(), prefix)


def from_errors(errors: Sequence[Any], prefix: str = "", skip: int = 0) -> BadInput:
    """The first of pydantic's error dictionaries as a sentence; `skip` parts of its place are left out."""
    first = errors[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadInput):
        return cause
    field = ".".join([*([prefix] if prefix else []), *(str(part) for part in first["loc"][skip:])])
    if isinstance(cause, ValueError):  # a sentence of the value's own type
        return BadInput(field, f"{field}: {cause}")
    return BadInput(field, f"{field or 'the body'} {_rule(first)}")


def _rule(first: Any) -> str:
    if first["type"] == "extra_forbidden":
        return "is not a known field"
    given = "" if first["type"] == "missing" else f"; got {_shown(first['input'])}"
    rule = _RULES.get(first["type"])
    if rule is None:
        return f"is not allowed: {first['msg']}{given}"
    return rule.format(**first.get("ctx", {})) + given


def _shown(value: object) -> str:
    return "null" if value is None else clip(repr(value))


def clip(text: str, length: int = 80) -> str:
    """The text, cut for use inside a sentence, without what controls a terminal."""
    safe = "".join(c if c.isprintable() else "\ufffd" for c in text[: length + 1].encode("utf-8", "replace").decode())
    return safe if len(safe) <= length else safe[: length - 1] + "…"


def first_line(error: Exception) -> str:
    """What kind of error it is, and how its message begins."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def check_text(field: str, text: str) -> str:
    """The text itself. Raises BadInput for lone surrogates, which no tokenizer can encode."""
    for position, character in enumerate(text):
        if 0xD800 <= ord(character) <= 0xDFFF:
            raise BadInput(
                field,
                f"{field} holds a lone surrogate (U+{ord(character):04X}) at position {position}; "
                "only whole Unicode characters are allowed",
            )
    return text
