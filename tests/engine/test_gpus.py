"""Which device a model goes to. No GPU is needed: how many there are, and how much of them is free, is made up."""

import pytest
import torch
from transformers import AutoConfig

from superpose.engine import EngineOptions, OutOfMemory, UnsupportedModel
from superpose.engines import torch_engine_cache, torch_engine_load
from superpose.engines.torch_engine_cache import Slots


@pytest.fixture
def folder(tmp_path, build):
    build("qwen2", tie_word_embeddings=False).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder, monkeypatch):
    """`load(count, free)`: the device map used with so many GPUs and bytes free in each."""

    def loaded(count, free, device=None, accelerate=True):
        given = {}

        class Stopped(Exception):
            """Raised where a GPU would be needed."""

        def from_pretrained(*_, **options):
            given.update(options)
            raise Stopped

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch_engine_load, "free_bytes", lambda device: free)
        monkeypatch.setattr(torch_engine_load, "find_spec", lambda name: object() if accelerate else None)
        monkeypatch.setattr(torch_engine_load.AutoModelForCausalLM, "from_pretrained", from_pretrained)
        options = EngineOptions(device=device, dtype="float32")
        try:
            torch_engine_load.load_model(folder, "m", options, lambda *told: None)
        except UnsupportedModel:
            if not given:  # refused before anything was loaded
                raise
        return given["device_map"]

    return loaded


SIZE = 4 * (2 * 300 * 48 + 4 * (2 * 48 * 48 + 2 * 48 * 16 + 3 * 48 * 64))  # the matrices, in float32


def test_a_model_is_spread_only_if_it_must_be(load):
    assert load(2, 2 * SIZE) is None
    assert load(2, 0.9 * SIZE) == "auto"
    assert load(4, 0.4 * SIZE, "auto") == "auto"


def test_a_gpu_has_bfloat16_unless_another_is_asked_for(folder, monkeypatch):
    given = []

    def from_pretrained(*_, **options):
        given.append(options["dtype"])
        raise OSError("there is no GPU")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device=None, **options: zeros(*size, **options))
    monkeypatch.setattr(torch_engine_load, "free_bytes", lambda device: 10**12)
    monkeypatch.setattr(torch_engine_load.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    for asked in (None, "float16"):
        with pytest.raises((UnsupportedModel, OSError)):
            torch_engine_load.load_model(folder, "m", EngineOptions(dtype=asked), lambda *told: None)
    assert given == [torch.bfloat16, torch.float16]


def test_a_model_that_was_spread_beyond_the_gpus_is_refused(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch_engine_load, "free_bytes", lambda device: 0.9 * SIZE)
    monkeypatch.setattr(torch_engine_load, "find_spec", lambda name: object())
    own = torch_engine_load.AutoModelForCausalLM.from_pretrained
    # What accelerate finds no room for stays in the host's memory, or on its disk: without numbers then.
    spread = lambda *given, device_map, **more: own(*given, device_map=None, **more)  # noqa: E731
    monkeypatch.setattr(torch_engine_load.AutoModelForCausalLM, "from_pretrained", spread)
    with pytest.raises(OutOfMemory, match=r"m does not fit into the GPUs: .* would stay outside"):
        torch_engine_load.load_model(folder, "m", EngineOptions(dtype="float32"), lambda *told: None)


def test_lanes_grow_as_far_as_the_fullest_gpu_lets_them(monkeypatch):
    slots = Slots(AutoConfig.for_model("qwen2", num_hidden_layers=2), 4, 1024)
    for layer, device in zip(slots._layers, ("cpu", "meta"), strict=True):
        layer.lazy_initialization(*(torch.zeros(1, 2, 1, 8, device=device) for _ in range(2)))
    free = {"cpu": 10**9, "meta": 10**9}
    monkeypatch.setattr(torch_engine_cache, "free_bytes", lambda device: free[device.type])
    slots.row[1] = 0
    slots._reserve(64)
    rows, columns = slots._plan.capacity
    cell = 2 * 2 * 8 * 4  # keys and values of two heads of eight float32
    for short in free:
        free.update(dict.fromkeys(free, 10**9), **{short: rows * columns * cell})
        assert slots.fits(2 * rows, columns)
        free[short] -= 1
        assert not slots.fits(2 * rows, columns)
    free["meta"] = None  # it does not say
    assert slots.fits(2 * rows, columns)


def test_what_does_not_fit_is_refused_in_one_sentence(load):
    with pytest.raises(OutOfMemory, match="on 2 GPUs, of which"):
        load(2, 0.5 * SIZE)
    with pytest.raises(OutOfMemory, match="on cuda, of which"):
        load(1, 0.9 * SIZE)
    with pytest.raises(OutOfMemory, match="on cuda:1, of which"):  # named, so that no other is taken
        load(2, 0.9 * SIZE, "cuda:1")
    with pytest.raises(UnsupportedModel, match="m does not fit into one GPU; to spread it over several, install accel"):
        load(2, 0.9 * SIZE, accelerate=False)
