"""The tokenizer of a .gguf file: llama.cpp's own, with which the text of users never becomes control tokens."""

from __future__ import annotations

import ctypes
import re
from functools import cached_property
from pathlib import Path

import llama_cpp

from superpose.engine import Prompt
from superpose.engines.chat import ChatTemplate, checked, rewritten
from superpose.engines.llamacpp_library import Model
from superpose.engines.template import Renderer

_SPECIAL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_SPACES = " \t\n\v\f\r"  # that some control tokens take up beside them


class LlamaTokenizer:
    """The `Tokenizer` of superpose.engine over a file's vocabulary; several threads may use it at once.

    It has the vocabulary for itself, so that it outlives the engine's weights.
    """

    def __init__(self, path: Path, template: str) -> None:
        self._model = Model(path, vocabulary=True)
        self._vocab = self._model.vocabulary
        self._count = self._model.vocab
        attributes = [int(llama_cpp.llama_vocab_get_attr(self._vocab, i)) for i in range(self._count)]
        self._controls = {i: attribute for i, attribute in enumerate(attributes) if attribute & _SPECIAL}
        texts = {i: llama_cpp.llama_vocab_get_text(self._vocab, i).decode(errors="replace") for i in self._controls}
        self._names = {text: i for i, text in texts.items() if text}
        self._unknown = next((i for i, kind in self._controls.items() if kind & llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN), -1)
        self._pieces: dict[int, bytes] = {}
        special = {f"{kind}_token": self._name(kind) for kind in ("bos", "eos", "pad")}
        self._template = ChatTemplate(Renderer(template, special))

    @cached_property
    def eog_ids(self) -> frozenset[int]:
        """Ids that end a text, all that llama.cpp knows of."""
        return frozenset(i for i in range(self._count) if llama_cpp.llama_vocab_is_eog(self._vocab, i))

    def encode(self, text: str) -> list[int]:
        """Token ids of a user's text, in which control tokens stay plain text; no BOS.

        Raises ValueError for lone surrogates.
        """
        ids = self._tokens(checked(text), parse=False)
        if leaked := (self._controls.keys() & ids) - {self._unknown}:
            name = self.token_bytes(min(leaked)).decode(errors="replace")
            raise ValueError(f"the tokenizer of this model cannot write {name} as plain text")
        return ids

    def encode_template(self, text: str) -> list[int]:
        """Token ids of template text, in which control tokens are parsed; nothing is added.

        SentencePiece begins a text with a space of its own. Template text goes on from what stands before it, so
        that space is left out. Raises ValueError for lone surrogates.
        """
        ids = self._tokens(checked(text), parse=True)
        if ids and not text.startswith(" ") and self.token_bytes(ids[0]).startswith(b" "):
            before, both = self._tokens("\n", parse=True), self._tokens("\n" + text, parse=True)
            if both[: len(before)] == before:
                return both[len(before) :]
        return ids

    def chat(self, system: str, user: str) -> Prompt:
        """The prompt that the model's chat template makes; an empty `system` sends no system message.

        Ids are llama.cpp's of the rendered text, except that control tokens in the messages stay plain text. Raises
        ValueError with a sentence when the template refuses the messages or rewrites them so that such tokens cannot
        be told from its own.
        """
        text = self._template.text(checked(system), checked(user))
        if not any(name in system + user for name in self._names):
            return Prompt(text, self._tokens(text, parse=True))
        parts = self._template.parts(system, user)
        if parts is None:
            raise rewritten()
        # The text between the template's control tokens is cut nowhere else: what is one piece stays one.
        pieces = [""]
        for i, part in enumerate(parts):
            first, *rest = [part] if i % 2 or not self._names else self._named.split(part)
            pieces[-1] += first
            pieces += rest
        return Prompt(text, self._around(pieces))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; a control token's are its name."""
        if token not in self._pieces:
            self._pieces[token] = self._piece(token)
        return self._pieces[token]

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token."""
        return token in self._controls

    @cached_property
    def _named(self) -> re.Pattern[str]:
        """The names of control tokens, the longest first, as llama.cpp looks for them."""
        names = sorted(self._names, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def _around(self, pieces: list[str]) -> list[int]:
        """Token ids of plain text and names of control tokens in turn."""
        ids: list[int] = []
        for i, piece in enumerate(pieces):
            if i % 2:
                ids.append(self._names[piece])
                continue
            before, after = pieces[max(0, i - 1) : i], pieces[i + 1 : i + 2]
            if before and self._takes(before[0], llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP):
                piece = piece.lstrip(_SPACES)
            if after and self._takes(after[0], llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP):
                piece = piece.rstrip(_SPACES)
            ids += self.encode(piece)
        return ids

    def _takes(self, name: str, side: int) -> bool:
        return bool(self._controls[self._names[name]] & side)

    def _tokens(self, text: str, parse: bool) -> list[int]:
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 2))()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), room, len(room), False, parse)
        if count < 0:  # more tokens than bytes
            room = (llama_cpp.llama_token * -count)()
            count = llama_cpp.llama_tokenize(self._vocab, data, len(data), room, len(room), False, parse)
        return list(room[:count])

    def _piece(self, token: int) -> bytes:
        if not 0 <= token < self._count:
            return b""
        size = 32
        while True:
            room = ctypes.create_string_buffer(size)
            count = llama_cpp.llama_token_to_piece(self._vocab, token, room, size, 0, True)
            if count >= 0:
                return room.raw[:count]
            size = -count

    def _name(self, kind: str) -> str:
        token = getattr(llama_cpp, f"llama_vocab_{kind}")(self._vocab)
        return self.token_bytes(token).decode(errors="replace")
