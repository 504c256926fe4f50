"""Questions to the engine's thread: answered between steps, bounded, and never at a run's expense."""

import threading
import time

import numpy as np
import pytest

from superpose import questions
from superpose.engine import OutOfMemory
from superpose.engines.toy import ToyEngine
from superpose.problems import BadInput
from superpose.questions import Unanswered
from superpose.spec import make_spec
from superpose.types import Mixture
from tests.unit.runs import LONG, ended, run_to_end, told, until

HALVES = Mixture(np.array([65, 66]), np.array([0.5, 0.5]))


class Watched(ToyEngine):
    """Notes which thread asks it; waits in a step while its gate is shut."""

    def __init__(self):
        super().__init__()
        self.threads, self.gate, self.waits = set(), threading.Event(), threading.Event()
        self.gate.set()

    def norm_ratios(self, inputs):
        self.threads.add(threading.current_thread().name)
        return super().norm_ratios(inputs)

    def nearest(self, mixture, count):
        self.threads.add(threading.current_thread().name)
        return super().nearest(mixture, count)

    def step(self, lanes, inputs, asks):
        self.waits.set()
        self.gate.wait(20)
        return super().step(lanes, inputs, asks)


def test_only_the_engines_thread_touches_the_engine_and_runs_stay_as_they_are(lab):
    engine = Watched()
    runner, store = lab(engine)
    assert runner.measure(HALVES).nearest[0].token in (65, 66)  # nothing else wakes the thread
    alone = run_to_end(runner, store)
    run = runner.submit(make_spec(LONG))
    measured = [runner.measure(HALVES) for _ in range(30)]
    assert told(ended(store, run)) == told(alone)
    assert all(each == measured[0] for each in measured)
    assert measured[0].norm_ratio == ToyEngine().norm_ratios([HALVES])[0]
    assert engine.threads == {"superpose-toy"}


def test_who_asks_of_a_busy_model_gets_a_sentence(lab, monkeypatch):
    monkeypatch.setattr(questions, "PATIENCE_S", 0.2)
    engine = Watched()
    runner, store = lab(engine)
    engine.gate.clear()
    run = runner.submit(make_spec({**LONG, "T_e": 5, "T_total": 9}))
    assert engine.waits.wait(10)
    said = []

    def ask():
        with pytest.raises(Unanswered) as refused:
            runner.measure(HALVES)
        said.append(str(refused.value))

    asking = [threading.Thread(target=ask) for _ in range(questions.MOST + 3)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert (
        sorted(said)
        == ["8 others wait for an answer of the model; try again"] * 3 + ["the model was busy for 0.2 s; try again"] * 8
    )
    engine.gate.set()
    assert ended(store, run)["status"] == "finished"
    assert runner.measure(HALVES).norm_ratio  # those who gave up hold no place


def test_an_error_is_told_to_who_asked_and_to_no_run(lab):
    class Full(ToyEngine):
        def nearest(self, mixture, count):
            raise OutOfMemory("the memory is used up")

    runner, store = lab(Full(step_s=0.002))
    run = runner.submit(make_spec(LONG))
    with pytest.raises(OutOfMemory, match="used up"):
        runner.measure(HALVES)
    with pytest.raises(BadInput, match="below 263"):
        runner.measure(Mixture.token(300))
    assert ended(store, run)["status"] == "finished"


def test_nobody_waits_for_a_model_that_is_unloaded(lab):
    engine = Watched()
    runner, _ = lab(engine)
    engine.gate.clear()
    runner.submit(make_spec(LONG))
    assert engine.waits.wait(10)
    said = []

    def ask():
        try:
            said.append(runner.measure(HALVES))
        except Unanswered as refused:
            said.append(str(refused))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    until(lambda: len(runner._questions) == 4)
    closing = threading.Thread(target=runner.close)
    closing.start()
    began = time.monotonic()
    engine.gate.set()
    for thread in [*asking, closing]:
        thread.join(10)
    assert time.monotonic() - began < 5 and len(said) == 4
    with pytest.raises(Unanswered, match="is being unloaded"):
        runner.measure(HALVES)


def test_a_question_that_was_given_up_does_not_count_as_waiting(lab, monkeypatch):
    monkeypatch.setattr(questions, "PATIENCE_S", 0.01)
    engine = Watched()
    runner, _ = lab(engine)
    engine.gate.clear()
    runner.submit(make_spec(LONG))
    assert engine.waits.wait(10)
    for _ in range(questions.MOST + 1):
        with pytest.raises(Unanswered, match="the model was busy"):
            runner.measure(HALVES)
    engine.gate.set()
