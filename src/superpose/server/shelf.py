"""The models of one server: what is loaded or on its way, and the runner of each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from superpose.engine import Engine, EngineError, EngineOptions, open_engine
from superpose.models import UnknownModel, canonical, known
from superpose.problems import clip
from superpose.runner import Runner
from superpose.server.line import line
from superpose.server.problems import Problem
from superpose.server.vocabulary import Vocabulary
from superpose.store import Store

log = logging.getLogger("superpose")

_LOOK_S = 5.0  # how long a look at what lies on the disk is good for


class _Open:
    """A loaded model: its runs and its tokens."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self.info = engine.info
        self.runner = Runner(engine, store)
        self.vocabulary = Vocabulary(engine.info.vocab, self.runner.text)


@dataclass
class _Place:
    """One model on the shelf."""

    name: str
    status: Literal["available", "loading", "ready", "unloading", "failed"] = "loading"
    stage: str | None = "waiting"
    done: float = 0.0
    total: float = 0.0
    error: str | None = None
    open: _Open | None = None
    quantize: str | None = None


class Shelf:
    """Loads models in the background, one at a time, and hands out their runners."""

    def __init__(self, default: str, options: EngineOptions, store: Store) -> None:
        self.default = canonical(default)
        self._options, self._store = options, store
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._looked = 0.0
        self._seen: dict[str, str] = {}

    def load(self, name: str, quantize: str | None = None) -> None:
        """Begins to load a model unless it is there already or on its way.

        Raises Problem while it is unloaded, and where it is there with other weights than were asked for.
        """
        name = canonical(name)
        wanted = quantize or self._options.quantize
        with self._lock:
            there = self._places.get(name)
            if there is not None and there.status == "unloading":
                raise Problem(409, f"model {name!r} is being unloaded; try again", "model", {"Retry-After": "1"})
            if there is not None and there.status in ("loading", "ready"):
                if quantize is not None and there.quantize != quantize:
                    has = f"{there.quantize} weights" if there.quantize else "its own weights"
                    raise Problem(409, f"model {name!r} is loaded with {has}; unload it first", "quantize")
                return
            place = self._places[name] = _Place(name, quantize=wanted)
        threading.Thread(target=self._load, args=(place,), name=f"load-{name}", daemon=True).start()
        self._ring()

    def unload(self, name: str) -> None:
        """Frees a model's memory, and forgets one that failed. Raises Problem while it has runs or is loading."""
        with self._lock:
            place = self._find(name)
            if place is None or place.status in ("available", "unloading"):
                raise Problem(409, f"model {name[:80]!r} is not loaded", "model")
            if place.status == "loading":
                raise Problem(409, f"model {place.name!r} is still loading; unload it once it is ready", "model")
            opened, place.open = place.open, None
            if opened is None:
                del self._places[place.name]
            elif opened.runner.retire():
                place.status = "unloading"
            else:
                place.open = opened
                raise Problem(409, f"model {place.name!r} has runs under way; stop them or wait for them", "model")
        self._ring()
        if opened is not None:
            opened.runner.close()
            place.status = "available"
            self._ring()

    def put(self, name: str, engine: Engine) -> None:
        """Places an engine that is loaded already."""
        with self._lock:
            self._places[name] = _Place(name, "ready", None, open=_Open(engine, self._store))
        self._ring()

    def runner(self, name: str | None) -> Runner:
        """The runner of a loaded model; None is the default one. Raises Problem while it is not ready."""
        return self._opened(name).runner

    def vocabulary(self, name: str | None) -> Vocabulary:
        """The vocabulary of a loaded model, as `runner`."""
        return self._opened(name).vocabulary

    def runners(self) -> list[Runner]:
        """Every live runner."""
        with self._lock:
            return [place.open.runner for place in self._places.values() if place.open is not None]

    def describe(self) -> dict[str, Any]:
        """What `GET /api/models` says."""
        with self._lock:
            at_hand = self._at_hand()
            places = [*self._places.values()]
            places += [_Place(name, "available", None) for name in at_hand if name not in self._places]
            lines = [line(place.name, place.open.runner) if place.open else [] for place in places]
            return {
                "default": self.default,
                "models": [
                    {**_describe(place, runs), "about": at_hand.get(place.name)}
                    for place, runs in zip(places, lines, strict=True)
                ],
                "queue": [run for runs in lines for run in runs],
            }

    def listen(self, bell: Callable[[], None]) -> Callable[[], None]:
        """Rings `bell` whenever the description may have changed; the answer ends it."""
        with self._lock:
            self._listeners.add(bell)
        deafen = self._store.listen(bell)  # runs come and go with their events

        def end() -> None:
            self._listeners.discard(bell)
            deafen()

        return end

    def close(self) -> None:
        """Ends every runner."""
        for runner in self.runners():
            runner.close()

    def _opened(self, name: str | None) -> _Open:
        wanted = name or self.default
        with self._lock:
            place = self._find(wanted)
            if place is not None and place.open is not None:
                return place.open
            ready = [other.name for other in self._places.values() if other.status == "ready"]
        if place is None or place.status in ("available", "unloading"):
            allowed = f"loaded: {', '.join(ready) or 'none'}; POST /api/models/load loads another"
            raise Problem(422, f"model {wanted[:80]!r} is not loaded; {allowed}", "model")
        if place.status == "failed":
            raise Problem(422, f"model {wanted!r} could not be loaded: {place.error}", "model")
        share = f", {100 * place.done / place.total:.0f} %" if place.total else ""
        stage = f" ({place.stage}{share})" if place.stage else ""
        raise Problem(503, f"model {wanted!r} is still loading{stage}; try again", "model", {"Retry-After": "1"})

    def _find(self, name: str) -> _Place | None:
        """The place of a model, by the name it was asked for with or by its engine's."""
        named = self._places.get(canonical(name))
        engines = (place for place in self._places.values() if place.open and place.open.info.model == name)
        return named or next(engines, None)

    def _at_hand(self) -> dict[str, str]:
        """Models that can be named without a path, and what they are; the default one among them."""
        if not self._seen or time.monotonic() - self._looked > _LOOK_S:
            self._seen = {self.default: "", **{model.name: model.about for model in known()}}
            self._looked = time.monotonic()
        return self._seen

    def _load(self, place: _Place) -> None:
        def progress(stage: str, done: float, total: float) -> None:
            place.stage, place.done, place.total = stage, done, total
            self._ring()

        options = self._options._replace(quantize=place.quantize)
        opened, why = None, None
        try:
            with self._loading:
                place.stage = None
                opened = _Open(open_engine(place.name, options, progress), self._store)
        except (EngineError, UnknownModel) as refused:
            why = str(refused)
        except Exception as error:  # whatever a library raises on a strange model, the server lives on
            why = f"{type(error).__name__}: {error}"
        if why is not None:
            log.warning("model %s: %s", clip(place.name, 400), clip(why, 800))
        with self._lock:  # a description has all of it or nothing
            place.open, place.error, place.stage = opened, why, None
            place.status = "ready" if opened else "failed"
        self._ring()

    def _ring(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for bell in listeners:
            bell()


def _describe(place: _Place, runs: list[dict[str, Any]]) -> dict[str, Any]:
    info = memory = None
    if place.open is not None:
        about = place.open.info
        memory = place.open.runner.engine.memory()
        info = {
            "engine": about.name, "model": about.model, "device": about.device, "dtype": about.dtype,
            "vocab": about.vocab, "context": about.context, "max_lanes": about.max_lanes,
            "parameters": about.parameters or None, "invariance": about.invariance,
            "fingerprint": about.fingerprint, "checks": list(about.checks),
        }  # fmt: skip
    waiting = sum(run["status"] == "queued" for run in runs)
    return {
        "name": place.name, "status": place.status, "stage": place.stage, "done": place.done,
        "total": place.total, "error": place.error, "info": info, "live": len(runs) - waiting, "queued": waiting,
        "memory": memory and memory.weights + memory.cache, "cache": memory and memory.cache,
    }  # fmt: skip
