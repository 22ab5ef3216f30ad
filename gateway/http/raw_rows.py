"""What the rows of `raw_requests` are made of.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """Bytes on a new connection, and what must come of them."""

    name: str
    why: str
    data: bytes
    statuses: tuple[int, ...]
    """Of all responses, in order."""
    reason: str = ""
    """Of the last response, where it is a problem."""
    closed: bool = False
    """The gateway closes then; otherwise it takes another request."""
    reached: tuple[str, ...] = ()
    """The calls that the service gets, each with the id of its message."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Some of what the last call carries."""


def get(name: str, *lines: str, version: str = "1.1") -> bytes:
    """Return a GET of a probe, with header lines."""
    head = [f"GET /v1/probes/{name} HTTP/{version}", "Host: a", *lines, "", ""]
    return "\r\n".join(head).encode()


def post(*lines: str, body: bytes = b"", path: str = "/v1/probes") -> bytes:
    """Return a POST of JSON as header lines and body say."""
    lines = ("Host: a", "Content-Type: application/json", *lines)
    head = [f"POST {path} HTTP/1.1", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def sized(*lines: str, body: bytes = b'{"id":"1"}', path: str = "/v1/probes") -> bytes:
    """Return a POST with a Content-Length that is right."""
    return post(*lines, f"Content-Length: {len(body)}", body=body, path=path)


def chunked(body: bytes, *lines: str) -> bytes:
    """Return a POST whose chunked body is `body`, as it is."""
    return post(*lines, "Transfer-Encoding: chunked", body=body)


CHUNK = b'a\r\n{"id":"1"}\r\n'
CREATED = ("CreateProbe 1",)
LAST = b"0\r\n\r\n"
SMUGGLED = b"DELETE /v1/probes/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def refused(
    name: str, why: str, data: bytes, status: int = 400, reason: str = "INVALID_HTTP"
) -> Row:
    """Return a row that is refused before anything is called; what follows it is not looked at."""
    return Row(name, why, data + SMUGGLED, (status,), reason, closed=True)


def endless(name: str, data: bytes) -> Row:
    """Return a row of what would go on for ever, as far as it is read."""
    why = "every byte that is not body counts against a bound"
    return Row(name, why, data, (431,), "FRAMING_TOO_LARGE", closed=True)


def served(name: str, why: str, data: bytes, **expected: object) -> Row:
    """Return a row of one request that creates probe 1, and leaves the connection open."""
    return Row(name, why, data, (200,), reached=CREATED, **expected)  # type: ignore[arg-type]
