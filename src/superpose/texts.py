"""Tokens as people read them."""

from __future__ import annotations

from superpose.engine import Tokenizer


class TokenTexts(dict[int, str]):
    """The texts of a model's tokens for people, looked up once each; bytes that are no character are named: ⟨E2 80⟩."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> str:
        raw = self._tokenizer.token_bytes(token)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = f"⟨{raw.hex(' ').upper()}⟩"
        self[token] = text
        return text
