"""A .gguf file becomes a hub folder: the same numbers, its own tokenizer, once, or one clear sentence."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from superpose.engine import EngineError, OutOfMemory, UnsupportedModel
from superpose.engines import torch_engine_gguf
from superpose.engines.torch_engine_gguf import _KNOWN, to_folder
from superpose.engines.torch_engine_gguf_vocab import _CUTS, build_tokenizer
from superpose.engines.torch_engine_tokenizer import load_tokenizer
from superpose.models import UnknownModel, cache_dir, resolve
from tests.engine.tiny_gguf import GROUPS, HEADS, HIDDEN, TOKENS, WIDTH, metadata, weights
from tests.engine.tiny_gguf import write as write_gguf

ROWS = 300


@pytest.fixture
def write(tmp_path):
    """`write(arch, tensors, kind, **metadata)`: a tiny .gguf with matrices of that kind; None takes a key away."""

    def make(arch="llama", tensors=None, kind=Kind.Q8_0, **changes):
        path = tmp_path / "tiny.gguf"
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        return write_gguf(path, metadata(arch) | changes, weights(ROWS) if tensors is None else tensors, kind, arch)

    return make


def tensor(folder, name):
    with safe_open(folder / "model.safetensors", "np") as file:
        return file.get_tensor(name)


def unpermuted(values, heads):
    """llama.cpp pairs neighbouring rows for rope, transformers a row with the one half a head further."""
    return values.reshape(heads, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def test_a_folder_holds_exactly_the_numbers_of_the_file(write, tmp_path):
    path, stages = write(), []
    folder = to_folder(path, tmp_path / "cache", lambda *stage: stages.append(stage))
    raw = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    block = "model.layers.0"
    same = {
        "model.embed_tokens.weight": raw["token_embd.weight"], "lm_head.weight": raw["output.weight"],
        f"{block}.input_layernorm.weight": raw["blk.0.attn_norm.weight"],
        f"{block}.self_attn.q_proj.weight": unpermuted(raw["blk.0.attn_q.weight"], HEADS),
        f"{block}.self_attn.k_proj.weight": unpermuted(raw["blk.0.attn_k.weight"], GROUPS),
        f"{block}.self_attn.v_proj.weight": raw["blk.0.attn_v.weight"],
        f"{block}.mlp.down_proj.weight": raw["blk.0.ffn_down.weight"],
    }  # fmt: skip
    for name, values in same.items():
        found = tensor(folder, name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values, err_msg=name)
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == ROWS > len(TOKENS)
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 50000.0}
    assert "quantization_config" not in config
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 3]
    assert stages[0] == ("reading", 0, 0) and ("dequantising", 11, 12) in stages
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.num_parameters() == sum(values.size for values in raw.values())


GEMMA = dict(head_dim=32, query_pre_attn_scalar=32, sliding_window=4)
GEMMA_KEYS = {"attention__key_length": 32, "attention__sliding_window": 4, "rope__dimension_count": 32}
LAYER_NORM = {"attention__layer_norm_rms_epsilon": None, "attention__layer_norm_epsilon": 1e-6}
FAMILIES = {
    "llama": (dict(rms_norm_eps=1e-6), {}),
    "qwen2": (dict(rms_norm_eps=1e-6), {}),
    "qwen3": (dict(rms_norm_eps=1e-6, head_dim=32), {"attention__key_length": 32, "rope__dimension_count": 32}),
    "gemma2": (GEMMA, GEMMA_KEYS),
    "gemma3": (GEMMA, GEMMA_KEYS | {"block_count": 7}),
    "phi3": (dict(rms_norm_eps=1e-6, pad_token_id=None), {}),
    "stablelm": (dict(layer_norm_eps=1e-6, use_qkv_bias=True), LAYER_NORM | {"rope__dimension_count": 4}),
    "starcoder2": (dict(norm_epsilon=1e-6), LAYER_NORM),
    "nemotron": (dict(norm_eps=1e-6, head_dim=16), LAYER_NORM | {"rope__dimension_count": 8}),
}


def as_gguf(model, arch):
    """A model's tensors as llama.cpp's converter writes them."""
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    tensors = {}
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        if arch == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = values.reshape(HEADS if "q_proj" in name else GROUPS, 2, -1, WIDTH).swapaxes(1, 2)
            values = np.ascontiguousarray(values).reshape(weight.shape)
        if arch in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
            values = values + 1
        if name != "lm_head.weight" or not model.config.tie_word_embeddings:
            tensors[names.get_name(name, (".weight", ".bias"))] = values
    return tensors


@pytest.mark.parametrize("arch", _KNOWN)
def test_every_architecture_comes_back_as_the_model_it_was(write, tmp_path, arch):
    options, keys = FAMILIES[arch]
    theta = {"rope_theta": 50000.0, "rope_type": "default"}
    local = {"rope_theta": 10000.0, "rope_type": "default"}
    config = transformers.AutoConfig.for_model(
        _KNOWN[arch][0],
        **dict(hidden_size=WIDTH, intermediate_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=GROUPS),
        **dict(vocab_size=ROWS, num_hidden_layers=keys.get("block_count", 1), max_position_embeddings=128),
        rope_parameters={"full_attention": theta, "sliding_attention": local} if arch == "gemma3" else theta,
        **options,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.2)
    path = write(arch, as_gguf(model, arch), Kind.F32, **{f"{arch}__{key}": value for key, value in keys.items()})
    back = transformers.AutoModelForCausalLM.from_pretrained(to_folder(path, tmp_path), local_files_only=True)
    ids = torch.arange(10, 22)[None]
    with torch.inference_mode():
        torch.testing.assert_close(back(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)


def test_the_tokenizer_is_the_file_s(write, tmp_path):
    tokenizer = load_tokenizer(to_folder(write(), tmp_path))
    assert tokenizer.encode("ab a") == [TOKENS.index("ab"), TOKENS.index("Ġa")]
    assert tokenizer.chat("", "x<s>").text == "<s>user:x<s><|im_end|>"
    assert tokenizer.chat("", "x<s>").token_ids.count(1) == 1
    assert tokenizer.encode("<tool>") == [TOKENS.index("<tool>")]  # a user-defined token is parsed anywhere
    assert tokenizer.eog_ids == {2, 3}
    assert tokenizer.token_bytes(ROWS - 1) == b""


@pytest.mark.parametrize("asked", [True, False])
def test_bos_is_added_where_the_file_says_so_and_never_by_encode(write, tmp_path, asked):
    folder = to_folder(write(tokenizer__ggml__add_bos_token=asked), tmp_path)
    hub = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert (hub("a")["input_ids"][0] == 1) == asked
    assert load_tokenizer(folder).encode("a") == load_tokenizer(folder).encode_template("a") == hub.encode("a")[asked:]


def test_without_a_chat_template_it_is_no_chat_model(write, tmp_path):
    folder = to_folder(write(tokenizer__chat_template=None), tmp_path)
    with pytest.raises(UnsupportedModel, match="no chat template"):
        load_tokenizer(folder)


def test_a_file_is_converted_once(write, tmp_path, monkeypatch):
    path = write()
    folder = to_folder(path, tmp_path)
    monkeypatch.setattr(torch_engine_gguf, "_convert", lambda *_: pytest.fail("converted again"))
    began = time.perf_counter()
    assert to_folder(path, tmp_path) == folder
    assert time.perf_counter() - began < 0.1
    copy = path.with_name("copy.gguf")
    copy.write_bytes(path.read_bytes())
    assert to_folder(copy, tmp_path) == folder  # by its content
    assert [p.name for p in (tmp_path / "gguf").iterdir() if p.is_dir() and p.name != "seen"] == [folder.name]


def test_a_changed_file_is_converted_anew(write, tmp_path):
    first = to_folder(write(), tmp_path)
    second = to_folder(write(llama__rope__freq_base=10000.0), tmp_path)
    assert first != second
    assert json.loads((second / "config.json").read_text())["rope_parameters"]["rope_theta"] == 10000


def test_what_a_killed_process_left_is_cleared_away(write, tmp_path):
    path = write()
    folder = to_folder(path, tmp_path)
    partial = folder.with_suffix(".partial")
    folder.rename(partial)
    (partial / "junk").write_text("x")
    assert to_folder(path, tmp_path) == folder
    assert not partial.exists() and not (folder / "junk").exists()


@pytest.mark.slow
def test_two_processes_may_convert_the_same_file(write, tmp_path):
    path = write()
    code = "import sys; from pathlib import Path; from superpose.engines.torch_engine_gguf import _KNOWN, to_folder\n"
    code += "print(to_folder(Path(sys.argv[1]), Path(sys.argv[2])))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    both = [
        subprocess.Popen([sys.executable, "-c", code, path, tmp_path], stdout=-1, text=True, env=environment)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=120)[0].strip() for process in both]
    assert answers[0] == answers[1] == str(to_folder(path, tmp_path))


def test_rope_of_llama_3_is_recovered_from_its_factors(write, tmp_path):
    parameters = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        rope_parameters=parameters,
        max_position_embeddings=131072,
    )
    scaled = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config).inv_freq.numpy()
    plain = 500000.0 ** -(np.arange(scaled.size) / scaled.size)
    factors = {"rope_freqs.weight": (plain / scaled).astype(np.float32)}
    folder = to_folder(write(tensors=weights(ROWS) | factors, llama__rope__freq_base=500000.0), tmp_path)
    assert json.loads((folder / "config.json").read_text())["rope_parameters"] == parameters
    with pytest.raises(UnsupportedModel, match="positions"):
        to_folder(write(tensors=weights(ROWS) | {"rope_freqs.weight": np.arange(1, 9, dtype=np.float32)}), tmp_path)


def test_biases_are_kept(write, tmp_path):
    rows = {"q": WIDTH, "k": WIDTH // 2, "v": WIDTH // 2, "output": WIDTH}
    biases = {f"blk.0.attn_{name}.bias": np.arange(count, dtype=np.float32) for name, count in rows.items()}
    folder = to_folder(write(tensors=weights(ROWS) | biases), tmp_path)
    expected = unpermuted(biases["blk.0.attn_k.bias"][:, None], GROUPS)[:, 0]
    np.testing.assert_array_equal(tensor(folder, "model.layers.0.self_attn.k_proj.bias"), expected)


def test_linear_scaling_is_kept(write, tmp_path):
    scaling = {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0}
    config = json.loads((to_folder(write(**scaling), tmp_path) / "config.json").read_text())
    assert config["rope_parameters"] == {"rope_type": "linear", "rope_theta": 50000.0, "factor": 4.0}


MORE = weights(ROWS) | {"blk.0.attn_q_norm.weight": np.ones(WIDTH, np.float32)}
LESS = {name: values for name, values in weights(ROWS).items() if "ffn_up" not in name}
NARROW = weights(ROWS) | {"token_embd.weight": np.ones((200, WIDTH), np.float32)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "rwkv7"}, "architecture 'rwkv7'; .*llama, qwen2"),
        ({"tensors": {}}, "no language model"),
        ({"tensors": MORE}, r"llama model: blk\.0\.attn_q_norm\.weight would be left out"),
        ({"tensors": LESS}, r"llama model: it lacks model\.layers\.0\.mlp\.up_proj\.weight"),
        ({"tensors": NARROW}, "no embedding"),
        ({"llama__feed_forward_length": 32}, r"has the shape \(96, 64\), not \(32, 64\)"),
        ({"llama__block_count": None}, "llama model: .*block_count"),
        ({"llama__rope__dimension_count": 8}, "turns 8 of 16 dimensions"),
        ({"llama__rope__scaling__type": "yarn"}, "'yarn'"),
        ({"split__count": 3}, "one part of several"),
        ({"tokenizer__ggml__model": "bert"}, "tokenizer of the kind 'bert'"),
        ({"tokenizer__ggml__model": None}, "tokenizer of the kind None"),
        ({"tokenizer__ggml__pre": "kimi-k2"}, "pre-tokenizer 'kimi-k2'"),
        ({"tokenizer__ggml__tokens": None}, "no usable vocabulary"),
        ({"tokenizer__ggml__tokens": ["a"] * len(TOKENS)}, "no usable vocabulary"),
        ({"tokenizer__ggml__merges": ["x yz"]}, "merges name tokens"),
        ({"tokenizer__ggml__model": "llama"}, "no scores"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_read_exactly_is_refused_in_one_sentence(write, tmp_path, changes, words):
    with pytest.raises(UnsupportedModel, match=words) as refusal:
        to_folder(write(**changes), tmp_path / "cache")
    assert "tiny.gguf" in str(refusal.value) and "\n" not in str(refusal.value)
    assert not list((tmp_path / "cache" / "gguf").glob("*.partial"))


def test_an_unknown_quantisation_is_refused(write, tmp_path, monkeypatch):
    path = write()
    monkeypatch.delitem(gguf.quants._type_traits, Kind.Q8_0)
    with pytest.raises(UnsupportedModel, match="numbers of the type Q8_0 cannot be unpacked"):
        to_folder(path, tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 4, 20, 1000, 20000, -1])
def test_a_file_cut_short_is_refused(write, tmp_path, keep):
    path = write()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnsupportedModel, match=r"tiny\.gguf is (not a GGUF file|broken or not complete)"):
        to_folder(path, tmp_path / "cache")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\3\4" * 100)
    with pytest.raises(UnsupportedModel, match="not a GGUF file"):
        to_folder(tmp_path / "x.gguf", tmp_path)
    with pytest.raises(UnsupportedModel, match="cannot be read: No such file"):
        to_folder(tmp_path / "y.gguf", tmp_path)


def test_a_cache_that_cannot_be_written_is_named(write, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(EngineError, match="cannot be kept in"):
        to_folder(write(), tmp_path / "cache")


# The tokenizer


def pieces(pre, text):
    """How text is cut before merging, with `·` for a space and `↵` for a newline."""
    meta = metadata() | {"tokenizer.ggml.pre": pre}
    cut = build_tokenizer(meta, "x").pre_tokenizer.pre_tokenize_str(text)
    return [piece.replace("Ġ", "·").replace("Ċ", "↵") for piece, _ in cut]


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("default", "ab 1234, it's\n", ["ab", "·", "123", "4", ",", "·it", "'", "s", "↵"]),
        ("gpt-2", "ab 1234, it's IT'S  x", ["ab", "·1234", ",", "·it", "'s", "·IT", "'", "S", "·", "·x"]),
        ("smollm", "ab 1234\n\n x", ["ab", "·", "1", "2", "3", "4", "↵↵", "·x"]),
        ("falcon", "a 1234!", ["a", "·", "123", "4", "!"]),
        ("llama-bpe", "ab 12345 IT'S (x)\n\n", ["ab", "·", "123", "45", "·IT", "'S", "·(", "x", ")↵↵"]),
        ("qwen2", "ab 123 \n  x", ["ab", "·", "1", "2", "3", "·↵", "·", "·x"]),
        ("tekken", "ABCdef aB/\n", ["ABCdef", "·a", "B", "/↵"]),
        ("gpt-4o", "McDonald's 1234", ["Mc", "Donald's", "·", "123", "4"]),
        ("deepseek-llm", "ab 12\nx!", ["ab", "·", "12", "↵", "x", "!"]),
        ("deepseek-coder", "ab 12 x!", ["ab", "·", "1", "2", "·x", "!"]),
        ("deepseek-v3", "ab 1234 x!", ["ab", "·", "123", "4", "·x", "!"]),
        ("bloom", "ab, cd", ["ab", ",", "·cd"]),
    ],
)
def test_pre_tokenizers_cut_as_llama_cpp_does(pre, text, expected):
    assert pieces(pre, text) == expected


@pytest.mark.parametrize("pre", [name for names in _CUTS for name in names.split()])
def test_every_pre_tokenizer_keeps_every_byte_and_is_quick(pre):
    tokenizer = build_tokenizer(metadata() | {"tokenizer.ggml.pre": pre}, "x")
    for text in ("a B 12\t\n ½ 你好 😀 'LL", "😀" * 25000, " " * 100_000, "aB" * 50_000, "'" * 100_000):
        began = time.perf_counter()
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
        assert time.perf_counter() - began < 2


def test_a_byte_without_a_token_parts_its_neighbours():
    tokens = [token for token in TOKENS if token != "b"] + ["aĠ"]
    meta = metadata() | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": ["a Ġ"]}
    tokenizer = build_tokenizer(meta | {"tokenizer.ggml.token_type": [1] * len(tokens)}, "x")
    assert tokenizer.encode("ab ").tokens == ["a", "Ġ"]


def test_names_that_end_a_text_are_control_tokens_whatever_their_type():
    tokenizer = build_tokenizer(metadata() | {"tokenizer.ggml.token_type": [1] * len(TOKENS)}, "x")
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    assert special == {"</s>", "<|im_end|>"}


WORDS = ["▁", "a", "b", "▁a", "ab", "ba", "aa", "▁ab", "aba", "bb", "▁▁", "aab", "▁aba", "bab"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPM = {
    "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *BYTES, *WORDS],
    "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(WORDS)],
    "tokenizer.ggml.scores": [0.0] * 259 + [-float(i * 5 % 14) for i in range(len(WORDS))],
}  # fmt: skip


def joined(text):
    """SentencePiece's BPE by its definition: the best-scored neighbours are joined, the leftmost first."""
    score = dict(zip(WORDS, SPM["tokenizer.ggml.scores"][259:], strict=True))
    symbols = list(text)
    while True:
        pairs = [(score[a + b], -i) for i, (a, b) in enumerate(itertools.pairwise(symbols)) if a + b in score]
        if not pairs:
            return [p for s in symbols for p in ([s] if s in score else [f"<0x{b:02X}>" for b in s.encode()])]
        i = -max(pairs)[1]
        symbols[i : i + 2] = ["".join(symbols[i : i + 2])]


