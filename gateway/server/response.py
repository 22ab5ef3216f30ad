"""Responses as bytes: status line, headers, and what frames the body."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from gateway.http.asgi import Headers
from gateway.http.problems import PROBLEM_JSON, Problem
from gateway.http.security_headers import ALWAYS

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Characters that are not allowed in a header (RFC 9110 section 5.5)."""

_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_PHRASES = {int(status): status.phrase for status in HTTPStatus}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()
    for status in range(200, 600)
}


class Response:
    """One response: its ASGI events as bytes."""

    def __init__(self, start: Mapping[str, Any], method: str, http_version: str) -> None:
        self.status: int = start["status"]
        self.closes = False
        """The application has set Connection: close."""
        self.complete = False
        self._headers: Headers = list(start.get("headers", ()))
        self._length: int | None = None
        """How many bytes of the body are missing; None without a Content-Length."""
        self._read_headers()
        self._has_body = method != "HEAD" and self.status not in _WITHOUT_BODY
        self._chunked = self._has_body and self._length is None and http_version == "1.1"

    def head(self, default_headers: Headers, *, closes: bool) -> bytes:
        """Return status line and headers.

        Raises:
            ValueError: a header has a character that is not allowed.
        """
        lines = [*default_headers, *self._headers]
        if closes and not self.closes:
            lines.append((b"connection", b"close"))
        if self._chunked:
            lines.append((b"transfer-encoding", b"chunked"))
        parts = [_STATUS_LINES[self.status]]
        for name, value in lines:
            if _FORBIDDEN.search(value) or _FORBIDDEN.search(name):
                raise ValueError(f"the header {name!r} cannot be sent")
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def body(self, content: bytes, *, more: bool) -> bytes:
        """Return a piece of the body with its framing.

        Raises:
            ValueError: the body is longer or shorter than its Content-Length.
        """
        if self._length is not None and self._has_body:
            self._length -= len(content)
            if self._length < 0 or (self._length and not more):
                raise ValueError("the body is not as long as its Content-Length")
        self.complete = not more
        if not self._has_body:
            return b""
        if self._chunked:
            return _chunk(content) if more else _chunk(content) + b"0\r\n\r\n"
        return content

    def _read_headers(self) -> None:
        for name, value in self._headers:
            if name == b"content-length":
                self._length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.closes = True


def format_problem(problem: Problem, *, closes: bool = True) -> bytes:
    """Return a whole response, by default with `Connection: close`."""
    body = problem.as_json()
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        *ALWAYS,
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    start = {"status": problem.status, "headers": headers}
    return Response(start, "GET", "1.1").head([], closes=closes) + body


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content) if content else b""
