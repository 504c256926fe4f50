"""Server-sent events: replay what is stored, then wait for the bell. Live view and late join are one path."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from superpose.server.shelf import Shelf
from superpose.store import Store
from superpose.store_events import Stored

BATCH_S = 0.02  # events that come within it travel together
MODELS_S = 0.2  # between two documents of the models: runs change them with every step
PING_S = 15.0
POLL_S = 1.0  # another process may write to the same store, and rings no bell here


def response(lines: AsyncIterator[str]) -> StreamingResponse:
    """The stream as a response that no proxy holds back."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


async def runs(store: Store, ids: Sequence[str], after: int, number: Callable[[Stored], int]) -> AsyncIterator[str]:
    """The events of these runs from position `after` on; ends when all of them have ended.

    `number(event)` is the id that the client resumes by.
    """
    async with Bell(store.listen) as bell:
        yield "retry: 500\n\n"
        spoken = time.monotonic()
        while True:
            # Asked before the events are read: then the events of runs that have ended are among what is read.
            live, newest = await run_in_threadpool(lambda: (store.live(ids), store.newest()))
            batch = await run_in_threadpool(store.events, ids, after)
            if batch:  # in one piece: a reader that is gone is noticed by the next
                yield "".join(f"id: {number(stored)}\ndata: {stored.data}\n\n" for stored in batch)
                after = batch[-1].position
                spoken = time.monotonic()
                await asyncio.sleep(BATCH_S)
            elif not live:
                return
            else:
                after = max(after, newest)  # nothing up to there is of these runs: not to be looked through again
                await bell.rung(POLL_S)
                if time.monotonic() - spoken >= PING_S:
                    spoken = time.monotonic()
                    await run_in_threadpool(store.recover)  # its process may have died
                    yield ": ping\n\n"


async def models(shelf: Shelf) -> AsyncIterator[str]:
    """The models document now and after every change, some times a second at most; for ever."""
    async with Bell(shelf.listen) as bell:
        said: dict[str, Any] = {}
        while True:
            document = await run_in_threadpool(shelf.describe)
            if document != said:
                said = document
                yield f"data: {json.dumps(document)}\n\n"
            await asyncio.sleep(MODELS_S)
            # A run leaves after its last event, which is the last to ring: while there are any, look again.
            if not await bell.rung(POLL_S if said["queue"] else PING_S) and not said["queue"]:
                yield ": ping\n\n"


class Bell:
    """A listener of another thread's changes, to be awaited."""

    def __init__(self, listen: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        self._listen = listen
        self._event = asyncio.Event()

    async def __aenter__(self) -> Bell:
        loop = asyncio.get_running_loop()

        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to hear it
                loop.call_soon_threadsafe(self._event.set)

        self._end = self._listen(ring)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    async def rung(self, seconds: float) -> bool:
        """Whether it rang within this time (or since it was last awaited)."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return False
        self._event.clear()
        return True
