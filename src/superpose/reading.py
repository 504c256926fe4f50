"""What live runs begin with: prompts and records, read into their lanes, and once where several begin with the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from superpose.decoding import Decoder
from superpose.engine import Engine, EngineError, OutOfMemory, Readout
from superpose.events import Event, State
from superpose.live import Live
from superpose.planning import StrategyFailed
from superpose.replay import belief_of, difference, report
from superpose.store import Store
from superpose.texts import TokenTexts
from superpose.types import Distribution

FIRST = 4  # of so many chunks one is of the run that was let in first


class Reader:
    """Reads for the live runs of an engine, in the thread that owns it."""

    def __init__(self, engine: Engine, store: Store, texts: TokenTexts, live: Sequence[Live]) -> None:
        self._engine, self._store, self._texts, self._live = engine, store, texts, live
        self._chunks = 0  # that were read

    def choose(self, unread: Sequence[Live]) -> Live:
        """Whose chunk is next: a short prompt does not wait for a long one, nor a long one for ever."""
        self._chunks += 1
        return unread[0] if self._chunks % FIRST == 0 else min(unread, key=lambda live: live.ahead)

    def read(self, live: Live) -> None:
        """Feeds one chunk of the prompt or of a record; the last one gives the belief to go on with."""
        decoder = self._prepare(live)
        if live.read == 0:
            self._share(live)
        assert live.lane is not None
        inputs = live.unread(self._engine.info.chunk)
        past = live.work.past if live.belief is None else None
        checked = past.following if past is not None else None
        ask = decoder.ask()
        temperature = ask.temperature if past is None or checked is None else past.temperature
        belief = self._engine.prefill(live.lane, inputs, ask._replace(temperature=temperature))
        live.read += len(inputs)
        if not live.loaded:
            return
        batch = [(live.run, event) for event in live.loads()]
        if live.belief is not None:  # the lane was given up in a pause; what it believed is known
            batch.append((live.run, self._replayed(live, difference(belief, live.belief), "kept")))
            live.awake()
        else:
            if not live.recorded:
                self._tell_twins(live)
            if past is not None:
                error = None if checked is None else difference(belief, belief_of(checked))
                batch.append((live.run, self._replayed(live, error, decoder.state)))
            if temperature != ask.temperature:
                belief = self.anew(live)
            live.believes(belief)
        self._store.append(batch)

    def _prepare(self, live: Live) -> Decoder:
        if live.decoder is None:
            live.decoder = Decoder(live.work, self._engine.info, self._engine.tokenizer, self._texts)
        return live.decoder

    def _share(self, live: Live) -> None:
        """Begins with what another lane holds of the same prompt, where it is the very numbers that reading gives."""
        others = [other for other in self._live if other is not live]
        shared = [live.shares(other, self._engine.info.chunk) for other in others]
        if max(shared, default=0):
            source = others[shared.index(max(shared))]
            self._fork(live, source, max(shared))

    def _tell_twins(self, live: Live) -> None:
        """Lets runs that wait to read the very prompt that was read just now have read it too."""
        found: list[tuple[Live, Readout]] = []
        for other in self._live:
            if other is not live and other.active and other.is_twin(live):
                with suppress(StrategyFailed):  # it fails when its turn comes
                    found.append((other, self._prepare(other).ask()))
        batch: list[tuple[str, Event]] = []
        with suppress(OutOfMemory):  # they read it themselves
            beliefs = self._engine.beliefs([ask for _, ask in found]) if found else []
            for (twin, _), belief in zip(found, beliefs, strict=True):
                if self._fork(twin, live, live.read):
                    twin.believes(belief)
                    batch += [(twin.run, event) for event in twin.loads()]
        if batch:
            self._store.append(batch)

    def _fork(self, live: Live, source: Live, upto: int) -> bool:
        """Whether the run's lane is now one that holds the first inputs of another's."""
        assert live.lane is not None and source.lane is not None
        self._engine.close(live.lane)
        try:
            live.lane, live.read = self._engine.fork(source.lane, upto), upto
        except EngineError:  # no memory, say: then it reads them itself
            live.lane = self._engine.open()
        return live.read > 0

    def _replayed(self, live: Live, error: float | None, state: State) -> Event:
        return {"type": "replayed", **report(len(live.recorded), error, state, partial=live.recorded.partial)}

    def anew(self, live: Live) -> Distribution:
        """The belief at the lane's end as the decoder asks for it now."""
        assert live.decoder is not None and live.lane is not None
        self._engine.rollback(live.lane, self._engine.length(live.lane) - 1)
        return self._engine.step([live.lane], [live.fed], [live.decoder.ask()])[0]
