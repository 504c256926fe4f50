"""The tokenizer that a GGUF's metadata describes, id for id that of llama.cpp.

Two corners differ, both towards the model's own tokenizer: letters younger than llama.cpp's Unicode tables (15),
and non-ASCII spaces after those control tokens of Phi-3 that take up spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from superpose.engine import UnsupportedModel
from superpose.engines.torch_engine_tokenizer import ENDS

# How llama.cpp cuts text before merging (facts from its src/llama-vocab.cpp): patterns applied one after the
# other, each to the pieces that the one before it left. `tokenizer.ggml.pre` is one of the names.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIX = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACE
_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACE
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{L}&&[^a-z]]", r"[\p{L}&&[^A-Z]]"
_FIRST, _SECOND = f"{_LEAD}{_UPPER}*{_LOWER}+", f"{_LEAD}{_UPPER}+{_LOWER}*"
_EAST = r"[[\u0800-\u9FA5\uAC00-\uD7FF]&&[^\s]]+"
_THREES = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 glm4 glm5"
_CUTS = {
    "default": (r"[\p{P}$+<=>^~|]+", _WORDS, r"\p{N}+", "[0-9][0-9][0-9]"),
    "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum": (_WORDS,),
    "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2": (r"\p{N}", _WORDS),
    "falcon": (r"[\p{P}$+<=>^~|`]+", _WORDS, "[0-9][0-9][0-9]"),
    f"{_THREES} dbrx smaug-bpe chatglm-bpe": (rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}{_TAIL}",),
    "qwen2 stablelm2 deepseek-r1-qwen kormo megrez hunyuan solar-open grok-2": (
        rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}{_TAIL}",
    ),
    "qwen35": (rf"{_SUFFIX}|{_LEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACE}",),
    "tekken": (rf"{_FIRST}|{_SECOND}|\p{{N}}{_SLASH}",),
    "gpt-4o llama4 kanana2": (rf"{_FIRST}{_SUFFIX}?|{_SECOND}{_SUFFIX}?|\p{{N}}{{1,3}}{_SLASH}",),
    "seed-coder": (rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACE}",),
    "bailingmoe bailingmoe2 llada-moe": (
        rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
    "minicpm5": (r"\p{N}{1,3}", rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}+{_TAIL}"),
    "bloom poro-chat gpt3-finnish": (r" ?[^(\s|.,!?…。，、।۔،)]+",),
    "viking": (r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"),
    "deepseek-llm": (
        r"[\r\n]",
        # The cased letters that its authors' list names, which newer ones are not in.
        r"\s?[[\p{Lu}\p{Ll}\p{Lt}]&&[^\u0560-\u0588\u10C7-\u10FF\u1C80-\u1C8A\u2D00-\u2D2D\uA790-\uAB68"
        r"\x{10570}-\x{105BC}\x{10D50}-\x{10D85}\x{16E40}-\x{16E7F}\x{1D400}-\x{1DF2A}]]+",
        r"\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3001-\u3002]+",
        r"\s+$",
        _EAST,
        r"\p{N}+",
    ),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST, r"\p{N}"),
    "deepseek-v3 hunyuan-dense joyai-llm": (
        r"\p{N}{1,3}",
        r"[\u4E00-\u9FA5\u3040-\u30FF]+",
        r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + _SPACE,
    ),
}
_PRE = {name: patterns for names, patterns in _CUTS.items() for name in names.split()}
# Here a piece that is a token as it stands is taken whole, whatever the merges would make of it.
_WHOLE = frozenset(_THREES.split()) | {"tekken", "minicpm5"}

_NORMAL, _UNKNOWN, _CONTROL, _USER, _BYTE = 1, 2, 3, 4, 6  # of tokenizer.ggml.token_type
# Control tokens whatever their type says: many files have them as ordinary ones.
_NAMES = """<|fim_prefix|> <|fim_suffix|> <|fim_middle|> <|fim_pad|> <|fim_repo|> <fim-prefix> <fim-suffix>
<fim-middle> <fim-pad> <fim-repo> <fim_prefix> <fim_suffix> <fim_middle> <fim_pad> <|prefix|> <|suffix|>
<|middle|> <|code_prefix|> <|code_suffix|> <|code_middle|> <｜fim▁begin｜> <｜fim▁hole｜> <｜fim▁end｜>
<PRE> <SUF> <MID> <PAD> <REPO> [PAD] <|repo_name|> <reponame> <|file_sep|>"""
_CONTROLS = ENDS | frozenset(_NAMES.split())


def build_tokenizer(meta: Mapping[str, Any], name: str) -> Tokenizer:
    """The tokenizer of a GGUF with this metadata; `name` is the file's, for messages.

    Raises UnsupportedModel for a kind of tokenizer or pre-tokenizer that is not known exactly.
    """
    kind = meta.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedModel(f"{name} has a tokenizer of the kind {kind!r}; gpt2 and llama can be read")
    tokens = [text or f"[EMPTY_{i}]" for i, text in enumerate(meta.get("tokenizer.ggml.tokens", ()))]
    types = meta.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    vocab = {text: i for i, text in enumerate(tokens)}
    if not len(vocab) == len(tokens) == len(types) > 0:
        raise UnsupportedModel(f"{name} holds no usable vocabulary")
    types = [_CONTROL if text in _CONTROLS else sort for text, sort in zip(tokens, types, strict=True)]
    model = _byte_level(meta, vocab, name) if kind == "gpt2" else _sentencepiece(meta, vocab, types, name)
    # Known by the name, as in llama.cpp: a GGUF does not say which tokens take up the spaces after them.
    strips = re.search("phi-?3", meta.get("general.name", ""), re.IGNORECASE) is not None
    for sorts, special in ((_USER,), False), ((_UNKNOWN, _CONTROL), True):
        names = [text for text, sort in zip(tokens, types, strict=True) if sort in sorts]
        strip = {text: strips and text not in ("<unk>", "<s>", "<|endoftext|>") for text in names}
        add = model.add_special_tokens if special else model.add_tokens
        add([AddedToken(text, special=special, normalized=False, rstrip=strip[text]) for text in names])
    return model


def _byte_level(meta: Mapping[str, Any], vocab: dict[str, int], name: str) -> Tokenizer:
    pre = meta.get("tokenizer.ggml.pre") or "default"
    if pre not in _PRE:
        raise UnsupportedModel(f"{name} needs the pre-tokenizer {pre!r}, which superpose does not know")
    merges = [(m[: (cut := m.find(" ", 1))], m[cut + 1 :]) for m in meta.get("tokenizer.ggml.merges", ())]
    if any(part not in vocab for left, right in merges for part in (left, right, left + right)):
        raise UnsupportedModel(f"{name} holds no usable vocabulary: its merges name tokens that are not in it")
    steps: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _PRE[pre]]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    if absent := [re.escape(char) for char in sorted(pre_tokenizers.ByteLevel.alphabet()) if char not in vocab]:
        # Bytes without a token are left out after merging; left out before it, their neighbours would merge.
        steps.append(pre_tokenizers.Split(Regex("|".join(absent)), "removed"))
    # A merge that is listed twice has its first rank.
    tokenizer = Tokenizer(models.BPE(vocab, list(dict.fromkeys(merges)), ignore_merges=pre in _WHOLE))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(meta: Mapping[str, Any], vocab: dict[str, int], types: Sequence[int], name: str) -> Tokenizer:
    scores = meta.get("tokenizer.ggml.scores", ())
    if len(scores) != len(vocab):
        raise UnsupportedModel(f"{name} holds no usable vocabulary: its tokens have no scores")
    # llama.cpp joins the neighbours that make the token of the best score: merges, ranked by what they make.
    plain = {text: i for text, i in vocab.items() if types[i] not in (_UNKNOWN, _CONTROL, _BYTE)}
    merges = [
        (-scores[i], i, text[:cut], text[cut:])
        for text, i in plain.items()
        for cut in range(1, len(text))
        if text[:cut] in plain and text[cut:] in plain
    ]
    if 2 * len({score for score, *_ in merges}) < len({i for _, i, *_ in merges}):
        raise UnsupportedModel(f"{name} holds no usable vocabulary: its scores do not rank the tokens")
    ranked = [(left, right) for *_, left, right in sorted(merges)]
    unknown = next((text for text, i in vocab.items() if types[i] == _UNKNOWN), None)
    tokenizer = Tokenizer(models.BPE(vocab, ranked, byte_fallback=True, unk_token=unknown))
    spaces = normalizers.Replace(" ", "▁")
    prefixed = [normalizers.Prepend("▁"), spaces]
    prefix = meta.get("tokenizer.ggml.add_space_prefix", True)
    tokenizer.normalizer = normalizers.Sequence(prefixed) if prefix else spaces
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer
