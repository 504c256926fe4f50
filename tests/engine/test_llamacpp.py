"""llama.cpp as an engine: every trap of its interface, what a lane holds, and which architectures can be driven."""

import gc

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from superpose import engine as engines
from superpose.engine import BadShape, EngineError, OutOfMemory, Readout, UnsupportedModel
from superpose.types import Mixture
from tests.engine import tiny_gguf
from tests.engine.tiny_gguf import HEADS, TOKENS, WIDTH, metadata, tiny, weights, write

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from superpose.engines import (  # noqa: E402
    llamacpp,
    llamacpp_blend,
    llamacpp_lanes,
    llamacpp_library,
)
from superpose.engines.llamacpp import LlamaEngine  # noqa: E402
from superpose.engines.llamacpp_file import GgufFile  # noqa: E402
from superpose.engines.llamacpp_library import Context, Model, lays_out  # noqa: E402

ASK = Readout(temperature=0.8, support=16, u=0.4)


@pytest.fixture
def engine_of(tmp_path):
    """`engine_of(path, context)`: an engine of a file, of the tiny llama if none is named."""
    made = []

    def make(path=None, context=1024, max_lanes=4):
        path = path or tiny(tmp_path / "tiny.gguf", **{"llama.context_length": 2048})
        made.append(LlamaEngine(GgufFile(path), "tiny", max_lanes=max_lanes, context=context))
        return made[-1]

    yield make
    for engine in made:
        engine.release()


@pytest.fixture
def room(tmp_path):
    made = Context(Model(tiny(tmp_path / "tiny.gguf")), 2, 300, 64, exact=True, threads=1)
    yield made
    made.close()


def prompt(seed, length):
    return np.random.default_rng(seed).integers(0, 256, length).astype(np.int32)


def blend(seed):
    random = np.random.default_rng(seed)
    ids = random.choice(256, 5, replace=False).astype(np.int32)
    return Mixture(ids, random.dirichlet(np.ones(5)).astype(np.float32))


def steps(engine, lane, seeds):
    """Logits [n, V] of a lane that is fed blends on its own."""
    told = []
    for seed in seeds:
        engine.step([lane], [blend(seed)], [ASK])
        told.append(engine.logits()[0])
    return np.array(told)


# The traps of llama.cpp's interface


@pytest.mark.parametrize(
    "words", [b"CPU : AVX2 = 1 | REPACK = 1 | ", b"CPU : AVX512 = 1 | AMX_INT8 = 1 | REPACK = 1 | "]
)
def test_weights_are_laid_out_anew_where_that_pays_and_never_for_amx(monkeypatch, words):
    monkeypatch.setattr(llama_cpp, "llama_print_system_info", lambda: words)
    kinds = [kind.name for kind in Kind]
    assert [kind for kind in kinds if lays_out(kind)] == ([] if b"AMX" in words else ["Q4_0"])


def test_a_file_keeps_its_layout_unless_another_is_asked_for(monkeypatch, engine_of):
    given, own = [], llama_cpp.llama_model_load_from_file
    spy = lambda path, parameters: given.append(parameters) or own(path, parameters)  # noqa: E731
    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", spy)
    engine_of()
    assert given and not any(parameters.use_extra_bufts for parameters in given)
    assert llama_cpp.llama_model_default_params().use_extra_bufts  # which is why it has to be said


@pytest.mark.skipif(not lays_out("Q4_0"), reason="llama.cpp would end the process")
def test_weights_laid_out_anew_answer_as_they_do_otherwise(tmp_path, monkeypatch, engine_of):
    monkeypatch.setattr(tiny_gguf, "WIDTH", 512)  # of narrow ones the sums would be the same
    path, told = tiny(tmp_path / "q4.gguf", kind=Kind.Q4_0), []
    for anew in (True, False):
        monkeypatch.setattr(llamacpp, "lays_out", lambda kind, anew=anew: anew)
        engine = engine_of(path)
        assert engine.info.invariance == "any_n"
        assert engine.info.checks[0].startswith("weights laid out anew (Q4_0)") == anew
        lane = engine.open()
        engine.prefill(lane, prompt(1, 40), ASK)
        told.append((engine.info.fingerprint, steps(engine, lane, range(12))))
    (one, anew), (other, usual) = told
    assert one != other
    assert not np.array_equal(anew, usual)
    assert abs(anew - usual).max() < 0.1 * np.std(usual)  # it computes with activations of 8 bits; seen 0.04


