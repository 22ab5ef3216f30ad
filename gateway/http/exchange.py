"""One HTTP request and its answer, as far as every request is alike: id, metadata, access log.

It travels in the ASGI scope from the outermost layer to whoever serves the request.
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog

from chassis import log
from gateway.http.body import Receive, RequestBody
from gateway.http.compression import VARY, varies_by_encoding
from gateway.http.problems import Problem, invalid_argument

SCOPE_KEY = "gateway.http.exchange"
REQUEST_ID_HEADER = b"x-request-id"

_LOG = log.logger()
"""Kept, since structlog assembles a logger anew for each that is asked for."""

_FORWARDED = ((b"authorization", "authorization"), (b"idempotency-key", "idempotency-key"))
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[ -~]*)?")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Exchange:
    """What is known of a request while it is served."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self._start = time.perf_counter()
        self._send = send
        self._scope = scope
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        asked = self.header(b"x-request-id")
        valid = _REQUEST_ID.fullmatch(asked) is not None
        self.request_id = asked if valid else secrets.token_hex(16)
        chunked = b"transfer-encoding" in self._headers
        self.body = RequestBody(receive, self.header(b"content-length"), chunked)
        self.rpc = ""
        self.code = ""
        """The name of the gRPC status that the request ended with."""
        self._cause = ""
        self.abandoned = False
        """The connection is to be cut: what was sent cannot be completed."""
        self.sets_vary = False
        """Responses that depend on Accept-Encoding get a Vary header, for caches."""
        self._status = 0
        self._bytes = 0

    def header(self, name: bytes) -> str:
        """Return a header by its name in lower case, or an empty text."""
        return self._headers.get(name, b"").decode("latin-1")

    def list_header(self, name: bytes) -> str | None:
        """Return a header that is a list, all its lines joined (RFC 9110 §5.3), or None."""
        if name not in self._headers:
            return None
        lines = [value for key, value in self._scope["headers"] if key == name]
        return b",".join(lines).decode("latin-1")

    def has_header(self, name: bytes) -> bool:
        """Say whether a header is there, even if it is empty."""
        return name in self._headers

    @property
    def method(self) -> str:
        """The HTTP method, in upper case."""
        method: str = self._scope["method"]
        return method

    @property
    def raw_path(self) -> str:
        """The path as it came, percent-encoded."""
        raw: bytes = self._scope.get("raw_path") or self._scope["path"].encode()
        return raw.decode("latin-1")

    @property
    def query(self) -> bytes:
        """The query as it came."""
        query: bytes = self._scope["query_string"]
        return query

    def metadata(self) -> list[tuple[str, str]]:
        """Return what travels on to the service: an allow-list, never whatever a client sends.

        Raises:
            Problem: a header cannot be carried by gRPC.
        """
        forwarded = [("x-request-id", self.request_id)]
        for header, name in _FORWARDED:
            value = self.header(header)
            if value:
                if not (value.isascii() and value.isprintable()):
                    detail = f"The header {name} must be printable ASCII."
                    raise invalid_argument(detail, "INVALID_HEADER")
                forwarded.append((name, value))
        trace = self.header(b"traceparent")
        if trace and _TRACEPARENT.fullmatch(trace) is not None:
            forwarded.append(("traceparent", trace))
        return forwarded

    def timeout_seconds(self, longest: float) -> float | None:
        """Return what Grpc-Timeout asks for, at most `longest`; None if there is no such header.

        Raises:
            Problem: it is malformed.
        """
        asked = self.header(b"grpc-timeout")
        if not asked:
            return None
        found = _TIMEOUT.fullmatch(asked)
        if found is None:
            detail = "Grpc-Timeout must be up to 8 digits and one of H, M, S, m, u, n."
            raise invalid_argument(detail, "INVALID_HEADER")
        return min(int(found[1]) * _TIMEOUT_UNITS[found[2]], longest)

    def note_failure(self, problem: Problem, cause: str) -> None:
        """Keep for the log what a service said of a failure, where the client is not told.

        What clients are told may hold what they sent, and that belongs in no log.
        """
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._cause = cause

    async def send(self, event: dict[str, Any]) -> None:
        """Pass an ASGI event on to the server; every answer carries the request id."""
        if event["type"] == "http.response.start":
            self._status = event["status"]
            headers = [*event["headers"], (REQUEST_ID_HEADER, self.request_id.encode())]
            if self.sets_vary and varies_by_encoding(self._status, headers):
                headers.append(VARY)
            event = {**event, "headers": headers}
        else:
            self._bytes += len(event.get("body", b""))
        await self._send(event)

    def bind_log(self) -> None:
        """Put the request id into every log event of this request."""
        structlog.contextvars.bind_contextvars(request_id=self.request_id)

    def write_log(self) -> None:
        """Log the request: one event, without query, headers or bodies."""
        client = self._scope.get("client") or ("", 0)
        optional = {"rpc": self.rpc, "code": self.code, "cause": self._cause}
        _LOG.info(
            "request",
            method=self._scope["method"],
            path=self.raw_path,
            status=self._status,
            duration_ms=round((time.perf_counter() - self._start) * 1_000, 3),
            bytes=self._bytes,
            client=client[0],
            **{name: value for name, value in optional.items() if value},
        )