@given(st.text("ab é\n<s>", max_size=12), st.booleans())
@settings(deadline=None)
def test_sentencepiece_vocabularies_join_by_score(text, prefix):
    tokenizer = build_tokenizer(SPM | {"tokenizer.ggml.add_space_prefix": prefix}, "x")
    tokenizer.encode_special_tokens = True
    escaped = ("▁" if prefix and text else "") + text.replace(" ", "▁")
    assert tokenizer.encode(text).tokens == joined(escaped)


@pytest.mark.parametrize(("name", "after"), [("Phi 3", "▁a"), ("Phi-3 mini", "a"), ("my phi3", "a")])
def test_only_phi_3_takes_up_the_spaces_after_control_tokens(name, after):
    tokenizer = build_tokenizer(SPM | {"general.name": name, "tokenizer.ggml.add_space_prefix": False}, "x")
    assert [token.strip() for token in tokenizer.encode("</s> a<s> a").tokens] == ["</s>", after, "<s>", "▁a"]


def test_scores_that_do_not_rank_are_refused():
    with pytest.raises(UnsupportedModel, match="do not rank"):
        build_tokenizer(SPM | {"tokenizer.ggml.scores": [-1000.0] * 273}, "x")


# The demo model


@pytest.fixture(scope="module")
def demo():
    """The demo model's file and folder; skipped where it cannot be had."""
    try:
        path = resolve("smollm2-135m").path
    except UnknownModel as missing:
        pytest.skip(str(missing))
    return path, to_folder(path, cache_dir())


