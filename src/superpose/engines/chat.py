"""Chat templates: what they make of messages, and which parts of the text they wrote themselves."""

from __future__ import annotations

import re
from collections.abc import Callable

from superpose.engine import Tokenizer

_SYSTEM, _USER = "\ue000s\ue001", "\ue000u\ue001"  # stand for messages; no template and no token holds them

Render = Callable[[list[dict[str, str]]], str]  # messages to text, with what begins the answer at its end


class ChatTemplate:
    """A model's chat template; `render` runs it and raises what it likes."""

    def __init__(self, render: Render) -> None:
        self._render = render

    def text(self, system: str, user: str) -> str:
        """What the template makes of the messages; an empty `system` sends none. Raises ValueError when refused."""
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": user})
        no_system = "the chat template of this model takes no system prompt: leave it empty"
        try:
            text = self._render(messages)
        except Exception as refusal:  # the template is a program of the model's makers
            if system:
                self.text("", user)
                raise ValueError(no_system) from refusal
            raise ValueError(f"the chat template of this model refuses the message: {refusal}") from refusal
        if system.strip() not in text and text == self.text("", user):
            raise ValueError(no_system)
        return text

    def shape(self, system: str) -> str:
        """A rendering with stand-ins for the messages."""
        return self.text(_SYSTEM if system else "", _USER)

    def parts(self, system: str, user: str) -> list[str] | None:
        """The text in parts: the template's, a message, the template's, … None where it rewrote the messages."""
        text = self.text(system, user)
        parts = re.split(f"({_SYSTEM}|{_USER})", self.shape(system))
        trims = (str, str.strip, str.rstrip, str.lstrip)
        for values in ({_SYSTEM: trim(system), _USER: cut(user)} for trim in trims for cut in trims):
            filled = [values.get(part, part) for part in parts]
            if "".join(filled) == text:
                return filled
        return None


def rewritten() -> ValueError:
    """The refusal of messages that name control tokens, by a template that rewrites messages."""
    return ValueError(
        "the chat template of this model rewrites the messages, so that control tokens in them"
        " cannot be kept as plain text: leave them out"
    )


def checked(text: str) -> str:
    """The same text. Raises ValueError where it holds half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"the text holds a lone surrogate (U+{code:04X}) at position {error.start}") from error
    return text


def marker(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of `</think>`; none where the vocabulary cannot write it and would put its unknown token."""
    ids = tokenizer.encode_template("</think>")
    return tuple(ids) if b"".join(map(tokenizer.token_bytes, ids)) == b"</think>" else ()