def test_threads_are_set(tmp_path):
    model = Model(tiny(tmp_path / "tiny.gguf"))
    room = Context(model, 2, 300, 64, exact=True, threads=3)
    assert llama_cpp.llama_n_threads(room._pointer) == llama_cpp.llama_n_threads_batch(room._pointer) == 3
    room.use_threads(1)
    assert llama_cpp.llama_n_threads(room._pointer) == llama_cpp.llama_n_threads_batch(room._pointer) == 1


@pytest.mark.parametrize(("cores", "threads"), [(3, 3), (1, 1), (None, 2)])
def test_an_engine_has_a_thread_a_physical_core(engine_of, monkeypatch, cores, threads):
    monkeypatch.setattr(llamacpp, "physical_cores", lambda: cores)
    monkeypatch.setattr(llamacpp.os, "cpu_count", lambda: 2)
    pointer = engine_of()._lanes._context._pointer
    assert llama_cpp.llama_n_threads(pointer) == llama_cpp.llama_n_threads_batch(pointer) == threads


def test_a_prefill_longer_than_a_batch_is_fed_in_parts(engine_of):
    engine = engine_of()
    whole, parts = engine.open(), engine.open()
    ids = prompt(1, 2 * llamacpp_lanes.CHUNK - 60)
    engine.prefill(whole, ids, ASK)
    first = engine.logits()
    engine.prefill(parts, ids[: llamacpp_lanes.CHUNK], ASK)
    engine.prefill(parts, ids[llamacpp_lanes.CHUNK :], ASK)
    assert np.array_equal(engine.logits(), first)


@pytest.mark.parametrize(
    ("lanes", "starts", "rows"), [([0], [0], 65), ([0], [0], 0), ([2], [0], 1), ([-1], [0], 1), ([0, 1], [0], 2)]
)
def test_a_batch_that_would_end_the_process_is_not_made(room, lanes, starts, rows):
    with pytest.raises(BadShape, match="cannot take"):
        room.decode(lanes, starts, np.zeros(rows, np.int32))


def test_a_batch_never_holds_tokens_and_embeddings_at_once(room):
    embedded = room._batch.of(np.zeros((2, WIDTH), np.float32))
    assert embedded.embd and not embedded.token
    tokens = room._batch.of(np.zeros(2, np.int32))
    assert tokens.token and not tokens.embd


def test_positions_with_a_gap_or_fed_twice_are_refused_in_words(room):
    room.decode([0], [0], prompt(1, 4))
    for start in (2, 9):
        with pytest.raises(EngineError, match=r"failed with -1: .*positions"):
            room.decode([0], [start], prompt(1, 1))
    assert room.span(0) == (0, 3)


def test_a_full_lane_is_refused_in_words_and_can_be_cut_back(room):
    assert room.length == 512  # rounded up to a multiple of 256
    for at in range(0, 512, 64):
        last = room.decode([0], [at], prompt(at, 64)).copy()
    with pytest.raises(EngineError, match="failed with 1"):
        room.decode([0], [512], prompt(1, 1))
    room.cut(0, 448)
    assert np.array_equal(room.decode([0], [448], prompt(448, 64)), last)


def test_the_context_is_what_was_asked_for_although_llama_cpp_rounds_it(engine_of):
    engine = engine_of(context=100)
    lane = engine.open()
    engine.prefill(lane, prompt(1, 100), ASK)
    with pytest.raises(engines.LaneTooLong):
        engine.step([lane], [blend(1)], [ASK])


def test_logits_are_kept_although_llama_cpp_writes_over_them(engine_of):
    engine = engine_of()
    lane = engine.open()
    engine.prefill(lane, prompt(1, 5), ASK)
    first, copy = engine.logits(), engine.logits().copy()
    engine.step([lane], [blend(1)], [ASK])
    assert np.array_equal(first, copy) and not np.array_equal(first, engine.logits())


