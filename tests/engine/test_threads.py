"""The thread in which a model is loaded."""

from __future__ import annotations

import threading

import pytest
import torch

from superpose.engine import EngineOptions, UnsupportedModel
from superpose.engines import torch_engine
from superpose.engines.torch_engine_threads import aside


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
