"""One HTTP request and its response: headers, body, request id and access log.

The ASGI scope holds it, from the application to the handler that serves the request.
"""

import re
import secrets
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog

from chassis import log, settings
from chassis.card_number import is_card_number
from gateway.http.asgi import BECOME_STREAM, Headers, Receive, Send
from gateway.http.body import RequestBody
from gateway.http.client_address import TrustedProxies
from gateway.http.compression import VARY, varies_by_encoding
from gateway.http.problems import Problem
from gateway.http.security_headers import security_headers

SCOPE_KEY = "gateway.http.exchange"
REQUEST_ID_HEADER = b"x-request-id"
FORWARDED_FOR_HEADER = b"x-forwarded-for"
NO_PROXIES = TrustedProxies()

_LOG = log.logger()
"""One for all requests, because structlog would assemble a new logger for each."""

_CREDENTIALS = frozenset({b"authorization", b"cookie"})
# Proxies send a UUID, or 32 hexadecimal digits as in a W3C trace id. Whatever else, such as a
# token, would be logged and recorded wherever the request goes.
_REQUEST_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9A-Fa-f]{32}")


class Account(NamedTuple):
    """Who sends a request, as far as the gateway can tell."""

    name: str = ""
    """Empty without credentials."""
    is_verified: bool = False
    """Whether it is the subject of a valid token, and not just some credentials."""


class Exchange:
    """The state of a request while it is served."""

    def __init__(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        proxies: TrustedProxies = NO_PROXIES,
    ) -> None:
        self._start = time.perf_counter()
        self._send = send
        self._scope = scope
        self.method: str = scope["method"]
        """The HTTP method, in upper case."""
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.raw_path = raw_path.decode("latin-1")
        """The path, still percent-encoded."""
        self.path = ""
        """The path as it may be logged: without what a client has written."""
        self.query: bytes = scope["query_string"]
        """The query, still percent-encoded."""
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        peer, _ = scope.get("client") or ("", 0)
        self.client = proxies.find_client(peer, self.list_header(FORWARDED_FOR_HEADER))
        """The address of the client; empty if it is not known."""
        given = self.header(REQUEST_ID_HEADER)
        valid = _REQUEST_ID.fullmatch(given) is not None and not is_card_number(given)
        self.request_id = given if valid else secrets.token_hex(16)
        chunked = b"transfer-encoding" in self._headers
        self.body = RequestBody(receive, self.header(b"content-length"), chunked)
        self.account: Account | None = None
        """Who sends the request, as soon as somebody has found out."""
        self.rpc = ""
        self.code = ""
        """The name of the gRPC status that the request ended with."""
        self._cause = ""
        self.abandoned = False
        """The response cannot be completed, and the connection is to be closed."""
        self.sets_vary = False
        """Responses that depend on Accept-Encoding get a Vary header, for caches."""
        self.is_confidential = not _CREDENTIALS.isdisjoint(self._headers)
        """Nobody may store the response."""
        self.set_cookie = ""
        """The Set-Cookie header of the response, if it has one."""
        self.rate_limits: list[tuple[str, str]] = []
        """The quotas that the request counts for: items of RateLimit-Policy and RateLimit."""
        self._status = 0
        self._bytes = 0

    @property
    def needs_secure_cookies(self) -> bool:
        """Whether browsers must keep cookies for TLS, which only a client on this machine may lack.

        A proxy may have terminated TLS.
        """
        return self._scope["scheme"] == "https" or not settings.is_loopback(self.client)

    @property
    def cookies(self) -> str:
        """The cookies of the request, of all its Cookie headers."""
        lines = [value for name, value in self._scope["headers"] if name == b"cookie"]
        return b"; ".join(lines).decode("latin-1")

    def header(self, name: bytes) -> str:
        """Return a header by its name in lower case; empty if it is absent."""
        return self._headers.get(name, b"").decode("latin-1")

    def list_header(self, name: bytes) -> str | None:
        """Return a list header, its lines joined by commas (RFC 9110 §5.3), or None."""
        if name not in self._headers:
            return None
        lines = [value for key, value in self._scope["headers"] if key == name]
        return b",".join(lines).decode("latin-1")

    def has_header(self, name: bytes) -> bool:
        """Return whether a header is present, even if it is empty."""
        return name in self._headers

    def note_failure(self, problem: Problem, cause: str) -> None:
        """Log a service's message with the request if it describes a server error.

        Other messages may quote what the client sent, which must not be logged.
        """
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._cause = cause

    async def send(self, event: dict[str, Any]) -> None:
        """Pass an ASGI event on to the server, with the headers that every response has."""
        if event["type"] == "http.response.start":
            self._status = event["status"]
            headers = [*event["headers"], (REQUEST_ID_HEADER, self.request_id.encode())]
            headers += security_headers(
                headers, tls=self._scope["scheme"] == "https", confidential=self.is_confidential
            )
            if self.set_cookie:
                headers.append((b"set-cookie", self.set_cookie.encode()))
            if self.rate_limits:
                headers += self._rate_limit_headers()
            if self.sets_vary and varies_by_encoding(self._status, headers):
                headers.append(VARY)
            event = {**event, "headers": headers}
        else:
            self._bytes += len(event.get("body", b""))
        await self._send(event)

    def _rate_limit_headers(self) -> Headers:
        policies, usages = zip(*self.rate_limits, strict=True)
        return [
            (b"ratelimit-policy", ", ".join(policies).encode()),
            (b"ratelimit", ", ".join(usages).encode()),
        ]

    def become_stream(self) -> None:
        """Tell the server, if it is ours, that the request mostly waits from now on."""
        self._scope.get(BECOME_STREAM, _ignore)()

    def bind_log(self) -> None:
        """Add the request id to every log event of this request."""
        structlog.contextvars.bind_contextvars(request_id=self.request_id)

    def write_log(self) -> None:
        """Log the request: one event, without what a client has written."""
        optional = {"path": self.path, "rpc": self.rpc, "code": self.code, "cause": self._cause}
        _LOG.info(
            "request",
            method=self.method,
            status=self._status,
            duration_ms=round((time.perf_counter() - self._start) * 1_000, 3),
            bytes=self._bytes,
            client=self.client,
            **{name: value for name, value in optional.items() if value},
        )


def _ignore() -> None:
    pass