def test_a_fork_at_any_place_repeats_the_bits_and_leaves_its_source_alone(engine_of):
    engine = engine_of()
    lane = engine.open()
    engine.prefill(lane, prompt(4, 7), ASK)
    told = steps(engine, lane, range(6))
    for upto in (0, 1, 7, 9, 12):  # a part of a stream cannot be copied: llama.cpp would abort
        branch = engine.fork(lane, upto)
        if upto < 7:
            engine.prefill(branch, prompt(4, 7)[upto:], ASK)
        assert np.array_equal(steps(engine, branch, range(max(upto - 7, 0), 6)), told[max(upto - 7, 0) :])
        engine.close(branch)
    engine.rollback(lane, 8)
    assert np.array_equal(steps(engine, lane, range(1, 6)), told[1:])


def test_forks_of_forks_and_closed_sources_before_any_decode(engine_of):
    """Copies wait for the next decode; until then streams are closed, moved, opened and copied again."""
    engine = engine_of()
    source, other = engine.open(), engine.open()
    engine.prefill(source, prompt(4, 7), ASK)
    engine.prefill(other, prompt(5, 9), ASK)
    expected, different = steps(engine, source, range(3)), steps(engine, other, range(3))
    first = engine.fork(source, 7)
    second = engine.fork(first, 7)
    engine.close(source)  # the last stream moves into its place
    engine.close(first)
    third = engine.fork(other, 9)
    assert np.array_equal(steps(engine, second, range(3)), expected)
    assert np.array_equal(steps(engine, third, range(3)), different)
    engine.rollback(other, 9)
    assert np.array_equal(steps(engine, other, range(3)), different)


def test_streams_have_no_gaps_so_that_lanes_decode_together(engine_of):
    engine = engine_of()
    lanes = [engine.open() for _ in range(4)]
    for lane in lanes:
        engine.prefill(lane, prompt(lane, 4 + lane), ASK)
    engine.close(lanes[1])
    engine.close(lanes[0])
    assert sorted(engine._lanes._stream.values()) == [0, 1]
    rows = engine._lanes._context._batch.lanes
    engine.step([lanes[2], lanes[3]], [blend(1)] * 2, [ASK] * 2)
    assert rows[:2].tolist() == [0, 1]  # in any other order they would be two passes


def test_lanes_outgrow_their_room_without_a_changed_bit(engine_of, monkeypatch):
    """Forked and moved lanes too, whose copies are still due when the room is exchanged."""
    ids = prompt(1, 700)
    short = engine_of()
    monkeypatch.setattr(llamacpp_lanes, "FIRST", 1024)
    long = engine_of()
    assert (short._lanes._context.length, long._lanes._context.length) == (512, 1024)
    told = []
    for engine in (short, long):
        a, b = engine.open(), engine.open()
        engine.prefill(a, prompt(2, 30), ASK)
        engine.prefill(b, ids[:500], ASK)
        engine.close(a)
        c, d = engine.fork(b, 500), engine.fork(b, 20)
        engine.prefill(c, ids[500:], ASK)
        told.append(
            [engine.logits(), steps(engine, b, range(20)), steps(engine, c, range(3)), steps(engine, d, range(3))]
        )
    assert short._lanes._context.length == 1024
    assert all(np.array_equal(one, other) for one, other in zip(*told, strict=True))
    assert short.memory().cache == long.memory().cache


def test_a_room_that_does_not_fit_changes_nothing(engine_of, monkeypatch):
    engine = engine_of()
    lane = engine.open()
    engine.prefill(lane, prompt(1, 500), ASK)
    with monkeypatch.context() as patch:
        patch.setattr(llamacpp_lanes, "free_memory", lambda: 1000)
        with pytest.raises(OutOfMemory, match="close some lanes or shorten them"):
            engine.prefill(lane, prompt(2, 100), ASK)
    assert engine.length(lane) == 500
    engine.prefill(lane, prompt(2, 100), ASK)


