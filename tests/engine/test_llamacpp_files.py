"""Which .gguf files are opened, by which engine, and how broken and hostile ones are refused."""

import json
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from superpose import engine as engines
from superpose.engine import EngineOptions, OutOfMemory, UnsupportedModel, open_engine
from superpose.models import DEMO, cache_dir
from tests.engine.tiny_gguf import TOKENS, WIDTH, metadata, tiny, weights, write

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from superpose.engines import (  # noqa: E402
    llamacpp,
    llamacpp_child,
    llamacpp_lanes,
    llamacpp_library,
)
from superpose.engines.llamacpp import load  # noqa: E402
from superpose.engines.llamacpp_file import GgufFile  # noqa: E402
from superpose.engines.llamacpp_library import Model  # noqa: E402


def opened(path, tmp_path):
    """What opening a file says: nothing where it works."""
    try:
        load(SimpleNamespace(name=path.name, kind="gguf", path=path), EngineOptions()).release()
    except (UnsupportedModel, OutOfMemory) as refusal:
        return str(refusal)
    return ""


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERPOSE_CACHE", str(tmp_path / "cache"))


def test_a_file_is_tried_once_in_a_process_of_its_own(tmp_path, cached, monkeypatch):
    path, calls, own = tiny(tmp_path / "tiny.gguf"), [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **more: calls.append(given) or own(*given, **more))
    assert opened(path, tmp_path) == opened(path, tmp_path) == ""
    assert len(calls) == 1
    tiny(path, **{"general.name": "changed"})
    assert opened(path, tmp_path) == "" and len(calls) == 2
    monkeypatch.setattr(llamacpp_child, "system", lambda: "CPU : AMX_INT8 = 1 | ")  # another computer's home, say
    assert opened(path, tmp_path) == "" and len(calls) == 3


