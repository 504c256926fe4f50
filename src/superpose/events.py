"""What happened in a run, as JSON: the events, and the record that they fold into.

Plain dictionaries: an event is written as it is made, and a record is a pure function of the events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from superpose.types import Combine, Kind, Rescale

Phase = Literal["thinking", "transition", "answer"]
Status = Literal["queued", "running", "paused", "finished", "cancelled", "failed"]
State = Literal["none", "rebuilt", "restarted", "new", "kept"]  # kept: its own, after a pause that outlived the cache
EndedBy = Literal["T_e", "T_total", "end_marker", "end_of_text", "strategy", "cancelled"]
TERMINAL = frozenset({"run_finished", "run_cancelled", "run_failed"})


class Believed(TypedDict):
    """A candidate and its probability in the whole vocabulary."""

    id: int
    text: str
    probability: float


class Fed(TypedDict):
    """A candidate and its weight in the mixture."""

    id: int
    text: str
    weight: float


class FedRest(TypedDict):
    """What was fed beyond the 64 heaviest."""

    count: int
    weight: float


class Token(TypedDict):
    """The token that stands for a step; `probability` is null for a forced one outside the candidates."""

    id: int
    text: str
    probability: float | None


class StepRecord(TypedDict):
    """One forward pass: what was believed, and what was fed."""

    step: int
    phase: Phase
    kind: Kind
    token: Token  # the most probable candidate fed, the drawn or the forced token
    text: str  # readable text that this step completed
    fed: list[Fed]  # heaviest first, at most 64
    fed_rest: NotRequired[FedRest]
    combine: Combine
    rescale: NotRequired[Rescale | float]
    noise: NotRequired[float]  # its gamma
    noise_seed: NotRequired[int]  # of a step copied from a parent with another seed
    drawn: NotRequired[Believed]  # where it is not simply what was fed; in the answer it is the text
    believed: list[Believed]  # likeliest first, at most 64
    tail: float  # probability outside `believed`
    entropy: float  # nats, at the temperature
    entropy_raw: float  # nats, at temperature 1
    norm_ratio: float | None  # length of what was fed over the mean length of a token's embedding
    reason: str | None
    t_ms: float  # since the step before, or since the prompt was read


class PromptRecord(TypedDict):
    """The prompt as the template rendered it."""

    text: str
    token_ids: list[int]


class Replay(TypedDict):
    """How well a run that feeds recorded mixtures again agrees with the record."""

    steps: int  # fed again
    error: float | None  # largest difference in a probability at the step after them; null = nothing to compare
    words: str
    state: State  # of the strategy
    state_words: str


class PhaseRecord(TypedDict):
    """How thinking or the answer went."""

    text: str
    steps: int
    ended_by: EndedBy | None
    reason: str | None


class Timing(TypedDict):
    """Seconds, and steps per second of decoding."""

    queue_s: float
    prefill_s: float
    decode_s: float
    tokens_per_second: float


class EngineRecord(TypedDict):
    """What ran a run; the fingerprint is the key to making it again."""

    name: str
    model: str
    device: str
    dtype: str
    vocab: int
    fingerprint: str


class RunRecord(TypedDict):
    """A whole run: `superpose run --json`, `GET /api/runs/{id}`, exports."""

    id: str
    status: Status
    created_at: str  # ISO 8601, UTC
    name: str | None
    tags: list[str]
    spec: dict[str, Any]
    engine: EngineRecord | None
    prompt: PromptRecord | None
    steps: list[StepRecord]
    thinking: PhaseRecord
    answer: PhaseRecord
    text: str
    timing: Timing
    replay: Replay | None  # of a fork
    error: str | None


class _Stored(TypedDict):
    run: str
    seq: int  # from 0, without gaps


class RunQueued(_Stored):
    """The first event: the frozen spec."""

    type: Literal["run_queued"]
    spec: dict[str, Any]
    created_at: str


class RunStarted(_Stored):
    """A lane is free; the prompt is read from now on."""

    type: Literal["run_started"]
    prompt: PromptRecord | None  # null where an imported file did not tell
    engine: EngineRecord | None
    queue_s: float


class Prefilled(_Stored):
    """The prompt is read."""

    type: Literal["prefilled"]
    prefill_s: float


class StepMade(StepRecord, _Stored):
    """One forward pass."""

    type: Literal["step"]


class PhaseEnded(_Stored):
    """Thinking or the answer is over, and why."""

    type: Literal["phase_ended"]
    phase: Literal["thinking", "answer"]
    ended_by: EndedBy | None  # null where an imported file did not tell
    reason: str | None
    steps: int
    token: Believed | None  # that ended it
    text: str  # readable text that was still waiting


class RunPaused(_Stored):
    """The run waits; its cache is kept for `held_s` seconds."""

    type: Literal["run_paused"]
    step: int
    held_s: float


class RunResumed(_Stored):
    """The run goes on, or waits for a lane to go on in."""

    type: Literal["run_resumed"]
    status: Literal["queued", "running"]


class LaneReleased(_Stored):
    """The cache of a paused run was given up: it will go on by replay."""

    type: Literal["lane_released"]


class Replayed(Replay, _Stored):
    """Recorded mixtures were fed again."""

    type: Literal["replayed"]


class RunEnded(_Stored):
    """The run is over: to its end, or stopped."""

    type: Literal["run_finished", "run_cancelled"]
    timing: Timing
    error: NotRequired[str]  # of a run that ended with the process: nobody had asked for it


class RunFailed(_Stored):
    """The run is over, with what went wrong in words; no timing where its process died."""

    type: Literal["run_failed"]
    error: str
    timing: NotRequired[Timing]


RunEvent = (
    RunQueued | RunStarted | Prefilled | StepMade | PhaseEnded | RunPaused | RunResumed | LaneReleased | Replayed
    | RunEnded | RunFailed
)  # fmt: skip
Event = dict[str, Any]  # a RunEvent; `run` and `seq` are set when it is stored


def queued(spec: dict[str, Any], created_at: str) -> Event:
    """The first event: the frozen spec."""
    return {"type": "run_queued", "spec": spec, "created_at": created_at}


def is_ordinary(event: Event | StepRecord) -> bool:
    """Whether a step may be part of an ordinary generation: of a mixture, and of the transition, the answer follows."""
    return event["phase"] == "answer" or (event["phase"] == "thinking" and event["kind"] != "mixture")


def answered(record: RunRecord) -> str:
    """The text that counts as a run's answer: what its answer phase said, and all of an ordinary generation.

    The baseline `sample` draws in both phases and has no transition: its thinking is the beginning of its answer.
    """
    ordinary = all(map(is_ordinary, record["steps"]))
    return record["thinking"]["text"] * ordinary + record["answer"]["text"]


def fold(run: str, events: Iterable[Event], name: str | None = None, tags: Iterable[str] = ()) -> RunRecord:
    """The record of a run, from its events in order."""
    record: RunRecord = {
        "id": run, "status": "queued", "created_at": "", "name": name, "tags": list(tags), "spec": {},
        "engine": None, "prompt": None, "steps": [],
        "thinking": {"text": "", "steps": 0, "ended_by": None, "reason": None},
        "answer": {"text": "", "steps": 0, "ended_by": None, "reason": None},
        "text": "",
        "timing": {"queue_s": 0.0, "prefill_s": 0.0, "decode_s": 0.0, "tokens_per_second": 0.0},
        "replay": None, "error": None,
    }  # fmt: skip
    texts: list[tuple[Phase, str]] = []
    for event in events:
        match event["type"]:
            case "run_queued":
                record["spec"], record["created_at"] = event["spec"], event["created_at"]
            case "run_started":
                record["status"], record["prompt"], record["engine"] = (
                    "running",
                    event["prompt"],
                    event["engine"],
                )
                record["timing"]["queue_s"] = event["queue_s"]
            case "prefilled":
                record["timing"]["prefill_s"] = event["prefill_s"]
            case "step":
                step: Any = {key: event[key] for key in event if key not in ("type", "run", "seq")}
                record["steps"].append(step)
                texts.append((event["phase"], event["text"]))
                if event["phase"] != "transition":
                    record["thinking" if event["phase"] == "thinking" else "answer"]["steps"] += 1
            case "run_paused":
                record["status"] = "paused"
            case "run_resumed":
                record["status"] = event["status"]
            case "replayed" if event["state"] != "kept":  # else its own: a pause that outlived the cache
                replay: Any = {key: event[key] for key in event if key not in ("type", "run", "seq")}
                record["replay"] = replay
            case "phase_ended":
                phase = record["thinking" if event["phase"] == "thinking" else "answer"]
                phase["ended_by"], phase["reason"] = event["ended_by"], event["reason"]
                texts.append((event["phase"], event["text"]))
            case "run_finished" | "run_cancelled" | "run_failed":
                record["status"] = event["type"].removeprefix("run_")
                record["timing"] = event.get("timing") or record["timing"]
                record["error"] = event.get("error")
    record["thinking"]["text"] = "".join(text for phase_name, text in texts if phase_name == "thinking")
    record["answer"]["text"] = "".join(text for phase_name, text in texts if phase_name == "answer")
    record["text"] = "".join(text for _, text in texts)
    return record
