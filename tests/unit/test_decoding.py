"""The two-phase state machine, driven by hand: no engine, no clock."""

import numpy as np
import pytest

from superpose import rng
from superpose.decoding import Decoder
from superpose.engine import Prompt
from superpose.engines.toy import END, SPECIAL, VOCAB, ByteTokenizer, ToyEngine
from superpose.planning import StrategyFailed, plan
from superpose.problems import BadInput
from superpose.spec import make_spec
from superpose.strategy import Step, Stop, Strategy
from superpose.texts import TokenTexts
from superpose.types import Distribution, Mixture, Sampling

INFO = ToyEngine().info
TOKENIZER = ByteTokenizer()
A, B, C = b"abc"
END_THINK = SPECIAL["</think>"]


def decoder(**spec):
    work = plan(make_spec({"user": "hi", "seed": 5, **spec}), INFO, TOKENIZER)
    return Decoder(work, INFO, TOKENIZER, TokenTexts(TOKENIZER))


def belief(p: dict[int, float], drawn=None):
    ids = sorted(p, key=lambda token: -p[token])
    drawn = ids[0] if drawn is None else drawn
    return Distribution(
        np.array(ids, np.int32), np.array([p[i] for i in ids], np.float32), 0.0, 1.0, 1.1, drawn, p.get(drawn, 0.0)
    )


AB = belief({A: 0.6, B: 0.4})


def drive(run, beliefs):
    """All events, with the same beliefs over and over until the run has ended."""
    events = []
    for i in range(10_000):
        run.ask()
        moved = run.advance(beliefs[min(i, len(beliefs) - 1)])
        events += moved.events
        if moved.then == "end":
            return events
    raise AssertionError("the run never ended")


def ends(events):
    return [(e["phase"], e["ended_by"], e["steps"]) for e in events if e["type"] == "phase_ended"]


def kinds(events):
    return [(e["phase"], e["kind"]) for e in events if e["type"] == "step"]


# -- every way that thinking ends ---------------------------------------------------------------------------


def test_T_e_ends_thinking_and_the_transition_is_forced():
    events = drive(decoder(T_e=3, T_total=5), [AB])
    assert ends(events) == [("thinking", "T_e", 3), ("answer", "T_total", 2)]
    assert (
        kinds(events) == [("thinking", "mixture")] * 3 + [("transition", "injected")] * 2 + [("answer", "sampled")] * 2
    )
    forced = [e["token"]["id"] for e in events if e["type"] == "step" and e["kind"] == "injected"]
    assert forced == [SPECIAL["</think>"], SPECIAL["<think>"]]
    assert [e["step"] for e in events if e["type"] == "step"] == list(range(7))
    assert next(e for e in events if e["type"] == "phase_ended")["reason"] == "T_e = 3 reached"


def test_end_marker_ends_thinking_and_is_not_fed():
    marked = belief({A: 0.9, END_THINK: 0.06, B: 0.04})
    events = drive(decoder(T_e=9, T_total=12), [AB, marked, AB])
    assert ends(events) == [("thinking", "end_marker", 1), ("answer", "T_total", 11)]
    reason = next(e["reason"] for e in events if e["type"] == "phase_ended")
    assert reason == "end marker `</think>` had probability 0.060, at least 0.05"
    fed = [f["id"] for e in events if e["type"] == "step" and e["phase"] == "thinking" for f in e["fed"]]
    assert END_THINK not in fed


def test_end_of_text_among_the_candidates_ends_thinking():
    events = drive(decoder(T_e=9, T_total=9), [belief({A: 0.95, END: 0.05}), AB])
    assert ends(events)[0] == ("thinking", "end_of_text", 0)
    assert kinds(events)[0] == ("transition", "injected")


@pytest.mark.parametrize("end_probability", [None, 0.07])
def test_end_probability_null_or_higher_goes_on(end_probability):
    marked = belief({A: 0.94, END_THINK: 0.06})
    events = drive(decoder(T_e=4, T_total=4, end_probability=end_probability), [marked])
    assert ends(events)[0] == ("thinking", "T_e", 4)


@pytest.fixture(autouse=True, scope="module")
def _test_strategies():
    """Registered here and not at import, so that no other test module sees them."""

    class StopAfter(Strategy, name="test_stop_after"):
        """Ends thinking after n steps; for tests.

        Formula: none.
        """

        n: int = 2

        def support(self) -> int:
            return 1

        def begin(self, run):
            counter = iter(range(100))
            return lambda d, step: Stop("counted enough") if next(counter) == self.n else Mixture.token(A)

    class Faulty(Strategy, name="test_faulty"):
        """Fails in the way that `how` says; for tests.

        Formula: none.
        """

        how: str = "raise"

        def support(self) -> int:
            return 1

        def mix(self, d: Distribution, step: Step):
            match self.how:
                case "raise":
                    raise ZeroDivisionError("by zero")
                case "type":
                    return 5
                case "id":
                    return Mixture.token(VOCAB)
                case "sum":
                    return Mixture(d.ids[:1], np.array([0.5], np.float32))
                case _:
                    return Mixture(d.ids[:1], np.array([np.nan], np.float32))

    yield
    for strategy in (StopAfter, Faulty):
        del Strategy.registry[strategy.name]