def test_a_file_cut_short_anywhere_is_one_sentence(tmp_path, cached):
    whole = tiny(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [*range(0, 64, 7), *range(64, len(whole), len(whole) // 60), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert opened(path, tmp_path) in (
            "cut.gguf is empty", "cut.gguf is broken or not complete", "cut.gguf is not a GGUF file",
        )  # fmt: skip


def test_spoilt_bytes_never_end_the_process(tmp_path, cached):
    """A byte of the header changed: mostly refused, sometimes (a name, a number) still a model; one sentence always."""
    whole = bytearray(tiny(tmp_path / "whole.gguf", blocks=1).read_bytes())
    header, random, path, refused = (
        GgufFile(tmp_path / "whole.gguf")._at,
        np.random.default_rng(5),
        tmp_path / "x.gguf",
        0,
    )
    for _ in range(300):
        spoilt = bytearray(whole)
        for at in random.integers(4, header, random.integers(1, 4)):
            spoilt[at] = random.integers(256)
        path.write_bytes(spoilt)
        try:
            GgufFile(path)
        except UnsupportedModel as refusal:
            refused += 1
            assert "\n" not in str(refusal)
    assert refused > 50


@pytest.mark.parametrize(
    "changes",
    [
        {"llama.attention.head_count": 0},
        {"llama.attention.head_count": 7},
        {"llama.attention.head_count_kv": 0},
        {"llama.block_count": 70000},
        {"llama.embedding_length": 0},
        {"llama.feed_forward_length": 1},
        {"llama.rope.dimension_count": 7},
        {"llama.context_length": 0},
        {"tokenizer.ggml.tokens": ["a"]},
        {"tokenizer.ggml.tokens": [*TOKENS[:-1], "<s>"]},
        {"tokenizer.ggml.token_type": [1, 2]},
        {"tokenizer.ggml.merges": ["zzz qqq", "x"]},
        {"tokenizer.ggml.model": "nonsense"},
        {"tokenizer.ggml.pre": "nonsense"},
        {"tokenizer.ggml.eos_token_id": 4000000000},
        {"general.architecture": "nonsense"},
        {"tokenizer.chat_template": 7},
        {"llama.embedding_scale": "x"},
        {"llama.block_count": "x"},
    ],
    ids=str,
)
def test_nonsense_in_a_file_is_one_sentence_or_works(tmp_path, cached, changes):
    said = opened(tiny(tmp_path / "odd.gguf", **changes), tmp_path)
    assert "\n" not in said and len(said) < 400
    assert not said or said.startswith("odd.gguf")


def test_a_model_without_keys_and_values_is_refused_by_name(tmp_path, cached):
    inner = 2 * WIDTH
    meta = metadata("mamba") | {
        "mamba.attention.head_count": 0, "mamba.attention.head_count_kv": None, "mamba.ssm.conv_kernel": 4,
        "mamba.ssm.inner_size": inner, "mamba.ssm.state_size": 16, "mamba.ssm.time_step_rank": 4,
    }  # fmt: skip
    of_block = {
        "attn_norm.weight": (WIDTH,), "ssm_in.weight": (2 * inner, WIDTH), "ssm_conv1d.weight": (inner, 4),
        "ssm_conv1d.bias": (inner,), "ssm_x.weight": (36, inner), "ssm_dt.weight": (inner, 4), "ssm_dt.bias": (inner,),
        "ssm_a": (inner, 16), "ssm_d": (inner,), "ssm_out.weight": (WIDTH, inner),
    }  # fmt: skip
    shapes = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    shapes |= {f"blk.0.{name}": shape for name, shape in of_block.items()}
    tensors = {name: np.full(shape, 0.1, np.float32) for name, shape in shapes.items()}
    said = opened(write(tmp_path / "mamba.gguf", meta, tensors, arch="mamba"), tmp_path)
    assert said.endswith("its recurrent layers keep a state that cannot be cut back")


@pytest.mark.parametrize("entries", ["words", "settings", "tensors"])
def test_a_header_that_tells_of_more_than_can_be_is_not_gone_through(tmp_path, cached, entries):
    path, many = tmp_path / "sparse.gguf", 2**60
    words = struct.pack("<Q5sIIQ", 5, b"words", 9, 8, many)
    start = {"words": struct.pack("<QQ", 0, 1) + words, "settings": struct.pack("<QQ", 0, many)}
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<I", 3) + start.get(entries, struct.pack("<QQ", many, 0)))
        file.truncate(2**32)  # of zeros, which take no room on the disk
    began = time.perf_counter()
    assert opened(path, tmp_path) == "sparse.gguf is broken or not complete"
    assert time.perf_counter() - began < 5


def test_llama_cpps_own_reason_is_not_taken_for_lack_of_memory(tmp_path, cached, monkeypatch):
    path = tiny(tmp_path / "tiny.gguf")
    assert opened(path, tmp_path) == ""
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", lambda model, asked: None)
    monkeypatch.setattr(llamacpp_library, "complaint", lambda: "it needs flash attention")
    assert opened(path, tmp_path).endswith("it needs flash attention")


def test_a_crash_of_llama_cpp_is_told_and_does_not_end_this_process(tmp_path, cached, monkeypatch):
    code = "import os, sys; print('/a/b/ggml.c:1: GGML_ASSERT(x > 0) failed', file=sys.stderr); os.abort()"
    monkeypatch.setattr(sys, "orig_argv", sys.orig_argv)
    own = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **more: own([sys.executable, "-c", code], **more))
    said = opened(tiny(tmp_path / "odd.gguf"), tmp_path)
    assert said == "odd.gguf cannot be loaded: llama.cpp crashed on it (ggml.c:1: GGML_ASSERT(x > 0) failed)"
    assert not any((cache_dir() / "gguf/tried").glob("*"))


@pytest.mark.parametrize("anew", [True, False])
def test_an_attempt_lays_weights_out_as_a_load_will(tmp_path, monkeypatch, anew):
    given = []
    monkeypatch.setattr(llamacpp_child, "lays_out", lambda kind: anew)
    monkeypatch.setattr(llamacpp_child, "Model", lambda path, **how: given.append(how) or Model(path))
    assert llamacpp_child.main(tiny(tmp_path / "tiny.gguf")) == 0
    assert given == [{"anew": anew}]


def test_a_signal_without_words_is_named():
    assert llamacpp_child._sentence("x", -11, "") == "x cannot be loaded: llama.cpp crashed on it (SIGSEGV)"


# Which engine opens what


def test_a_gguf_file_picks_llama_cpp_and_the_demo_model_stays_with_torch(tmp_path):
    assert engines._choice("gguf", demo=False) == "llamacpp"
    assert engines._choice("gguf", demo=True) == engines._choice("folder", demo=False) == "torch"
    assert engines._choice("toy", demo=False) == "toy"


@pytest.mark.parametrize("kind", [None, "torch", "toy"])
def test_a_gguf_file_named_by_its_path_is_opened_by_llama_cpp_or_as_asked(tmp_path, cached, kind):
    engine = open_engine(str(tiny(tmp_path / "tiny.gguf")), EngineOptions(engine=kind))
    assert engine.info.name == (kind or "llamacpp")
    engine.release()


def test_without_torch_the_demo_model_is_llama_cpps_and_without_llama_cpp_all_is_torchs(monkeypatch):
    find = engines.importlib.util.find_spec
    absent = "torch"
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None if name == absent else find(name))
    assert engines._choice("gguf", demo=True) == "llamacpp"
    absent = "llama_cpp"
    assert engines._choice("gguf", demo=False) == engines._choice("gguf", demo=True) == "torch"


