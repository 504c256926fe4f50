"""The models of one server: what is loaded or loading, and the runner of each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from superpose.engine import Engine, EngineError, EngineOptions, open_engine
from superpose.models import UnknownModel, known
from superpose.runner import Runner
from superpose.server.problems import Problem
from superpose.server.vocabulary import Vocabulary
from superpose.store import Store


class _Open:
    """A loaded model: its runs and its tokens."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self.runner = Runner(engine, store)
        self.vocabulary = Vocabulary(engine.info.vocab, self.runner.text)


@dataclass
class _Place:
    """One model on the shelf."""

    name: str
    status: Literal["loading", "ready", "failed"] = "loading"
    stage: str | None = None
    done: float = 0.0
    total: float = 0.0
    error: str | None = None
    open: _Open | None = None


class Shelf:
    """Loads models in the background, one at a time, and hands out their runners."""

    def __init__(self, default: str, options: EngineOptions, store: Store) -> None:
        self.default = default
        self._options, self._store = options, store
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._listeners: set[Callable[[], None]] = set()

    def load(self, name: str) -> None:
        """Begins to load a model unless it is there already or on its way."""
        with self._lock:
            there = self._places.get(name)
            if there is not None and there.status != "failed":
                return
            place = self._places[name] = _Place(name)
        threading.Thread(target=self._load, args=(place,), name=f"load-{name}", daemon=True).start()
        self._ring()

    def put(self, name: str, engine: Engine) -> None:
        """Places an engine that is loaded already."""
        with self._lock:
            self._places[name] = _Place(name, "ready", open=_Open(engine, self._store))
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
            models = [_describe(place) for place in self._places.values()]
            others = [model.name for model in known() if model.name not in self._places]
        idle = {"status": "available", "stage": None, "done": 0, "total": 0, "error": None, "info": None}
        return {"default": self.default, "models": [*models, *({"name": name, **idle} for name in others)]}

    def listen(self, bell: Callable[[], None]) -> Callable[[], None]:
        """Rings `bell` whenever the description has changed; the answer ends it."""
        with self._lock:
            self._listeners.add(bell)
        return lambda: self._listeners.discard(bell)

    def close(self) -> None:
        """Ends every runner."""
        for runner in self.runners():
            runner.close()

    def _opened(self, name: str | None) -> _Open:
        wanted = name or self.default
        with self._lock:
            place = self._places.get(wanted) or next(
                (
                    other
                    for other in self._places.values()
                    if other.open is not None and other.open.runner.engine.info.model == wanted
                ),
                None,
            )
            ready = [other.name for other in self._places.values() if other.status == "ready"]
        if place is None:
            allowed = f"loaded: {', '.join(ready) or 'none'}; POST /api/models/load loads another"
            raise Problem(422, f"model {wanted[:80]!r} is not loaded; {allowed}", "model")
        if place.status == "failed":
            raise Problem(422, f"model {wanted!r} could not be loaded: {place.error}", "model")
        if place.open is None:
            share = f", {100 * place.done / place.total:.0f} %" if place.total else ""
            stage = f" ({place.stage}{share})" if place.stage else ""
            raise Problem(503, f"model {wanted!r} is still loading{stage}; try again", "model", {"Retry-After": "1"})
        return place.open

    def _load(self, place: _Place) -> None:
        def progress(stage: str, done: float, total: float) -> None:
            place.stage, place.done, place.total = stage, done, total
            self._ring()

        try:
            with self._loading:
                engine = open_engine(place.name, self._options, progress)
            place.open = _Open(engine, self._store)
            place.status = "ready"
        except (EngineError, UnknownModel) as refused:
            place.status, place.error = "failed", str(refused)
        except Exception as error:  # whatever a library raises on a strange model, the server lives on
            place.status, place.error = "failed", f"{type(error).__name__}: {error}"
        place.stage = None
        self._ring()

    def _ring(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for bell in listeners:
            bell()


def _describe(place: _Place) -> dict[str, Any]:
    info = None
    if place.open is not None:
        about = place.open.runner.engine.info
        info = {
            "engine": about.name, "model": about.model, "device": about.device, "dtype": about.dtype,
            "vocab": about.vocab, "context": about.context, "max_lanes": about.max_lanes,
            "invariance": about.invariance, "fingerprint": about.fingerprint, "checks": list(about.checks),
        }  # fmt: skip
    return {
        "name": place.name, "status": place.status, "stage": place.stage, "done": place.done,
        "total": place.total, "error": place.error, "info": info,
    }  # fmt: skip
