"""Thinking and its end with real tokenizers: markers of one and of several tokens, none at all, several end tokens."""

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from superpose.decoding import Decoder
from superpose.engine import EngineInfo
from superpose.engines.chat import marker
from superpose.engines.torch_engine_tokenizer import HubTokenizer
from superpose.planning import plan
from superpose.spec import make_spec
from superpose.texts import TokenTexts
from superpose.types import Distribution
from tests.engine.test_tokenizer import CHATML, byte_level

PREFILLED = CHATML.replace("assistant\n", "assistant\n<think>\n")


def hub(backend, controls, template=CHATML, eos="<|im_end|>"):
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in controls])
    return HubTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, eos_token=eos))


def words():
    """A vocabulary of whole words that cannot write a marker."""
    known = ["[UNK]", "hi", "user", "assistant", "so", "yes"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


CHAT = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
QWEN3 = [*CHAT, "<think>", "</think>"]  # markers are one token each, as in Qwen3 and R1


def run(tokenizer, believed, **spec):
    """Events of a run whose belief at each step is this dictionary of token texts; the last one for ever."""
    info = EngineInfo(
        name="scripted", model="scripted", vocab=1000, width=8, max_lanes=1, context=500, device="cpu", dtype="float32",
        eog_ids=tokenizer.eog_ids, end_marker=marker(tokenizer), invariance="any_n", fingerprint="x", checks=(),
    )  # fmt: skip
    given = {"user": "hi", "T_e": 6, "T_total": 12, "seed": 1, **spec}
    work = plan(make_spec(given), info, tokenizer)
    decoder = Decoder(work, info, tokenizer, TokenTexts(tokenizer))
    events = []
    for number in range(200):
        decoder.ask()
        p = believed[min(number, len(believed) - 1)]
        ids = [tokenizer.encode_template(text)[0] for text in p]
        drawn = ids[0]
        d = Distribution(
            np.array(ids, np.int32),
            np.array(list(p.values()), np.float32),
            0.0,
            0.5,
            0.5,
            drawn,
            float(p[next(iter(p))]),
        )
        moved = decoder.advance(d)
        events += moved.events
        if moved.then == "end":
            return work, events
    raise AssertionError("the run never ended")


def thinking_end(events):
    return next((e["ended_by"], e["steps"], e["reason"]) for e in events if e["type"] == "phase_ended")


def fed(events):
    return [event["token"]["text"] for event in events if event["type"] == "step"]


SURE = {"l": 0.9, "t": 0.1}


def test_a_marker_of_one_token_ends_thinking_and_is_forced_as_one():
    tokenizer = hub(byte_level(), QWEN3)
    assert len(marker(tokenizer)) == 1
    _, events = run(tokenizer, [SURE, {"l": 0.9, "</think>": 0.1}, SURE])
    assert thinking_end(events)[:2] == ("end_marker", 1)
    assert fed(events)[1:3] == ["</think>", "<think>"]


def test_a_marker_of_several_tokens_ends_thinking_by_its_first():
    tokenizer = hub(byte_level(), CHAT)
    first, *rest = marker(tokenizer)
    assert rest and tokenizer.token_bytes(first) == b"<"
    _, events = run(tokenizer, [SURE, SURE, {"l": 0.9, "<": 0.06, "t": 0.04}, SURE])
    how, steps, reason = thinking_end(events)
    assert (how, steps) == ("end_marker", 2) and "`<` had probability 0.060" in reason
    assert "".join(fed(events)).startswith("ll</think><think>")  # forced whole, token by token
    _, later = run(tokenizer, [{"l": 0.9, "<": 0.04, "t": 0.06}])
    assert thinking_end(later)[0] == "T_e"


@pytest.mark.parametrize("strategy", ["soft_thinking", "multiplex"])
@pytest.mark.parametrize("controls", [CHAT, QWEN3])
def test_papers_own_end_rules_know_the_marker(strategy, controls):
    tokenizer = hub(byte_level(), controls)
    top = "</think>" if controls is QWEN3 else "<"
    _, events = run(tokenizer, [SURE, {top: 0.99, "l": 0.01}, SURE], strategy=strategy)
    assert thinking_end(events)[:2] == ("strategy", 1)
    assert f"`{top}`" in thinking_end(events)[2]
    assert "".join(fed(events)[1:]).startswith("</think>")


def test_a_think_tag_that_the_template_has_written_stays_in_the_prompt_as_one_token():
    tokenizer = hub(byte_level(), QWEN3, PREFILLED)
    work, events = run(tokenizer, [SURE, {"</think>": 1.0}, SURE])
    begins, line = work.prompt.token_ids[-2:]
    assert tokenizer.token_bytes(begins) == b"<think>" and tokenizer.token_bytes(line) == b"\n"
    assert thinking_end(events)[:2] == ("end_marker", 1)


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
def test_every_end_of_text_ends_thinking_and_the_answer(end):
    tokenizer = hub(byte_level(), QWEN3)
    _, events = run(tokenizer, [SURE, {"l": 0.9, end: 0.1}, SURE])
    assert thinking_end(events)[:2] == ("end_of_text", 1)
    _, events = run(tokenizer, [SURE, SURE, {end: 1.0}], T_e=0)
    assert thinking_end(events) == ("end_of_text", 2, f"end of text `{end}` was drawn")


STRATEGIES = ["non_uniform", "soft_thinking", "swi_reasoning", "multiplex", "think_router", "mixture_of_inputs"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_vocabulary_without_any_marker_thinks_to_the_end_of_its_steps(strategy):
    tokenizer = hub(words(), ["<|im_end|>"], "hi")
    assert marker(tokenizer) == ()
    unknown = {"so": 0.7, "[UNK]": 0.3}  # what a marker would be written as
    _, events = run(tokenizer, [unknown], strategy=strategy, transition="yes")
    ends = {event["phase"]: event["ended_by"] for event in events if event["type"] == "phase_ended"}
    assert ends in ({"thinking": "T_e", "answer": "T_total"}, {"answer": "T_total"})
