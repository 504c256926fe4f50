"""Prompts of .gguf files: text to tokens as transformers does it, and chat templates of strangers."""

import pytest

from tests.engine.tiny_gguf import TEMPLATE, TOKENS, TYPES, metadata, tiny, weights, write

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from superpose.engines.llamacpp import LlamaEngine  # noqa: E402
from superpose.engines.llamacpp_file import GgufFile  # noqa: E402
from superpose.engines.llamacpp_tokenizer import LlamaTokenizer  # noqa: E402


def test_every_end_of_text_counts_and_nothing_is_added_to_a_prompt(tmp_path):
    path = tiny(tmp_path / "tiny.gguf", **{"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True})
    tokenizer = LlamaTokenizer(path, TEMPLATE)
    assert tokenizer.eog_ids == {2, 3}
    assert LlamaEngine(GgufFile(path), "tiny").info.eog_ids == {2, 3}
    ids = tokenizer.chat("", "hi").token_ids
    assert (ids[0], ids.count(1), ids.count(2)) == (1, 1, 0)  # the template's own <s>
    assert not {1, 2} & set(tokenizer.encode("hi") + tokenizer.encode_template("hi"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokenizer.ggml.pre": "jina-v2-de"}, [b"</s>", b" ", b"x", b"<mask>"]),
        ({"general.name": "phi-3"}, [b"</s>", b"x", b" ", b"<mask>"]),
        ({}, [b"</s>", b" ", b"x", b" ", b"<mask>"]),
    ],
    ids=str,
)
def test_spaces_that_control_tokens_take_up_are_taken_up_beside_typed_ones_too(tmp_path, changes, told):
    template = "{% for m in messages %}<s> {{ m.content }} </s> x <mask>{% endfor %}"
    names = {"tokenizer.ggml.tokens": [*TOKENS[:3], "<mask>", *TOKENS[4:-1], "<|endoftext|>"]}
    kinds = {"tokenizer.ggml.token_type": [*TYPES[:-1], 3]}
    tokenizer = LlamaTokenizer(tiny(tmp_path / "tiny.gguf", **names, **kinds, **changes), template)

    def pieces(user):
        return [tokenizer.token_bytes(token) for token in tokenizer.chat("", user).token_ids]

    assert pieces("ab")[-len(told) :] == told  # llama.cpp's own
    assert pieces("a</s>b")[-len(told) :] == told
    assert pieces("a</s>b")[:2] == pieces("ab")[:2] == [b"<s>", b" a"]


def test_a_chat_template_that_would_freeze_the_process_is_refused_in_words(tmp_path):
    tokenizer = LlamaTokenizer(tiny(tmp_path / "tiny.gguf"), "{{ 9**(9**9) }}")
    with pytest.raises(ValueError, match="it computes 9"):
        tokenizer.chat("", "hi")


def test_template_text_for_sentencepiece_goes_on_without_a_space_of_its_own(tmp_path):
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "▁ab"]
    changes = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": None, "tokenizer.ggml.merges": None,
        "tokenizer.ggml.eot_token_id": None, "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * 6],
        "tokenizer.ggml.scores": [*[0.0] * 259, *(-1.0 - i for i in range(6))],
    }  # fmt: skip
    path = write(tmp_path / "tiny.gguf", metadata() | changes, weights(len(names)))
    tokenizer = LlamaTokenizer(path, TEMPLATE)

    def text(ids):
        return b"".join(map(tokenizer.token_bytes, ids)).decode()

    assert text(tokenizer.encode("ab")) == " ab"  # as every text of the model's training began
    for template_text in ("ab", " ab", "ab</s>", "</think><think>"):
        assert text(tokenizer.encode_template(template_text)).lstrip(" ") == template_text.lstrip(" ")
        assert text(tokenizer.encode_template(template_text)).startswith(" ") == template_text.startswith(" ")
