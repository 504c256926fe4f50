"""What a spec comes to on a model: its prompt, what its strategy may know, the past of a fork; or why it cannot run."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from superpose.engine import EngineInfo, Prompt, Tokenizer
from superpose.problems import BadInput
from superpose.replay import Past, relabelled, suffices
from superpose.spec import RunSpec
from superpose.strategy import Setting
from superpose.texts import TokenTexts

State = Literal["none", "rebuilt", "restarted", "new"]


class StrategyFailed(RuntimeError):
    """A strategy raised or returned something that cannot be fed; the message is a sentence."""


class Plan(NamedTuple):
    """A spec that was checked against a model: all that a decoder needs to begin."""

    spec: RunSpec
    prompt: Prompt
    transition: list[int]
    past: Past | None = None  # what a fork begins with
    state: State = "new"  # how the strategy's state of a fork is come by

    @property
    def positions(self) -> int:
        """What its lane holds at most."""
        return len(self.prompt.token_ids) + len(self.transition) + self.spec.T_total


def branch(work: Plan, past: Past, parent: dict[str, Any], info: EngineInfo) -> Plan:
    """The plan of a fork; `parent` is its parent's spec.

    Raises BadInput where the model or the spec does not fit what the parent recorded.
    """
    spec, strategy = work.spec, work.spec.strategy
    if not past.prompt:
        raise BadInput(
            "fork.run",
            "the run to branch from has not started or does not tell its prompt: there is nothing to begin with",
        )
    if past.prompt != work.prompt.token_ids:
        raise BadInput(
            "model", f"{info.model} reads the prompt as other tokens than the parent's model did; a fork needs the same"
        )
    past = relabelled(past, parent["T_e"] > 0, strategy, spec.T_e)
    if spec.T_e == 0 and not any(event["phase"] == "thinking" for event in past.steps):
        work = work._replace(transition=[])
    used = sum(event["phase"] != "transition" for event in past.steps)
    if used >= spec.T_total:
        raise BadInput(
            "T_total", f"T_total must be above the {used} steps that the fork begins with; got {spec.T_total}"
        )
    tokens = [each["id"] for event in past.steps for each in [event["token"], *event["fed"]]]
    tokens += spec.fork.mixture.ids if spec.fork and spec.fork.mixture else []
    if max(tokens, default=0) >= info.vocab:
        raise BadInput("fork.mixture", f"token {max(tokens)} is not in the vocabulary of {info.vocab} of {info.model}")
    state: State = "new"
    if strategy.to_json() == parent["strategy"]:
        memory = strategy.memory()
        state = "none" if memory == "nothing" else "rebuilt" if suffices(strategy, past.steps) else "restarted"
    told = past.following
    temperature: float = parent["temperature"]
    if told is not None and told["phase"] == "answer" and parent["answer"]["temperature"] is not None:
        temperature = parent["answer"]["temperature"]
    return work._replace(past=past._replace(temperature=temperature), state=state)


def plan(spec: RunSpec, info: EngineInfo, tokenizer: Tokenizer) -> Plan:
    """The spec with its rendered prompt. Raises BadInput when the model cannot run it."""
    try:
        needed, _ = reads(spec)
    except StrategyFailed as error:
        raise BadInput("strategy", str(error)) from error
    if needed > info.vocab:
        field = "k" if "k" in type(spec.strategy).model_fields else ""
        raise BadInput(
            f"strategy.{field}".rstrip("."),
            f"{field or spec.strategy.name} asks for {needed} candidates; "
            f"{info.model} has a vocabulary of {info.vocab}",
        )
    try:
        prompt = tokenizer.chat(spec.system, spec.user)
        thinks = spec.strategy.thinks and (spec.T_e > 0 or spec.fork is not None)  # a fork's past may have thought
        transition = tokenizer.encode_template(spec.transition_text) if thinks and spec.transition_text else []
    except ValueError as refused:
        raise BadInput("user", str(refused)) from refused
    work = Plan(spec, prompt, transition)
    over = work.positions - info.context
    if over > 0:
        raise BadInput(
            "user",
            f"the prompt is {len(prompt.token_ids)} tokens long; with T_total {spec.T_total} and the transition "
            f"that is {over} tokens over the model's context of {info.context}",
        )
    return work


def reads(spec: RunSpec) -> tuple[int, float]:
    """How many candidates and which mass the spec's strategy reads. Raises StrategyFailed for nonsense."""
    strategy = spec.strategy
    try:
        support, mass = strategy.support(), strategy.mass()
        sound = isinstance(support, int) and support >= 0 and 0 < float(mass) <= 1
    except Exception as error:  # foreign code, as in `mix`
        raise StrategyFailed(f"strategy {strategy.name} raised {type(error).__name__}: {error}") from error
    if not sound:
        raise StrategyFailed(
            f"strategy {strategy.name} reads {support!r} candidates up to {mass!r}; a whole number and 0 to 1 are due"
        )
    return support, float(mass)


def setting(spec: RunSpec, info: EngineInfo, tokenizer: Tokenizer, texts: TokenTexts) -> Setting:
    """What a strategy may know of a run on this model."""
    return Setting(
        spec.seed, spec.temperature, spec.T_e, spec.T_total, spec.filters, info.end_marker, info.eog_ids,
        tokenizer.encode_template, texts.__getitem__, info.parameters, info.embedding_scale,
    )  # fmt: skip


def repetition(spec: RunSpec, seeds: int) -> list[str]:
    """What a careful colleague would say of running a spec with so many seeds."""
    if seeds < 2:
        return []
    if spec.temperature == 0 and spec.answer_temperature == 0:
        return [f"At temperature 0 all {seeds} seeds draw the same tokens."]
    if spec.strategy.deterministic and spec.T_e > 0:
        same = f"{spec.strategy.name} is deterministic: all {seeds} seeds think the same steps"
        if spec.answer_temperature == 0:
            return [f"{same}, and answer the same at temperature 0."]
        return [f"{same}; only their answers are drawn anew."]
    return []
