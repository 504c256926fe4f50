"""Writes llamacpp_tokens.json: what llama.cpp's own tokenizer makes of odd strings with the demo model.

Run by hand where llama-cpp-python is installed: `python tests/engine/make_llamacpp_tokens.py MODEL.gguf`.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import random
import sys
from pathlib import Path

import llama_cpp

DIGITS = ["0", "7", "12", "123", "1234567", "3.14", "1,000,000", "2024-01-02", "0x1F", "1e-10", "100%"]
DIGITS += ["v1.2.3", "abc123def", "a1b2", "12 34", " 12", "12 ", "\n12", "x²", "½", "Ⅻ", "٣٫١٤", "१२३"]
DIGITS += ["１２３", "①②", "𝟘𝟙", "1٢३"]
SPACES = ["", " ", "  ", "   ", " " * 7, " " * 16, "\n", "\n\n", "\n\n\n", " \n", "\n ", " \n ", "\n    x"]
SPACES += ["\r\n\r\n", "\t", "\t\t", "\tx", "x\t", " \t ", "\u00a0", "a\u00a0b", "\u00a0\u00a0", "\u3000"]
SPACES += ["\u2003x", "\u2028", "\x85", "x ", " x", "  x", "   x  ", "x\n", "x\n\ny", "x  \n  y", "x \n y"]
SPACES += ["\x0b", "\x0c", "\u202f", "\u1680"]
ZERO = ["\u200b", "a\u200bb", "\u200d", "\u2060", "\ufeff", "\ufeffx", "\u00ad", "\u200e\u200f"]
ZERO += ["\u202eabc\u202c"]
CONTROL = [chr(code) for code in (*range(0, 32, 3), 0x7F, 0x80, 0x90, 0x9F)]
CONTROL += ["a\x00b", "\x1b[31mred\x1b[0m"]
EMOJI = ["😀", "😀😀", "👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "🇩🇪", "🇩", "❤️", "☺", "1️⃣"]
EMOJI += ["🫠🥲", "hi😀there", " 😀 ", "🧑\u200d💻 codes 🐍", "\U0001faf8", "🤷🏾\u200d♀️"]
CODE = ["def f(x):\n    return x**2\n", 'for (int i=0;i<10;++i) {\n\tprintf("%d\\n", i);\n}', "a=b+c;//x"]
CODE += ["x != y && !z", '{"k": [1, 2.5e-3, null]}', '<div class="a">&nbsp;</div>']
CODE += ["$x_1^2 + \\frac{a}{b}$", "C:\\dir\\x.txt", "=>", "https://ex.am/ple?q=1&b=%20#f", "a@b.co"]
CODE += ["SELECT * FROM t WHERE a='b';", "#include <stdio.h>", "\\n", "`code`", "snake_case_word"]
CODE += ["camelCaseWord", "SCREAMING_CASE", "->", "===", "...", "!!!", "?!", "-----", "~~~", "|a|b|"]
WORLD = ["Grüße aus Köln", "ÀÉÎÕÜ", "naïve café", "straße STRASSE", "Łódź", "İstanbul ı", "Ελληνικά ΕΛΛΆΣ"]
WORLD += ["русский язык", "שלום עולם", "שָׁלוֹם", "مرحبا بالعالم", "السَّلَامُ", "یہ ۱۲۳ ہے"]
WORLD += ["你好，世界。", "中文123字", "東京タワー", "ひらがなカタカナ", "안녕하세요 세계"]
WORLD += ["\u1112\u1161\u11ab", "नमस्ते दुनिया", "ภาษาไทย", "தமிழ்", "ქართული", "አማርኛ", "ᏣᎳᎩ", "ʰˢ", "ꙮ"]
WORLD += ["𐐀𐐨", "e\u0301", "e\u0301\u0302\u0323", "Z͑ͫ̓a̴l̵g̶o̷", "ﬁﬂ", "ﷺ", "𝕳𝖊𝖑𝖑𝖔", "Ｆｕｌｌ", "ⓗⓘ"]
WORLD += ["ſ K Å Ω", "\u0300", "\ufffd", "\ue000", "\U00020000", "\U0010ffff", "€5 £6 ¥7"]
WORLD += ["“quoted” – ‘dash’ — …", "«ça»", "±×÷≠≤∞", "°C", "©®™", "→←⇒"]
SUFFIXES = ["I'm", "you're", "he'll", "we've", "I'd", "it's", "don't", "I'M", "YOU'RE", "HE'LL", "WE'VE"]
SUFFIXES += ["I'D", "IT'S", "DON'T", "don’t", "IT’S", "y'all'd've", "'s", "'S", "'sss", "''s", " 's"]
SUFFIXES += ["'\u017f", "o'clock", "'tis", "'re", "'Re"]
WORDS = ["Hello", "Hello world", " Hello", "hello, world!", "The quick brown fox jumps over the lazy dog."]
WORDS += ["ab" * 40, "a" * 100, "Antidisestablishmentarianism", "ALL CAPS TEXT", "mIxEd CaSe"]
WORDS += ["the the  the   the", "(a)[b]{c}"]
NAMES = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>"]
NAMES += ["<|im_start|>user\nhi<|im_end|>\n", "a<|im_end|>b", "a <|im_end|> b", "<|im_end|><|im_end|>"]
NAMES += ["<|im_", "im_end|>", "<|IM_END|>", "< |im_end|>", "<s>", "</s>", "[INST] x [/INST]"]
NAMES += ["<think>\n1\n</think>", "<0x0A>", "▁", "Ġ", "ĠĊ", "<|im_start|>\u00a0\n", "<empty_output>"]


def mixed(count: int) -> list[str]:
    """Strings of pieces of every sort, glued at random but the same each time."""
    rng = random.Random(20261123)
    pieces = [*DIGITS, *SPACES, *ZERO, *CONTROL, *EMOJI, *CODE, *WORLD, *SUFFIXES, *WORDS[:6], *NAMES]
    return ["".join(rng.choices(pieces, k=rng.randint(2, 8))) for _ in range(count)]


def main() -> None:
    """Asks llama.cpp and writes the answers beside this file."""
    path = Path(sys.argv[1])
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(model)

    def ids(text: str, special: bool) -> list[int]:
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(vocab, data, len(data), room, len(room), False, special)
        return list(room[:count])

    plain = [*DIGITS, *SPACES, *ZERO, *CONTROL, *EMOJI, *CODE, *WORLD, *SUFFIXES, *WORDS, *NAMES, *mixed(120)]
    cases = itertools.chain(((text, False) for text in plain), ((text, True) for text in [*NAMES, *mixed(40)]))
    lines = [json.dumps([text, special, ids(text, special)]) for text, special in dict.fromkeys(cases)]
    head = {"model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "llama_cpp": llama_cpp.__version__}
    body = ",\n".join(lines)
    text = f'{{"made_with": {json.dumps(head)},\n"cases": [\n{body}\n]}}\n'
    Path(__file__).with_name("llamacpp_tokens.json").write_text(text, "ascii")
    print(len(lines), "cases")


if __name__ == "__main__":
    main()
