"""A recorded run as the beginning of another: what it was fed, what it believed, how well a replay agrees.

Pure functions of events. A fork at step n begins with the events before step n of its parent, feeds the recorded
mixtures again and goes on; what the parent recorded at step n tells how exact that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from superpose.events import Event, Replay, State
from superpose.problems import BadInput
from superpose.strategy import Strategy
from superpose.types import Distribution, FloatArray, GaussianNoise, IntArray, Mixture

EXACT = 1e-6  # in a probability: what one pass over many positions rounds otherwise than many passes over one

# What begins the past of a run that might think and continues a chat: its answer is no whole generation.
_UNTHOUGHT: Event = {
    "type": "phase_ended", "phase": "thinking", "ended_by": "T_e", "steps": 0, "token": None, "text": "",
    "reason": "T_e was 0 in the run that this one continues",
}  # fmt: skip

Feeds = Mapping[int, tuple[IntArray, FloatArray]]  # step -> ids and weights of a mixture with more than are listed


class Past(NamedTuple):
    """The recorded beginning of a run: events before a step, and the step itself if it was recorded."""

    prompt: list[int]  # token ids; empty for a run that never started
    events: list[Event]  # `step` and `phase_ended`
    following: Event | None
    temperature: float = 1.0  # at which the following step was believed

    @property
    def steps(self) -> list[Event]:
        """The steps among the events."""
        return [event for event in self.events if event["type"] == "step"]


def cut(events: Iterable[Event], step: int) -> Past:
    """What a run had done before step `step`. Raises BadInput when it did not get that far.

    The end of a phase belongs to what follows it, and without a step that follows only the end of thinking counts. A
    fork has its parent's steps before it has started: then the events are read on until they tell the prompt.
    """
    prompt: list[int] = []
    kept: list[Event] = []
    following: Event | None = None
    count = 0
    for event in events:
        match event["type"]:
            case "run_started" if event["prompt"]:  # an imported file may not tell it
                prompt = event["prompt"]["token_ids"]
            case "step" if event["step"] == step:
                following = event
            case "step" if following is None:
                kept.append(event)
                count += 1
            case "phase_ended" if (
                following is None and event["phase"] == "thinking" and event["ended_by"] != "cancelled"
            ):
                kept.append(event)
        if following is not None and prompt:
            break
    if step > count:
        raise BadInput("fork.step", f"fork.step must be at most {count}, the steps that the run has; got {step}")
    return Past(prompt, kept, following)


def relabelled(past: Past, could_think: bool, child: Strategy, T_e: int) -> Past:
    """The same past in the phases of a child whose strategy or `T_e` rules other phases than its parent's.

    A strategy of the whole generation has no thinking; one that thinks continues what its parent's generation began.
    `could_think` tells of the parent: then a past all of answer was a whole generation, else a plain chat.
    """
    answered = all(event["phase"] == "answer" for event in past.events)
    if child.thinks and not could_think:
        chat = answered and past.events and T_e > 0
        return past._replace(events=[_UNTHOUGHT, *past.events]) if chat else past
    if child.thinks != (could_think and answered):
        return past
    phase = "thinking" if child.thinks else "answer"
    events = [{**event, "phase": phase} for event in past.events if event["type"] == "step"]
    return past._replace(events=events)


def copies(past: Past, seed: int) -> list[Event]:
    """The events of a past as those of another run; noise keeps the seed that it was drawn with."""
    copied = [{key: event[key] for key in event if key not in ("run", "seq")} for event in past.events]
    for event in copied:
        if "noise" in event:
            event.setdefault("noise_seed", seed)
    return copied


def is_partial(event: Event, fed: Mixture) -> bool:
    """Whether some of what a recorded step was fed was not kept."""
    return "fed_rest" in event and len(fed.ids) < len(event["fed"]) + event["fed_rest"]["count"]


def mixture_of(event: Event, seed: int, feeds: Feeds) -> Mixture:
    """What a recorded step was fed. Candidates that were not kept are missing; the others share their weight.

    Raises ValueError for a step that says what no mixture can be.
    """
    if event["step"] in feeds:
        ids, weights = feeds[event["step"]]
    else:
        # In the order of belief, as strategies mix: sums in another order round otherwise.
        rank = {each["id"]: place for place, each in enumerate(event["believed"])}
        fed = sorted(event["fed"], key=lambda each: rank.get(each["id"], len(rank)))
        ids = np.array([each["id"] for each in fed], np.int32)
        weights = np.array([each["weight"] for each in fed], np.float32)
    if "fed_rest" in event:
        with np.errstate(divide="ignore", invalid="ignore"):  # those that cancel out the mixture refuses
            weights = (weights / weights.sum(dtype=np.float64)).astype(np.float32)
    gamma = event.get("noise")
    noise = None if gamma is None else GaussianNoise(gamma, event.get("noise_seed", seed), event["step"])
    return Mixture(ids, weights, event["combine"], rescale=event.get("rescale"), noise=noise)


def belief_of(event: Event) -> Distribution:
    """What a recorded step believed, as far as it was recorded."""
    drawn = event.get("drawn") or event["token"]
    return Distribution(
        np.array([each["id"] for each in event["believed"]], np.int32),
        np.array([each["probability"] for each in event["believed"]], np.float32),
        event["tail"],
        event["entropy"],
        event["entropy_raw"],
        drawn["id"],
        drawn["probability"] or 0.0,
    )


def suffices(strategy: Strategy, steps: Iterable[Event]) -> bool:
    """Whether the recorded beliefs hold all that the strategy's state follows from."""
    if strategy.memory() == "facts":
        return True
    needed = strategy.support()
    return needed > 0 and all(len(event["believed"]) >= needed or event["tail"] == 0 for event in steps)


def difference(d: Distribution, recorded: Distribution) -> float:
    """The largest difference in a probability between a belief and a recorded one, over what was recorded."""
    found = dict(zip(d.ids.tolist(), d.probs.tolist(), strict=True))
    unlisted = float(d.probs[-1]) if d.tail > 0 else 0.0  # the most that a candidate outside the list can have
    pairs = zip(recorded.ids.tolist(), recorded.probs.tolist(), strict=True)
    worst: float = max(abs(p - found[token]) if token in found else max(0.0, p - unlisted) for token, p in pairs)
    return worst


def report(steps: int, error: float | None, state: State, *, partial: bool) -> Replay:
    """How well a replay went, in numbers and in words; `partial` = some of what was fed was not kept."""
    if steps == 0:
        words = "nothing to replay"
    elif error is None:
        words = "replay not compared: nothing was recorded after it"
    elif error <= EXACT:
        words = "replay exact"
    else:
        words = f"replay differs by {error:.2g}"
    if partial:
        words += "; of some steps only the heaviest candidates were kept"
    state_words = {
        "none": "the strategy keeps no state",
        "rebuilt": "strategy state rebuilt",
        "restarted": "strategy state restarted",
        "new": "the strategy begins here",
        "kept": "strategy state kept",
    }[state]
    return {"steps": steps, "error": error, "words": words, "state": state, "state_words": state_words}
