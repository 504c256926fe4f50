"""A hub model's own fast tokenizer, with which the text of users never becomes control tokens."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer

from superpose.engine import Prompt, UnsupportedModel
from superpose.engines.chat import ChatTemplate, checked, rewritten
from superpose.engines.template import Renderer

# Control tokens that end a text, whatever a model's files say of them: llama.cpp's list.
_NAMES = """<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|>
<|eom_id|> </s> <eos> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <turn|> [e~[
<｜end▁of▁sentence｜>"""
ENDS = frozenset(_NAMES.split())

_MARK = "\ufdd0"  # a noncharacter, which text has no use for

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
# The letters of byte-level vocabularies (GPT-2): printable Latin-1 is itself, the others follow from U+0100.
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}

Span = tuple[int, int, int]  # a control token in a text: start, end, id


class HubTokenizer:
    """The `Tokenizer` of superpose.engine over one of transformers; several threads may use it at once."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub  # not what tokenises: that is shared state, which calls of it change
        self._template = ChatTemplate(Renderer(hub.get_chat_template(), hub.special_tokens_map))
        self._state: str = hub.backend_tokenizer.to_str()
        self._whole = self._copy()
        self._plain = self._copy()
        self._plain.encode_special_tokens = True
        self._added: dict[int, AddedToken] = self._whole.get_added_tokens_decoder()
        self._controls = frozenset(i for i, token in self._added.items() if token.special)
        self._unknown: int | None = hub.unk_token_id
        self._byte_level = "ByteLevel(" in f"{self._whole.pre_tokenizer}{self._whole.decoder}"
        self._pieces: dict[int, bytes] = {}

    def _copy(self) -> Tokenizer:
        tokenizer: Tokenizer = Tokenizer.from_str(self._state)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def eog_ids(self) -> frozenset[int]:
        """Ids that end a text: the tokenizer's own end token, and control tokens that are known to."""
        ends = {i for i in self._controls if self._added[i].content in ENDS}
        if any(self._added[i].content == "<|return|>" for i in ends):  # Harmony: <|end|> only ends a part
            ends = {i for i in ends if self._added[i].content != "<|end|>"}
        return frozenset(ends | {self._hub.eos_token_id} - {None})

    def encode(self, text: str) -> list[int]:
        """Token ids of a user's text, in which control tokens stay plain text; no BOS.

        Raises ValueError for lone surrogates.
        """
        ids: list[int] = self._plain.encode(checked(text), add_special_tokens=False).ids
        return self._without_controls(ids)

    def encode_template(self, text: str) -> list[int]:
        """Token ids of template text, in which control tokens are parsed; nothing is added.

        SentencePiece begins a text with a space of its own. Template text goes on from what stands before it, so
        that space is left out. Raises ValueError for lone surrogates.
        """
        ids: list[int] = self._whole.encode(checked(text), add_special_tokens=False).ids
        if ids and not text.startswith(" ") and self.token_bytes(ids[0]).startswith(b" "):
            before = self._whole.encode("\n", add_special_tokens=False).ids
            both = self._whole.encode("\n" + text, add_special_tokens=False).ids
            if both[: len(before)] == before:
                return both[len(before) :]
        return ids

    def chat(self, system: str, user: str) -> Prompt:
        """The prompt that the model's chat template makes; an empty `system` sends no system message.

        Ids are those of transformers' `apply_chat_template(…, tokenize=True)`, except that control tokens in
        the messages stay plain text. Raises ValueError with a sentence when the template refuses the messages
        or rewrites them so that such tokens cannot be told from its own.
        """
        text = self._template.text(checked(system), checked(user))
        encoding = self._whole.encode(text, add_special_tokens=False)
        parts = self._template.parts(system, user)
        found = self._controls_in(text, encoding)
        if parts is None:
            own = self._controls_in(self._template.shape(system))
            messages = system + user
            if [i for *_, i in own] != [i for *_, i in found] or any(
                self._added[i].content in messages for i in self._controls
            ):
                raise rewritten()
        elif (own := self._own_controls(parts)) != found:
            return Prompt(text, self._encode_around(text, own))
        return Prompt(text, encoding.ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; a control token's are its name, an unused id's none."""
        if token not in self._pieces:
            self._pieces[token] = self._piece(token)
        return self._pieces[token]

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token."""
        return token in self._controls

    def _piece(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].content.encode()
        text = self._whole.id_to_token(token)
        if text is None:  # models pad their vocabulary
            return b""
        if self._byte_level and all(char in _BYTES for char in text):
            return bytes(_BYTES[char] for char in text)
        if not self._byte_level and re.fullmatch("<0x[0-9A-F]{2}>", text):
            return bytes([int(text[3:5], 16)])
        return text.replace("▁", " ").encode()

    def _controls_in(self, text: str, encoding: Encoding | None = None) -> list[Span]:
        """The control tokens of template text, without the spaces that some of them take up beside them."""
        encoding = encoding or self._whole.encode(text, add_special_tokens=False)
        spans = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._controls:
                name = self._added[token].content
                at = text.find(name, start, end)
                if at >= 0:
                    spans.append((at, at + len(name), token))
                elif token != self._unknown:
                    spans.append((start, end, token))
        return spans

    def _own_controls(self, parts: list[str]) -> list[Span]:
        """The control tokens in a rendered text that the template wrote, which are in every other part of it."""
        own, position = [], 0
        for i, part in enumerate(parts):
            if i % 2 == 0:
                own += [(position + start, position + end, token) for start, end, token in self._controls_in(part)]
            position += len(part)
        return own

    def _encode_around(self, text: str, own: list[Span]) -> list[int]:
        """Token ids of a rendered text in which only the control tokens of the template are parsed."""
        if _MARK in text:
            raise ValueError("a message that names control tokens cannot also hold the noncharacter U+FDD0")
        pieces, position = [], 0
        for start, end, token in own:
            pieces += [text[position:start], f"{_MARK}{token}{_MARK}"]
            position = end
        encoding = self._marked.encode("".join([*pieces, text[position:]]), add_special_tokens=False)
        named = [piece.split(_MARK)[1:2] for piece in encoding.tokens]  # with the spaces that a token takes up
        self._without_controls([i for i, name in zip(encoding.ids, named, strict=True) if not name])
        return [int(name[0]) if name else i for i, name in zip(encoding.ids, named, strict=True)]

    @cached_property
    def _marked(self) -> Tokenizer:
        """As for users' text, with marks for control tokens: one pass keeps what depends on their place."""
        tokenizer = self._copy()
        tokenizer.encode_special_tokens = True
        controls = [(i, self._added[i]) for i in sorted(self._controls)]
        tokenizer.add_tokens(
            [
                AddedToken(f"{_MARK}{i}{_MARK}", lstrip=token.lstrip, rstrip=token.rstrip, normalized=False)
                for i, token in controls
            ]
        )
        return tokenizer

    def _without_controls(self, ids: list[int]) -> list[int]:
        """The same ids. Raises ValueError where a vocabulary spells control tokens from plain text."""
        if leaked := self._controls.intersection(ids) - {self._unknown}:
            name = self._added[min(leaked)].content
            raise ValueError(f"the tokenizer of this model cannot write {name} as plain text")
        return ids


def load_tokenizer(folder: Path) -> HubTokenizer:
    """The tokenizer of a model folder. Raises UnsupportedModel: no fast tokenizer, or no chat template."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # AutoTokenizer may pick a class that rebuilds the pre-tokenizer, and loses the digits of SmolLM2 with it.
    kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    try:
        hub = kind.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise UnsupportedModel(f"{folder} holds no tokenizer that transformers can load") from error
    if not getattr(hub, "backend_tokenizer", None):
        raise UnsupportedModel(f"{folder} holds no fast tokenizer, so its tokens cannot be read exactly")
    try:
        hub.get_chat_template()
    except ValueError as error:
        raise UnsupportedModel("this model has no chat template: choose an instruct or chat model") from error
    return HubTokenizer(hub)
