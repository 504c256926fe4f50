"""What stands before every route: no foreign pages, no huge bodies, headers that keep the page safe.

Any page in the user's browser can send requests to a loopback server; only the Host and Origin tell them apart.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from superpose.imports import MAX_BYTES
from superpose.server.problems import response

MAX_BODY = 1_000_000  # bytes
_MAX_OF = {"/api/import": MAX_BYTES}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PAGE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'",
    ),
]


class TooLarge(Exception):
    """The body has grown over its limit."""


class Guard:
    """ASGI middleware; `hosts` are the names under which the server may be addressed, None = any."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses or passes on one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            refusal = response(403, f"this server does not answer for the host {host[:80]!r}")
            return await refusal(scope, receive, send)
        origin = headers.get(b"origin")
        if origin is not None and origin.partition("://")[2] != host:
            refusal = response(403, f"pages of {origin[:80]!r} may not use this server")
            return await refusal(scope, receive, send)
        limit = _MAX_OF.get(scope["path"], MAX_BODY)
        too_large = response(413, f"the body is too large; at most {limit} bytes are allowed")
        length = headers.get(b"content-length", "0")
        if not length.isdigit() or int(length) > limit:
            return await too_large(scope, receive, send)

        seen, begun = 0, False

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge
            return message

        async def guarded(message: Message) -> None:
            nonlocal begun
            if seen > limit and not begun:
                raise TooLarge  # whatever the app makes of the body that broke off
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *_PAGE_HEADERS, _cache(scope["path"])]
            await send(message)

        try:
            await self.app(scope, limited, guarded)
        except TooLarge:
            if not begun:
                await too_large(scope, receive, send)


def _name(host: str) -> str:
    """The host without its port and brackets, in small letters."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cache(path: str) -> tuple[bytes, bytes]:
    """Built assets carry a hash in their name and never change; everything else is asked for anew."""
    return (
        b"cache-control",
        b"public, max-age=31536000, immutable" if path.startswith("/assets/") else b"no-cache",
    )