def test_a_strategy_may_stop_and_says_why():
    events = drive(decoder(T_e=9, T_total=9, strategy="test_stop_after"), [AB])
    assert ends(events)[0] == ("thinking", "strategy", 2)
    assert next(e["reason"] for e in events if e["type"] == "phase_ended") == "counted enough"


def test_cancel_in_each_phase():
    run = decoder(T_e=2, T_total=9)
    assert ends(run.cancel("stopped")) == [("thinking", "cancelled", 0)]
    run = decoder(T_e=1, T_total=9)
    run.advance(AB)
    assert run.cancel("stopped") == []  # within the transition no phase is open
    run = decoder(T_e=1, T_total=9, transition="")
    run.advance(AB)
    run.advance(AB)
    assert ends(run.cancel("stopped")) == [("answer", "cancelled", 1)]


# -- every way that the answer ends -------------------------------------------------------------------------


def test_a_drawn_end_of_text_ends_the_answer_and_is_no_step():
    events = drive(decoder(T_e=0, T_total=9), [AB, AB, belief({A: 0.6, END: 0.4}, drawn=END)])
    assert ends(events) == [("answer", "end_of_text", 2)]
    assert kinds(events) == [("answer", "sampled")] * 2
    assert events[-1]["token"] == {"id": END, "text": "<|end|>", "probability": pytest.approx(0.4)}


def test_T_e_zero_is_plain_chat_without_transition():
    events = drive(decoder(T_e=0, T_total=3), [AB])
    assert ends(events) == [("answer", "T_total", 3)]
    assert kinds(events) == [("answer", "sampled")] * 3


def test_thinking_may_use_all_of_T_total():
    events = drive(decoder(T_e=3, T_total=3), [AB])
    assert ends(events) == [("thinking", "T_e", 3), ("answer", "T_total", 0)]
    assert kinds(events) == [("thinking", "mixture")] * 3


def test_sample_is_one_seamless_generation():
    """Its phases join inside a character: nothing is fed, flushed or lost between them."""
    euro = "€".encode()
    beliefs = [belief({token: 1.0}) for token in (euro[0], euro[1], euro[2], A)]
    events = drive(decoder(strategy="sample", T_e=2, T_total=4), beliefs)
    assert kinds(events) == [("thinking", "sampled")] * 2 + [("answer", "sampled")] * 2
    assert "".join(e.get("text", "") for e in events) == "€a"
    assert [e["fed"][0]["id"] for e in events if e["type"] == "step"] == [*euro, A]


@pytest.mark.parametrize("end_probability", [0.05, None])
def test_sample_ends_where_it_draws_the_end_of_text(end_probability):
    """However unlikely it was: the baseline is ordinary sampling in both of its phases."""
    unlikely = belief({A: 0.98, END: 0.02}, drawn=END)
    events = drive(decoder(strategy="sample", T_e=9, T_total=20, end_probability=end_probability), [AB, unlikely])
    assert ends(events) == [("thinking", "end_of_text", 1), ("answer", "end_of_text", 0)]
    assert END not in [e["token"]["id"] for e in events if e["type"] == "step"]


def test_the_answer_may_draw_what_a_foreign_strategy_marks_as_sampled():
    """The record tells the fed token's own probability, also where it is not the drawn one."""

    class Other(Strategy, name="test_other"):
        """Feeds b whatever was drawn; for tests.

        Formula: none.
        """

        def support(self) -> int:
            return 1

        def mix(self, d, step):
            return Mixture.token(B, "sampled")

    try:
        (step, *_) = decoder(strategy="test_other", T_e=1, T_total=1).advance(AB).events
    finally:
        del Strategy.registry["test_other"]
    assert step["token"] == {"id": B, "text": "b", "probability": pytest.approx(0.4)}


# -- what is asked ------------------------------------------------------------------------------------------


def test_what_is_asked_in_each_phase():
    answer = {"temperature": 0.9, "top_p": 0.8, "top_k": 3, "min_p": 0.1}
    run = decoder(T_e=1, T_total=3, temperature=0.5, answer=answer, strategy={"name": "non_uniform", "k": 40})
    asks = []
    for _ in range(5):
        asks.append(run.ask())
        run.advance(AB)
    assert [ask.temperature for ask in asks] == [0.5, 0.5, 0.5, 0.9, 0.9]
    assert [ask.support for ask in asks] == [40, 16, 16, 16, 16]
    assert {ask.filters for ask in asks} == {Sampling(0.8, 3, 0.1)}
    assert [ask.u for ask in asks] == [rng.uniform(5, i) for i in range(5)]


