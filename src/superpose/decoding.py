"""The two-phase state machine of one run: a distribution in, events and the next mixture out.

No engine and no clock inside. `ask` says what the decoder wants to know of the coming position; `advance` takes
that belief and answers with the events and the mixture of the position, and with what to do next: "feed" the
mixture, "again" (read the same position out anew, the question has changed) or "end".
"""

from __future__ import annotations

import codecs
from collections import deque
from typing import Literal, NamedTuple

import numpy as np

from superpose import rng
from superpose.engine import EngineInfo, Readout, Tokenizer
from superpose.events import Believed, EndedBy, Event, Phase
from superpose.planning import Plan, StrategyFailed, reads, setting
from superpose.replay import Past, belief_of
from superpose.strategy import Mix, Step, Stop
from superpose.texts import TokenTexts
from superpose.types import Distribution, FloatArray, Mixture

SHOWN = 16  # candidates a record shows at least
MOST_SHOWN = 64
_AHEAD = 16  # steps


class Advance(NamedTuple):
    """What one call of `advance` led to; `mixture` is that of its step event, if there is one."""

    events: list[Event]
    mixture: Mixture | None
    then: Literal["feed", "again", "end"]


class Decoder:
    """One run on its way. `step` counts records from 0; `finished` is true once it is over."""

    def __init__(self, work: Plan, info: EngineInfo, tokenizer: Tokenizer, texts: TokenTexts) -> None:
        self.spec = work.spec
        self.step = 0
        self.finished = False
        self._info = info
        self._tokenizer = tokenizer
        self._texts = texts
        support, self._mass = reads(work.spec)
        self._support = min(support, info.vocab)
        self._forced = deque(work.transition)
        self._used = 0  # thinking and answer steps; the transition is not counted
        self._in_phase = 0
        self._asked: dict[Phase, Readout] = {}
        self._drawn: tuple[int, list[float]] = -1, []  # random numbers, and which of the run's
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._mixes_throughout = not work.spec.strategy.thinks
        self._phase: Phase = "thinking" if work.spec.T_e and not self._mixes_throughout else "answer"
        self._setting = setting(work.spec, info, tokenizer, texts)
        self._mix = self._begin()
        self._edit = work.spec.fork.mixture.mixture() if work.spec.fork and work.spec.fork.mixture else None
        self.state = work.state
        if work.past is not None:
            self._recall(work.past)

    def ask(self) -> Readout:
        """What is to be known about the position of the next `advance`."""
        asked = self._asked.get(self._phase)
        if asked is None:
            asked = self._asked[self._phase] = self._question()
        return Readout(asked.temperature, asked.support, asked.filters, self._luck(), asked.mass)

    def _question(self) -> Readout:
        """What is asked at every position of this phase, but for the random number."""
        spec = self.spec
        mixes = self._phase == "thinking" or self._mixes_throughout
        mass = self._mass if mixes and self._support == 0 else 0.0
        return Readout(
            temperature=spec.temperature if self._phase != "answer" else spec.answer_temperature,
            support=0 if mass == 1 else min(max(SHOWN, self._support if mixes else 0), self._info.vocab),
            filters=spec.filters,
            mass=0.0 if mass == 1 else mass,
        )

    def _luck(self) -> float:
        """The random number of this step's draw.

        Some are made at once: behind a pass, which has driven all else out of a processor's caches, a first one takes
        40 microseconds and each more 2.
        """
        first, at = divmod(self.step, _AHEAD)
        if first != self._drawn[0]:
            steps = range(first * _AHEAD, (first + 1) * _AHEAD)
            self._drawn = first, [rng.uniform(self.spec.seed, step) for step in steps]
        return self._drawn[1][at]

    def advance(self, d: Distribution) -> Advance:
        """The events of this position and what to feed at it. Raises StrategyFailed."""
        events: list[Event] = []
        if self._phase == "thinking" and self._in_phase >= self.spec.T_e:  # a fork with no more steps than its past
            self._end(events, "T_e", f"T_e = {self.spec.T_e} reached")
            return Advance(events, None, "again")
        if self._edit is not None:
            return self._feed(d, self._edited(d, self._edit), events)
        if self._phase == "thinking":
            chosen = self._think(d, events)
            if chosen is not None and chosen.kind == "sampled" and int(chosen.ids[0]) in self._info.eog_ids:
                self._end_of_text(events, d)
                chosen = None
            if chosen is not None:
                return self._feed(d, chosen, events)
            if self.finished:
                return Advance(events, None, "end")
            if not self._forced and self.spec.answer_temperature != self.spec.temperature:
                return Advance(events, None, "again")
        if self._forced:
            return self._feed(d, Mixture.token(self._forced.popleft(), "injected"), events)
        if d.drawn in self._info.eog_ids:
            self._end_of_text(events, d)
            return Advance(events, None, "end")
        if self._mixes_throughout:
            chosen = self._choose(d, events)
            return self._feed(d, chosen, events) if chosen is not None else Advance(events, None, "end")
        return self._feed(d, Mixture.token(d.drawn, "sampled"), events)

    def cancel(self, why: str) -> list[Event]:
        """The events that close the phase in which the run was stopped; `why` begins the reason."""
        events: list[Event] = []
        if self._phase != "transition":
            self._close(events, "cancelled", f"{why} at step {self.step}")
        self.finished = True
        return events

    def _begin(self) -> Mix:
        try:
            return self.spec.strategy.begin(self._setting)
        except Exception as error:
            raise self._failed(f"raised {type(error).__name__}: {error}") from error

    def _recall(self, past: Past) -> None:
        """Goes through a recorded beginning: counters, open characters, and the strategy's state where it is kept."""
        for event in past.events:
            if event["type"] == "phase_ended":
                if event["text"]:  # it closed the open character
                    self._utf8.reset()
                self._enter("transition" if self._forced else "answer")
                continue
            if event["phase"] != self._phase:  # the parent's transition was shorter, or it had none
                self._enter(event["phase"])
            if self._phase == "answer":
                self._forced.clear()
            token = event["token"]["id"]
            if not self._tokenizer.is_control(token):
                self._utf8.decode(self._tokenizer.token_bytes(token))
            if self.state == "rebuilt" and (self._phase == "thinking" or self._mixes_throughout):
                self._rethink(event)
            self.step += 1
            self._in_phase += 1
            if self._phase != "transition":
                self._used += 1
                continue
            if self._forced:
                self._forced.popleft()
            if not self._forced:
                self._utf8.reset()
                self._enter("answer")

    def _rethink(self, event: Event) -> None:
        """Runs the strategy over a recorded belief for its state; what it chooses was fed already."""
        try:
            self._mix(belief_of(event), Step(self.step, self.spec.seed))
        except Exception:  # a record is less than a belief, and a strategy is foreign code
            self.state, self._mix = "restarted", self._begin()

    def _edited(self, d: Distribution, edit: Mixture) -> Mixture:
        """What was chosen by hand for this step; the strategy sees the step, but has no say."""
        self._edit = None
        if self._phase == "transition":
            self._forced.popleft()
        elif self._phase == "thinking" or self._mixes_throughout:
            try:
                self._mix(d, Step(self.step, self.spec.seed))
            except Exception as error:
                raise self._failed(f"raised {type(error).__name__}: {error}") from error
        return edit

    def _think(self, d: Distribution, events: list[Event]) -> Mixture | None:
        """What the strategy feeds, or None when thinking has ended instead."""
        spec = self.spec
        if spec.end_probability is not None:
            marker = self._info.end_marker[:1]
            for token, p in zip(d.ids.tolist(), d.probs.tolist(), strict=True):
                if p < spec.end_probability:
                    break
                if token in self._info.eog_ids or token in marker:
                    by: EndedBy = "end_of_text" if token in self._info.eog_ids else "end_marker"
                    what = "end of text" if by == "end_of_text" else "end marker"
                    why = f"{what} {self._name(token)} had probability {p:.3f}, at least {spec.end_probability:g}"
                    self._end(events, by, why, token, p)
                    return None
        return self._choose(d, events)

    def _choose(self, d: Distribution, events: list[Event]) -> Mixture | None:
        """What the strategy feeds, or None when it has ended the phase."""
        try:
            chosen = self._mix(d, Step(self.step, self.spec.seed))
        except Exception as error:  # a strategy is foreign code: whatever it raises fails this run alone
            raise self._failed(f"raised {type(error).__name__}: {error}") from error
        if isinstance(chosen, Stop) and isinstance(chosen.reason, str):
            self._end(events, "strategy", chosen.reason)
            return None
        if not isinstance(chosen, Mixture):
            raise self._failed(f"returned {type(chosen).__name__} where a Mixture or Stop is due")
        if (highest := chosen.ids.item(chosen.ids.argmax())) >= self._info.vocab:
            raise self._failed(f"fed token {highest}; the vocabulary ends at {self._info.vocab - 1}")
        return chosen

    def _end_of_text(self, events: list[Event], d: Distribution) -> None:
        self._end(events, "end_of_text", f"end of text {self._name(d.drawn)} was drawn", d.drawn, d.drawn_prob)

    def _failed(self, what: str) -> StrategyFailed:
        return StrategyFailed(f"strategy {self.spec.strategy.name} failed at step {self.step}: it {what}")

    def _feed(self, d: Distribution, chosen: Mixture, events: list[Event]) -> Advance:
        events.append(self._record(d, chosen))
        self.step += 1
        if self._phase == "transition":
            if not self._forced:
                events[-1]["text"] += self._utf8.decode(b"", final=True)
                self._enter("answer")
            return Advance(events, chosen, "feed")
        self._used += 1
        self._in_phase += 1
        if self._phase == "thinking" and self._in_phase == self.spec.T_e:
            self._end(events, "T_e", f"T_e = {self.spec.T_e} reached")
        elif self._used == self.spec.T_total:
            self._end(events, "T_total", f"T_total = {self.spec.T_total} reached")
        return Advance(events, chosen, "end" if self.finished else "feed")

    def _end(self, events: list[Event], by: EndedBy, reason: str, token: int | None = None, p: float = 0.0) -> None:
        """Closes the phase; goes on to the next one if any steps are left for it."""
        named = self._believed(token, p) if token is not None else None
        seamless = self._phase == "thinking" and not self._forced and self._used < self.spec.T_total
        self._close(events, by, reason, named, flush=not seamless)
        if self._phase == "answer":
            self.finished = True
        elif self._used == self.spec.T_total:
            self._enter("answer")
            self._close(events, "T_total", f"thinking used all of T_total = {self.spec.T_total}")
            self.finished = True
        else:
            self._enter("transition" if self._forced else "answer")

    def _close(
        self,
        events: list[Event],
        by: EndedBy,
        reason: str,
        token: Believed | None = None,
        *,
        flush: bool = True,
    ) -> None:
        events.append(
            {
                "type": "phase_ended",
                "phase": self._phase,
                "ended_by": by,
                "reason": reason,
                "steps": self._in_phase,
                "token": token,
                "text": self._utf8.decode(b"", final=True) if flush else "",
            }
        )

    def _enter(self, phase: Phase) -> None:
        self._phase, self._in_phase = phase, 0

    def _record(self, d: Distribution, chosen: Mixture) -> Event:
        shown = min(max(SHOWN, self._support, len(chosen.ids)), MOST_SHOWN, len(d.ids))
        token, probability = _readout(d, chosen)
        heavy = chosen.heaviest(MOST_SHOWN)
        texts = self._texts
        event: Event = {
            "type": "step",
            "step": self.step,
            "phase": self._phase,
            "kind": chosen.kind,
            "token": {
                "id": token,
                "text": texts[token],
                "probability": None if probability is None else _short(probability),
            },
            "text": "" if self._tokenizer.is_control(token) else self._utf8.decode(self._tokenizer.token_bytes(token)),
            "fed": [
                {"id": i, "text": texts[i], "weight": w}
                for i, w in zip(chosen.ids[heavy].tolist(), _all_short(chosen.weights[heavy]), strict=True)
            ],
            "combine": chosen.combine,
            "believed": [
                {"id": i, "text": texts[i], "probability": p}
                for i, p in zip(d.ids[:shown].tolist(), _all_short(d.probs[:shown]), strict=True)
            ],
            "tail": _short(d.tail if shown == len(d.ids) else d.tail + float(d.probs[shown:].sum(dtype=np.float64))),
            "entropy": _short(d.entropy),
            "entropy_raw": _short(d.entropy_raw),
            "norm_ratio": None,
            "reason": chosen.reason,
            "t_ms": 0.0,
        }
        if chosen.rescale is not None:
            event["rescale"] = chosen.rescale
        if chosen.noise is not None:
            event["noise"] = chosen.noise.gamma
        throughout = chosen.kind == "mixture" and self._mixes_throughout
        if throughout or (d.drawn != token and self._phase != "transition"):
            event["drawn"] = self._believed(d.drawn, d.drawn_prob)
        if len(chosen.ids) > MOST_SHOWN:
            rest = float(np.delete(chosen.weights, heavy).sum(dtype=np.float64))
            event["fed_rest"] = {"count": len(chosen.ids) - MOST_SHOWN, "weight": _short(rest)}
        return event

    def _believed(self, token: int, p: float) -> Believed:
        return {"id": token, "text": self._texts[token], "probability": _short(p)}

    def _name(self, token: int) -> str:
        return f"`{self._texts[token]}`"


def _readout(d: Distribution, chosen: Mixture) -> tuple[int, float | None]:
    """The token shown for a step and its probability; None when it was no candidate.

    A mixture shows its most probable candidate unless it names another; a forced token may be too unlikely to be among
    the candidates.
    """
    shown = chosen.shown if chosen.kind == "mixture" else int(chosen.ids[0])
    if shown is None:
        first = d.ids.item(0)
        if chosen.ids.item(0) == first or (chosen.ids == first).any():  # mostly; to search them all takes long
            shown = first
        else:
            believed = np.flatnonzero(np.isin(d.ids, chosen.ids))
            shown = int(d.ids[believed[0]] if believed.size else chosen.ids[chosen.weights.argmax()])
    if shown == d.drawn:
        return shown, d.drawn_prob
    place = np.flatnonzero(d.ids == shown)
    return shown, float(d.probs[place[0]]) if place.size else None


def _short(value: float) -> float:
    """The number to nine significant digits, which give every float32 back exactly."""
    return float(f"{value:.9g}")


def _all_short(values: FloatArray) -> list[float]:
    return [float(f"{value:.9g}") for value in values.tolist()]
