"""The lab's server: runs uvicorn over the app on a socket that is already bound."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from superpose.engine import EngineOptions
from superpose.server.app import make_app
from superpose.server.guard import LOOPBACK
from superpose.server.shelf import Shelf
from superpose.store import Store


def serve(
    data: Path,
    model: str,
    options: EngineOptions,
    listener: socket.socket,
    host: str,
    ready: Callable[[], None],
) -> None:
    """Serves until it is told to stop; `ready` is called once requests are answered."""
    store = Store(data)
    store.recover()
    shelf = Shelf(model, options, store)
    hosts = LOOPBACK if host in LOOPBACK else None  # who opens it to a network decides on its names
    config = uvicorn.Config(
        make_app(shelf, store, hosts), log_level="warning", timeout_graceful_shutdown=2, lifespan="on"
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            shelf.load(model)
            ready()

    Server(config).run(sockets=[listener])