def test_the_demo_model_s_weights_are_exact(demo):
    path, folder = demo
    raw = {t.name: t for t in gguf.GGUFReader(path).tensors}
    names = {
        "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
        "blk.7.attn_q.weight": "model.layers.7.self_attn.q_proj.weight",
        "blk.29.attn_k.weight": "model.layers.29.self_attn.k_proj.weight",
        "blk.3.ffn_down.weight": "model.layers.3.mlp.down_proj.weight",
    }  # fmt: skip
    assert {raw[name].tensor_type.name for name in names} == {"Q4_1", "Q8_0", "F32"}
    for name, hub in names.items():
        values = gguf.quants.dequantize(raw[name].data, raw[name].tensor_type)
        heads = {"attn_q": 9, "attn_k": 3}.get(name.split(".")[-2])
        np.testing.assert_array_equal(tensor(folder, hub), unpermuted(values, heads) if heads else values)


def test_the_demo_model_s_tokens_are_llama_cpp_s(demo):
    tokenizer = load_tokenizer(demo[1])
    golden = json.loads(Path(__file__).with_name("llamacpp_tokens.json").read_text("ascii"))
    wrong = [
        text
        for text, special, ids in golden["cases"]
        if (tokenizer.encode_template if special else tokenizer.encode)(text) != ids
    ]
    assert len(golden["cases"]) > 300 and not wrong


def test_transformers_own_loader_finds_the_same_tokenizer(demo):
    hub = transformers.AutoTokenizer.from_pretrained(demo[1], local_files_only=True)
    ours = load_tokenizer(demo[1])
    for text in ("12 x\n  34", "½ it's", "<|im_end|> 5"):
        assert hub.encode(text) == ours.encode_template(text)


def test_the_demo_model_is_found_again_at_once(demo):
    path, folder = demo
    began = time.perf_counter()
    assert to_folder(path, cache_dir()) == folder
    assert time.perf_counter() - began < 0.1


def test_a_file_that_does_not_fit_into_memory_is_refused_before_it_is_unpacked(write, tmp_path, monkeypatch):
    monkeypatch.setattr("superpose.engines.torch_engine_gguf.free_bytes", lambda device: 1000)
    with pytest.raises(OutOfMemory, match="GB of memory"):
        to_folder(write(), tmp_path / "cache")