def test_an_early_end_without_transition_asks_anew_at_the_answers_temperature():
    marked = belief({A: 0.5, END_THINK: 0.5})
    run = decoder(T_e=5, T_total=5, transition="", answer={"temperature": 0.1})
    assert run.ask().temperature == 0.8
    moved = run.advance(marked)
    assert (moved.then, moved.mixture, ends(moved.events)) == ("again", None, [("thinking", "end_marker", 0)])
    assert run.ask().temperature == 0.1
    assert run.advance(AB).events[0]["phase"] == "answer"


def test_nucleus_asks_for_its_mass_only_while_thinking():
    run = decoder(strategy={"name": "nucleus", "top_p": 0.9}, T_e=1, T_total=2, transition="")
    ask = run.ask()
    assert (ask.support, ask.mass) == (16, 0.9)
    run.advance(AB)
    assert (run.ask().support, run.ask().mass) == (16, 0.0)


# -- what is recorded ---------------------------------------------------------------------------------------


def test_a_step_tells_belief_and_feed_apart():
    run = decoder(strategy={"name": "inverse_p", "k": 2}, T_e=1, T_total=1)
    (step, *_) = run.advance(belief({A: 0.6, B: 0.3, C: 0.1})).events
    assert step["token"] == {"id": A, "text": "a", "probability": pytest.approx(0.6)}
    assert [(f["id"], round(f["weight"], 6)) for f in step["fed"]] == [(B, 0.666667), (A, 0.333333)]
    assert [b["id"] for b in step["believed"]] == [A, B, C]
    assert step["tail"] == 0


def test_more_than_64_fed_tokens_are_summed_up():
    p = {token: 1 / 100 for token in range(100)}
    run = decoder(strategy={"name": "nucleus", "top_p": 1.0}, T_e=1, T_total=1, end_probability=None)
    (step, *_) = run.advance(belief(p)).events
    assert len(step["fed"]) == 64
    assert step["fed_rest"]["count"] == 36
    assert step["fed_rest"]["weight"] + sum(f["weight"] for f in step["fed"]) == pytest.approx(1)
    assert sum(b["probability"] for b in step["believed"]) + step["tail"] == pytest.approx(1)


def test_a_forced_token_outside_the_candidates_has_no_made_up_probability():
    run = decoder(T_e=1, T_total=2)
    run.advance(AB)
    (step,) = run.advance(AB).events
    assert (step["kind"], step["token"]["probability"]) == ("injected", None)


def test_text_is_released_by_whole_characters():
    grin = "😀".encode()
    events = drive(decoder(T_e=0, T_total=5), [belief({token: 1.0}) for token in (*grin, A)])
    assert [e["text"] for e in events if e["type"] == "step"] == ["", "", "", "😀", "a"]
    assert events[0]["token"]["text"] == "⟨F0⟩"


def test_a_character_cut_by_the_end_is_marked():
    events = drive(decoder(T_e=0, T_total=1), [belief({0xF0: 1.0})])
    assert events[-1]["text"] == "�"


# -- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("raise", "it raised ZeroDivisionError: by zero"),
        ("type", "it returned int where a Mixture or Stop is due"),
        ("id", f"it fed token {VOCAB}; the vocabulary ends at {VOCAB - 1}"),
        ("sum", "a mixture's weights must sum to 1; they sum to 0.5"),
        ("nan", "a mixture's weights must be finite numbers"),
    ],
)
def test_a_faulty_strategy_is_named(how, sentence):
    run = decoder(strategy={"name": "test_faulty", "how": how})
    with pytest.raises(StrategyFailed, match="strategy test_faulty failed at step 0") as failure:
        run.advance(AB)
    assert sentence in str(failure.value)


def test_a_prompt_over_the_context_says_by_how_much():
    with pytest.raises(BadInput, match=r"that is 7 tokens over the model's context of 4096") as refused:
        # 2 role markers + 4000 bytes + 2 transition tokens + 99
        plan(make_spec({"user": "x" * 4000, "T_total": 99, "T_e": 9}), INFO, TOKENIZER)
    assert refused.value.field == "user"


def test_k_above_the_vocabulary_is_refused():
    tiny = ToyEngine().info.__class__(**{**INFO.__dict__, "vocab": 4})
    with pytest.raises(BadInput, match="k asks for 5 candidates; toy has a vocabulary of 4") as refused:
        plan(make_spec({"user": "x"}), tiny, TOKENIZER)
    assert refused.value.field == "strategy.k"


def test_a_template_that_refuses_is_an_input_error():
    class Refusing(ByteTokenizer):
        def chat(self, system: str, user: str) -> Prompt:
            raise ValueError("this template takes no system prompt")

    with pytest.raises(BadInput, match="takes no system prompt"):
        plan(make_spec({"user": "x"}), INFO, Refusing())