def test_an_engine_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "superpose.engines.llamacpp", None)
    with pytest.raises(UnsupportedModel, match=r"needs the package .*: install superpose\[llamacpp\]"):
        open_engine(DEMO, EngineOptions(engine="llamacpp"))


def test_whatever_a_library_raises_on_a_file_is_one_sentence(tmp_path, monkeypatch):
    def load(*given):
        raise TypeError("a word\nand another")

    monkeypatch.setattr(llamacpp, "load", load)
    with pytest.raises(UnsupportedModel) as raised:
        open_engine(str(tiny(tmp_path / "tiny.gguf")), EngineOptions(engine="llamacpp"))
    assert str(raised.value).endswith("tiny.gguf cannot be loaded: TypeError: a word")


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("folder", {}, "is not a .gguf file, which is all that the llamacpp engine can read"),
        ("file", {"device": "cuda"}, "runs on the cpu, not on 'cuda': try --engine torch"),
        ("file", {"dtype": "float32"}, "computes with the file's own numbers: leave out --dtype"),
    ],
)
def test_words_that_do_not_go_with_it_are_refused(tmp_path, model, options, reason):
    path = tiny(tmp_path / "tiny.gguf")
    files = SimpleNamespace(name=model, kind="gguf" if model == "file" else "folder", path=path)
    with pytest.raises(UnsupportedModel, match=reason):
        load(files, EngineOptions(**options))


def test_it_works_without_torch():
    """Importing it, which a machine with superpose[llamacpp] alone must be able to."""
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import superpose.engines.llamacpp"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_the_fingerprint_follows_the_weights(tmp_path):
    before = GgufFile(tiny(tmp_path / "one.gguf")).fingerprint()
    tensors = weights(len(TOKENS), 2)
    tensors["blk.1.ffn_down.weight"][0, 0] += 1
    assert GgufFile(tiny(tmp_path / "two.gguf")).fingerprint() == before
    assert GgufFile(write(tmp_path / "three.gguf", metadata(blocks=2), tensors)).fingerprint() != before


def test_rows_are_those_of_ggufs_own_reader(tmp_path):
    ids = np.array([5, 0, 5, 200], np.int32)
    for kind in (Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_1):
        path = write(tmp_path / "tiny.gguf", metadata(), weights(len(TOKENS)), kind)
        table = next(t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
        rows = GgufFile(path).rows("token_embd.weight")
        assert np.array_equal(rows[ids], gguf.quants.dequantize(table.data, table.tensor_type)[ids])
    assert json.dumps(GgufFile(path).meta["llama.block_count"]) == "1"


def test_fewer_lanes_where_each_would_have_too_little_memory(tmp_path, monkeypatch):
    file = GgufFile(tiny(tmp_path / "tiny.gguf"))
    lane = llamacpp.longest(file) * llamacpp.cache_bytes(file)  # a tiny model's context is below ROOM
    for free, lanes in [(None, 16), (10**12, 16), (10 * lane, 5), (lane, 1), (0, 1)]:
        monkeypatch.setattr(llamacpp, "free_memory", lambda free=free: free)
        assert llamacpp._affordable(file, 0) == lanes


def test_a_file_is_loaded_only_where_its_weights_and_first_lanes_find_memory(tmp_path, cached, monkeypatch):
    path = tiny(tmp_path / "tiny.gguf")
    needed = path.stat().st_size + llamacpp.LANES * llamacpp.FIRST * llamacpp.cache_bytes(GgufFile(path))
    monkeypatch.setattr(llamacpp, "free_memory", lambda: needed - 1)
    assert opened(path, tmp_path).startswith("tiny.gguf needs about")
    monkeypatch.setattr(llamacpp, "free_memory", lambda: needed)
    assert opened(path, tmp_path) == ""
    monkeypatch.setattr(llamacpp_lanes, "free_memory", lambda: 0)  # taken by another program meanwhile
    assert opened(path, tmp_path) == "there is not enough memory to load tiny.gguf"
