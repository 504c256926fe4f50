"""The thread in which a model is loaded, and how many torch has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from superpose.engine import EngineOptions, Readout, UnsupportedModel
from superpose.engines import torch_engine, torch_engine_load, torch_engine_threads
from superpose.engines.pace import Pace
from superpose.engines.torch_engine_threads import aside, use_physical_cores


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (4, 4), (8, 4), (None, 4)])
def test_torch_has_at_most_a_thread_a_physical_core(
    monkeypatch: pytest.MonkeyPatch, four_threads: None, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr(torch_engine_threads, "physical_cores", lambda: cores)
    use_physical_cores()
    assert torch.get_num_threads() == threads


def test_a_number_of_threads_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch, four_threads: None) -> None:
    monkeypatch.setattr(torch_engine_threads, "physical_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    use_physical_cores()
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("device", "threads"), [("cpu", 3), ("cuda", 4)])
def test_a_model_on_a_cpu_is_loaded_with_a_thread_a_physical_core(
    monkeypatch: pytest.MonkeyPatch,
    four_threads: None,
    build: Callable[..., Any],
    tmp_path: Path,
    device: str,
    threads: int,
) -> None:
    build("qwen2", tie_word_embeddings=False).save_pretrained(tmp_path)
    monkeypatch.setattr(torch_engine_threads, "physical_cores", lambda: 3)
    monkeypatch.setattr(torch_engine_load, "_device", lambda _: torch.device(device))
    seen: list[int] = []

    def note(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise UnsupportedModel("enough")

    monkeypatch.setattr(torch_engine_load, "refuse", note)
    with pytest.raises(UnsupportedModel, match="enough"):
        torch_engine_load.load_model(tmp_path, "m", EngineOptions(device=device, dtype="float32"), lambda *_: None)
    assert seen == [threads]


def test_threads_adapt_only_where_no_length_of_a_prompt_tells_them_apart(
    build: Callable[..., Any], engine_of: Callable[..., Any], four_threads: None
) -> None:
    engine, told = engine_of(build("qwen2")), []
    for count in engine._pace._choices or (4,):
        engine._pace = Pace(count, torch.set_num_threads, adapt=False)
        torch.set_num_threads(count)
        lane = engine.open()
        for length in range(1, 40):
            engine.rollback(lane, 0)
            engine.prefill(lane, np.arange(length, dtype=np.int32), Readout())
            told.append(engine.logits()[0])
    assert np.array_equal(told[:39], told[-39:])


def test_work_aside_leaves_no_thread_and_gives_its_answer() -> None:
    inside = aside(threading.current_thread)
    assert inside is not threading.current_thread()
    assert not inside.is_alive()


def test_an_error_aside_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0)


def test_the_number_of_threads_set_aside_holds_everywhere() -> None:
    before = torch.get_num_threads()
    try:
        aside(lambda: torch.set_num_threads(1))
        assert aside(torch.get_num_threads) == 1
    finally:
        torch.set_num_threads(before)


def test_a_model_is_loaded_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[threading.Thread] = []

    def note(*_: object) -> None:
        seen.append(threading.current_thread())
        raise UnsupportedModel("enough")

    monkeypatch.setattr(torch_engine, "_load", note)
    with pytest.raises(UnsupportedModel, match="enough"):
        torch_engine.load(None, EngineOptions())
    assert seen[0] is not threading.current_thread()