def test_lanes_fit_where_exactly_their_need_is_free(engine_of, monkeypatch):
    engine = engine_of()
    need = 4 * 1024 * 2 * 2 * (WIDTH // 2) * 4  # 4 lanes of 1024 keys and values in 2 layers, half as wide, float32
    for free, fits in [(0, False), (need - 1, False), (need, True), (None, True)]:
        monkeypatch.setattr(llamacpp_lanes, "free_memory", lambda free=free: free)
        assert engine.fits([10, 512]) == fits
        assert engine.fits([511, 1])


def test_a_failed_pass_leaves_the_lanes_as_they_were(engine_of, monkeypatch):
    engine = engine_of()
    lanes = [engine.open(), engine.open()]
    for lane in lanes:
        engine.prefill(lane, prompt(lane, 600), ASK)
    huge = Mixture(np.array([1, 2, 3]), np.array([3e38, -3e38, 1.0], np.float32), rescale=1e9)
    with pytest.raises(EngineError, match="weights are too large"):
        engine.step(lanes, [blend(1), huge], [ASK] * 2)
    own = llama_cpp.llama_decode
    replaced = {"llama_get_logits": lambda *_: None, "llama_decode": lambda *given: own(*given) or -3}
    for name, function in replaced.items():
        with monkeypatch.context() as patch:
            patch.setattr(llama_cpp, name, function)
            with pytest.raises(EngineError, match="failed with"):
                engine.step(lanes, [blend(1)] * 2, [ASK] * 2)
            with pytest.raises(EngineError, match="failed with"):
                engine.prefill(lanes[0], prompt(1, 9), ASK)
    assert [engine.length(lane) for lane in lanes] == [600, 600]
    assert [engine._lanes._context.span(engine._lanes._stream[lane]) for lane in lanes] == [(0, 599)] * 2
    engine.step(lanes, [blend(1)] * 2, [ASK] * 2)


def test_the_log_is_heard_after_a_garbage_collection(room):
    room.decode([0], [0], prompt(1, 4))
    gc.collect()
    llamacpp_library._said.clear()
    with pytest.raises(EngineError, match="positions"):
        room.decode([0], [5], prompt(1, 1))
    assert llamacpp_library.complaint() != "it did not say why"


def test_a_lanes_bits_do_not_depend_on_other_lanes_at_a_fixed_count(engine_of):
    """Also where another one is longer than the 256 cells by which llama.cpp rounds what it attends to."""
    engine = engine_of()
    lanes = [engine.open() for _ in range(4)]
    told = []
    for others in ((3, 4, 5), (30, 290, 600)):
        for lane, length in zip(lanes, (9, *others), strict=True):
            engine.rollback(lane, 0)
            engine.prefill(lane, prompt(length, length), ASK)
        for seed in range(5):
            engine.step(lanes, [blend(seed), *(blend(len(told) + i) for i in range(3))], [ASK] * 4)
            told.append(engine.logits()[0])
    assert np.array_equal(told[:5], told[5:])


def test_one_product_for_a_mixture_of_the_whole_vocabulary(engine_of):
    engine = engine_of()
    count = engine.info.vocab
    whole = Mixture(np.arange(count)[::-1].astype(np.int32), np.random.default_rng(1).dirichlet(np.ones(count)))
    rows = engine._blender._rows[:].astype(np.float64)
    expected = whole.weights.astype(np.float64) @ rows[whole.ids]
    assert engine._blender.fed([whole])[0] == pytest.approx(expected, abs=1e-5)
    assert engine._blender._large_sum(whole) == pytest.approx(expected, abs=1e-5)
    assert engine._blender.held() == 4 * count * WIDTH


def test_rows_of_a_large_table_are_unpacked_as_they_are_needed_and_give_the_same_blends(engine_of, monkeypatch):
    small = engine_of()
    assert small._blender.held() == 4 * small.info.vocab * WIDTH
    monkeypatch.setattr(llamacpp_blend, "_LARGE", 0)
    monkeypatch.setattr(llamacpp_blend, "_KNOWN", 12)  # rows that are kept, so that some are let go of
    large = engine_of()
    for seed in range(8):
        fed = [blend(seed), blend(seed + 100)]
        assert np.array_equal(large._blender.fed(fed), small._blender.fed(fed))
        assert np.array_equal(large.norm_ratios(fed), small.norm_ratios(fed))
    assert large._blender.held() == 0 and len(large._blender._known) <= 12


def test_a_small_table_stays_packed_where_memory_is_short(engine_of, monkeypatch):
    small = engine_of()
    monkeypatch.setattr(llamacpp_blend, "free_memory", lambda: 0)
    short = engine_of()
    assert short._blender.held() == 0
    assert np.array_equal(short._blender.fed([blend(1)]), small._blender.fed([blend(1)]))


def test_a_large_table_is_not_unpacked_for_neighbours_nor_beyond_memory(engine_of, monkeypatch):
    engine = engine_of()
    near = engine.nearest(blend(1), 3)
    monkeypatch.setattr(llamacpp_blend, "_LARGE", 0)
    engine = engine_of()
    assert (len(near), engine.nearest(blend(1), 3)) == (3, [])
    monkeypatch.setattr(llamacpp_blend, "_LARGE", 2**40)
    monkeypatch.setattr(llamacpp_blend, "free_memory", lambda: 0)
    with pytest.raises(OutOfMemory):
        engine.nearest(blend(1), 3)


@pytest.mark.parametrize("call", ["step", "append"])
def test_logits_in_llama_cpps_memory_are_never_read_once_it_is_freed(call, engine_of, monkeypatch):
    engine = engine_of(context=600)
    assert engine.logits().shape == (0, engine.info.vocab)  # not those of the self-check, whose cache is gone
    lane = engine.open()
    engine.prefill(lane, prompt(1, 511), ASK)
    before = engine._lanes._context

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(engine._lanes, call, full)
    with pytest.raises(OutOfMemory):
        engine.step([lane], [blend(1)], [ASK]) if call == "step" else engine.prefill(lane, prompt(2, 3), ASK)
    assert engine._lanes._context is not before  # it grew, and the one that held the logits is gone
    assert engine.logits().shape == (0, engine.info.vocab)
    with pytest.raises(engines.BadShape, match="no prefill"):
        engine.beliefs([ASK])


# Architectures


def gemma(folder, arch, **changes):
    """A tiny Gemma of some generation, with a window of 6 where it has one."""
    head, blocks, random = WIDTH // HEADS, 2, np.random.default_rng(3)
    tensors = weights(len(TOKENS), blocks)
    del tensors["output.weight"]
    meta = {f"{arch}.attention.key_length": head, f"{arch}.attention.value_length": head}
    norms = {"gemma": {}, "gemma2": {}, "gemma3": {"attn_q_norm": head, "attn_k_norm": head}}[arch]
    if arch != "gemma":
        norms |= {"post_attention_norm": WIDTH, "post_ffw_norm": WIDTH}
        meta[f"{arch}.attention.sliding_window"] = 6
    for block in range(blocks):
        for name, length in norms.items():
            tensors[f"blk.{block}.{name}.weight"] = random.normal(1, 0.2, length).astype(np.float32)
    return write(folder / f"{arch}.gguf", metadata(arch, blocks) | meta | changes, tensors, arch=arch)


@pytest.mark.parametrize(("arch", "scale"), [("gemma", 1.0), ("gemma2", 1.0), ("gemma3", 8.0)])
def test_gemmas_scale_is_found(engine_of, tmp_path, arch, scale):
    engine = engine_of(gemma(tmp_path, arch), context=128)
    assert (engine._blender.scale, engine.info.embedding_scale) == (scale, 8.0)
    ids, lane = prompt(1, 40), engine.open()
    by_id = [engine.prefill(lane, ids[:20], ASK)]
    by_id += [engine.prefill(lane, ids[at : at + 1], ASK) for at in range(20, 40)]
    engine.rollback(lane, 20)
    fed = [engine.step([lane], [Mixture.token(int(i))], [ASK])[0] for i in ids[20:]]
    assert all(one.probs == pytest.approx(two.probs, abs=1e-5) for one, two in zip(by_id[1:], fed, strict=True))


@pytest.fixture
def windowed(engine_of, tmp_path):
    """`windowed()`: an engine of a model whose layers see 6 positions, and a lane that was cut back from 600 to 20.

    A cache of the window alone would hold some 256 of them.
    """

    def make():
        engine = engine_of(gemma(tmp_path, "gemma2", **{"gemma2.context_length": 2048}), context=700)
        lane = engine.open()
        engine.prefill(lane, prompt(1, 600), ASK)
        engine.rollback(lane, 20)
        return engine, lane

    return make


def test_a_window_can_be_rolled_back_far_behind_itself(windowed):
    engine, lane = windowed()
    fresh = engine.open()
    engine.prefill(fresh, prompt(1, 20), ASK)
    assert engine._lanes._context.span(0) == (0, 19)
    assert np.array_equal(steps(engine, lane, range(8)), steps(engine, fresh, range(8)))


def test_a_lane_that_lost_what_it_should_keep_is_not_gone_on_with(windowed, monkeypatch):
    own = llama_cpp.llama_init_from_model

    def without(model, parameters):
        parameters.swa_full = False
        return own(model, parameters)

    monkeypatch.setattr(llama_cpp, "llama_init_from_model", without)
    with pytest.raises(EngineError, match="could not cut a lane back to 20 positions"):
        windowed()


def test_a_fork_of_what_is_gone_leaves_no_lane_open(engine_of, monkeypatch):
    engine = engine_of()
    lane = engine.open()
    engine.prefill(lane, prompt(1, 30), ASK)
    with monkeypatch.context() as gone:
        gone.setattr(Context, "span", lambda self, lane: (9, 19))
        for _ in range(5):
            with pytest.raises(EngineError, match="could not cut"):
                engine.fork(lane, 20)
    assert len(engine._lanes.length) == 1
    assert engine.length(engine.fork(lane, 20)) == 20


def test_lanes_have_streams_without_flash_attention(engine_of, monkeypatch):
    given, own = [], llama_cpp.llama_init_from_model
    monkeypatch.setattr(
        llama_cpp, "llama_init_from_model", lambda model, asked: given.append(asked) or own(model, asked)
    )
    engine_of()
    assert given
    assert {(asked.kv_unified, asked.swa_full, asked.flash_attn_type) for asked in given} == {(False, True, 0)}


def test_embeddings_that_llama_cpp_does_not_take_for_its_tokens_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(llamacpp.Blender, "fed", lambda self, inputs: np.ones((len(inputs), WIDTH), np.float32))
    with pytest.raises(UnsupportedModel, match="does not answer to its embeddings as to its tokens"):
        LlamaEngine(GgufFile(tiny(tmp_path / "tiny.gguf")), "tiny")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokenizer.chat_template": None}, "no chat template"),
        ({"tokenizer.ggml.model": "none"}, "it has no tokenizer"),
        ({"llama.attention.causal": False}, "also looks ahead"),
        ({"split.count": 3}, "merge them with llama-gguf-split first"),
        ({"tokenizer.chat_template": "{% if"}, "chat template of this model cannot be read"),
        ({"tokenizer.chat_template": 7}, "no chat template"),
        ({"tokenizer.chat_template": [7, 8]}, "no chat template"),
        ({"llama.embedding_scale": "x" * 10**5}, "its embedding_scale cannot be 'xxx.{0,80}$"),
        ({"llama.embedding_scale": 0.0}, "its embedding_scale cannot be 0.0"),
        ({"llama.embedding_scale": float("nan")}, "its embedding_scale cannot be nan"),
        ({"llama.attention.head_count": "many"}, "its attention.head_count cannot be 'many'"),
        ({"llama.attention.head_count_kv": [2, -3]}, r"its attention.head_count_kv cannot be \[2, -3\]"),
        ({"llama.attention.head_count_kv": 0.5}, "its attention.head_count_kv cannot be 0.5"),
        ({"llama.block_count": True}, "its block_count cannot be True"),
        ({"general.architecture": "a\x1b]0;x\x07\nERROR"}, "does not name its architecture"),
        ({"llama.context_length": 0}, "does not say how many tokens"),
        ({"llama.context_length": None}, "does not say how many tokens"),
    ],
)
def test_what_cannot_be_driven_by_embeddings_is_refused_by_name(tmp_path, changes, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        LlamaEngine(GgufFile(tiny(tmp_path / "tiny.gguf", **changes)), "tiny")


def test_per_layer_embeddings_are_refused(tmp_path):
    tensors = weights(len(TOKENS)) | {"per_layer_token_embd.weight": np.zeros((len(TOKENS), 8), np.float32)}
    with pytest.raises(UnsupportedModel, match="per-layer embeddings"):
        LlamaEngine(GgufFile(write(tmp_path / "tiny.gguf", metadata(), tensors)), "tiny")
