"""An unreliable network in front of an ASGI application, for the fakes of payment providers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tools.fakes.faults import CONTROL_PATH, Faults, Kind

Scope = dict[str, Any]
Event = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1 << 20
ABORT = "fakes.abort"
"""The extension of a scope that closes the connection without a response."""

_STATUSES = {
    Kind.FAIL_BEFORE: HTTPStatus.INTERNAL_SERVER_ERROR,
    Kind.FAIL_AFTER: HTTPStatus.INTERNAL_SERVER_ERROR,
    Kind.CONFLICT: HTTPStatus.CONFLICT,
    Kind.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
}
_PROCESSED = {Kind.LOSE_RESPONSE: 1, Kind.FAIL_AFTER: 1, Kind.DELAY: 0, Kind.DUPLICATE: 1}
"""How often the application has processed a request before the fault itself."""


class AbortableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose connections can be closed without a response."""

    def on_message_begin(self) -> None:
        """Offer the connection's `abort` to the application."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]


class UnreliableNetwork:
    """An ASGI application whose clients' requests suffer the `faults` in force."""

    def __init__(
        self, app: Application, faults: Faults, make_error: Callable[[int], object]
    ) -> None:
        """`make_error` returns the JSON of the provider's responses of statuses 409, 429, 500."""
        self._app = app
        self._faults = faults
        self._make_error = make_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or do to it what the first rule says that it matches."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PATH):
            await self._app(scope, receive, send)
            return
        rule = self._faults.find(f"{scope['method']} {scope['path']}")
        if rule is None:
            await self._app(scope, receive, send)
            return
        body = await _read_body(receive)
        if rule.kind is Kind.DELAY:
            await asyncio.sleep(rule.delay_seconds)
        for _ in range(_PROCESSED.get(rule.kind, 0)):
            await self._app(scope, _replay(body), _discard)
        if rule.kind in _STATUSES:
            await _send_json(send, _STATUSES[rule.kind], self._make_error)
        elif rule.kind in (Kind.LOSE_REQUEST, Kind.LOSE_RESPONSE):
            scope["extensions"][ABORT]()
            await receive()  # The connection is closed when http.disconnect arrives.
        else:
            await self._app(scope, _replay(body), send)


async def _read_body(receive: Receive) -> bytes:
    """Read at most MAX_BODY_BYTES and one chunk: the rest of a longer body is dropped."""
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body", False):
            break
    return body


def _replay(body: bytes) -> Receive:
    events: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Event:
        return events.pop() if events else {"type": "http.disconnect"}

    return receive


async def _discard(_: Event) -> None:
    """Lose a part of a response."""


async def _send_json(send: Send, status: int, make_error: Callable[[int], object]) -> None:
    body = json.dumps(make_error(status)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
