"""A .gguf file as a folder of the model hub's kind: exact float32 weights and the file's own tokenizer.

transformers reads the weights. The tokenizer is built here from the file's vocabulary, its merges and the name
of its pre-tokenizer, because `AutoTokenizer(gguf_file=…)` loses the pre-tokenizer and so gives other ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from superpose.engine import EngineError, UnsupportedModel

Progress = Callable[[str, float, float], None]  # stage, done, total (total 0 = unknown)

VERSION = 1  # of what a folder holds: raise it when conversion changes, so that older folders are left behind

# How llama.cpp cuts text before merging (facts from its src/llama-vocab.cpp): patterns applied one after another,
# each to the pieces that the one before it left. `tokenizer.ggml.pre` names one such list.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIX = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACE
_PREFIX = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{L}&&[^a-z]]", r"[\p{L}&&[^A-Z]]"
_CASED = rf"{_PREFIX}{_UPPER}*{_LOWER}+{{0}}|{_PREFIX}{_UPPER}+{_LOWER}*{{0}}"
_CUTS = {
    "default": (r"[\p{P}$+<=>^~|]+", _WORDS, r"\p{N}+", "[0-9][0-9][0-9]"),
    "words": (_WORDS,),
    "digits": (r"\p{N}", _WORDS),
    "falcon": (r"[\p{P}$+<=>^~|`]+", _WORDS, "[0-9][0-9][0-9]"),
    "threes": (rf"{_SUFFIX}|{_PREFIX}\p{{L}}+|\p{{N}}{{1,3}}{_TAIL}",),
    "ones": (rf"{_SUFFIX}|{_PREFIX}\p{{L}}+|\p{{N}}{_TAIL}",),
    "marks": (rf"{_SUFFIX}|{_PREFIX}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACE}",),
    "tekken": (_CASED.replace("{0}", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACE,),
    "gpt-4o": (_CASED.replace("{0}", _SUFFIX + "?") + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACE,),
    "seed-coder": (rf"{_SUFFIX}|{_PREFIX}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACE}",),
    "bailingmoe": (
        rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{_PREFIX}\p{{L}}+|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
    "minicpm5": (r"\p{N}{1,3}", rf"{_SUFFIX}|{_PREFIX}\p{{L}}+|\p{{N}}+{_TAIL}"),
    "bloom": (r" ?[^(\s|.,!?…。，、।۔،)]+",),
    "viking": (r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"),
    "deepseek-llm": (
        r"[\r\n]",
        # Cased letters, as far as the script that made this list for DeepSeek knew them.
        r"\s?[[\p{Lu}\p{Ll}\p{Lt}]&&[^\u0560-\u0588\u10C7-\u10FF\u1C80-\u1C8A\u2D00-\u2D2D\uA790-\uAB68"
        r"\x{10570}-\x{105BC}\x{10D50}-\x{10D85}\x{16E40}-\x{16E7F}\x{1D400}-\x{1DF2A}]]+",
        r"\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3001-\u3002]+",
        r"\s+$",
        r"[[\u0800-\u9FA5\uAC00-\uD7FF]&&[^\s]]+",
        r"\p{N}+",
    ),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[[\u0800-\u9FA5\uAC00-\uD7FF]&&[^\s]]+", r"\p{N}"),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        r"[\u4E00-\u9FA5\u3040-\u30FF]+",
        r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + _SPACE,
    ),
}
_NAMES = {
    "default": "default",
    "words": "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum",
    "digits": "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    "falcon": "falcon",
    "threes": "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 dbrx smaug-bpe chatglm-bpe glm4 glm5",
    "ones": "qwen2 stablelm2 deepseek-r1-qwen kormo megrez hunyuan solar-open grok-2",
    "marks": "qwen35",
    "tekken": "tekken",
    "gpt-4o": "gpt-4o llama4 kanana2",
    "seed-coder": "seed-coder",
    "bailingmoe": "bailingmoe bailingmoe2 llada-moe",
    "minicpm5": "minicpm5",
    "bloom": "bloom poro-chat gpt3-finnish",
    "viking": "viking",
    "deepseek-llm": "deepseek-llm",
    "deepseek-coder": "deepseek-coder",
    "deepseek-v3": "deepseek-v3 hunyuan-dense joyai-llm",
}
_PRE = {name: cuts for cuts, names in _NAMES.items() for name in names.split()}
# A piece that is a token as it stands is taken whole, whatever the merges would make of it.
_WHOLE = frozenset(
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 glm4 glm5 tekken minicpm5".split()
)
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # tokenizer.ggml.token_type


def build_tokenizer(meta: Mapping[str, Any], name: str) -> Tokenizer:
    """The tokenizer that a GGUF's metadata describes; equal to llama.cpp's. Raises UnsupportedModel."""
    kind = meta.get("tokenizer.ggml.model")
    tokens = [text or f"[EMPTY_{i}]" for i, text in enumerate(meta.get("tokenizer.ggml.tokens", ()))]
    types = meta.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    vocab = {text: i for i, text in enumerate(tokens)}
    if not tokens or len(vocab) != len(tokens) or len(types) != len(tokens):
        raise UnsupportedModel(f"{name} holds no usable vocabulary")
    if kind == "gpt2":
        tokenizer = _byte_level(meta, vocab, name)
    elif kind == "llama":
        scores = meta.get("tokenizer.ggml.scores") or []
        if len(scores) != len(tokens):
            raise UnsupportedModel(f"{name} holds no usable vocabulary: its tokens have no scores")
        tokenizer = _sentencepiece(vocab, scores, types, bool(meta.get("tokenizer.ggml.add_space_prefix", True)))
    else:
        raise UnsupportedModel(f"{name} has a tokenizer of the kind {kind!r}; gpt2 and llama can be read")
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types) if k == _USER])
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, types) if k in (_CONTROL, _UNKNOWN)]
    )
    return tokenizer


def _byte_level(meta: Mapping[str, Any], vocab: dict[str, int], name: str) -> Tokenizer:
    pre = meta.get("tokenizer.ggml.pre") or "default"
    if pre not in _PRE:
        raise UnsupportedModel(f"{name} needs the pre-tokenizer {pre!r}, which superpose does not know")
    merges = []
    for merge in dict.fromkeys(meta.get("tokenizer.ggml.merges", ())):
        cut = merge.find(" ", 1)
        merges.append((merge[:cut], merge[cut + 1 :]))
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=pre in _WHOLE))
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _CUTS[_PRE[pre]]]
    steps = [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    if absent := [re.escape(char) for char in pre_tokenizers.ByteLevel.alphabet() if char not in vocab]:
        # A byte without a token is dropped after merging: dropping it before would let its neighbours merge.
        steps.append(pre_tokenizers.Split(Regex("|".join(absent)), "removed"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(vocab, scores, types, prefix) -> Tokenizer:
    plain = {t: i for t, i in vocab.items() if types[i] not in (_CONTROL, _UNKNOWN, _BYTE)}
    merges = [
        (-scores[i], i, text[:cut], text[cut:])
        for text, i in plain.items()
        for cut in range(1, len(text))
        if text[:cut] in plain and text[cut:] in plain
    ]
    merges.sort(key=lambda m: m[:2])
    unk=next((t for t,i in vocab.items() if types[i]==_UNKNOWN),None)
    tokenizer = Tokenizer(models.BPE(vocab, [m[2:] for m in merges], byte_fallback=True, unk_token=unk, fuse_unk=True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
