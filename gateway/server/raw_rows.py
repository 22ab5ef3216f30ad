"""The rows of `raw_requests`.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """Bytes on a new connection, and the expected outcome."""

    name: str
    why: str
    data: bytes
    statuses: tuple[int, ...]
    """The statuses of all responses, in order."""
    reason: str = ""
    """The reason of the last response, if it is a problem."""
    closed: bool = False
    """Whether the gateway closes the connection then; otherwise it takes another request."""
    reached: tuple[str, ...] = ()
    """The calls that the service receives, each with the id in its request message."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Some of the metadata of the last call."""


def get(name: str, *lines: str, version: str = "1.1") -> bytes:
    """Return a GET of a probe, with header lines."""
    head = [f"GET /v1/probes/{name} HTTP/{version}", "Host: a", *lines, "", ""]
    return "\r\n".join(head).encode()


def post(*lines: str, body: bytes = b"", path: str = "/v1/probes") -> bytes:
    """Return a POST of JSON with header lines and a body; nothing frames the body."""
    lines = ("Host: a", "Content-Type: application/json", *lines)
    head = [f"POST {path} HTTP/1.1", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def sized(*lines: str, body: bytes = b'{"id":"1"}', path: str = "/v1/probes") -> bytes:
    """Return a POST with the right Content-Length."""
    return post(*lines, f"Content-Length: {len(body)}", body=body, path=path)


def chunked(body: bytes, *lines: str) -> bytes:
    """Return a POST whose chunked body is `body`, as it is."""
    return post(*lines, "Transfer-Encoding: chunked", body=body)


CHUNK = b'a\r\n{"id":"1"}\r\n'
CREATED = ("CreateProbe 1",)
LAST = b"0\r\n\r\n"
REQUEST_ID = "0af7651916cd43dd8448eb211c80319c"
SMUGGLED = b"DELETE /v1/probes/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def refused(
    name: str, why: str, data: bytes, status: int = 400, reason: str = "INVALID_HTTP"
) -> Row:
    """Return a row that is refused without a call; no request after it is served."""
    return Row(name, why, data + SMUGGLED, (status,), reason, closed=True)


def endless(name: str, data: bytes) -> Row:
    """Return a row with the beginning of a body that would never end."""
    why = "every byte that is not body counts against a bound"
    return Row(name, why, data, (431,), "FRAMING_TOO_LARGE", closed=True)


def served(name: str, why: str, data: bytes, **expected: object) -> Row:
    """Return a row of one request that creates probe 1, and leaves the connection open."""
    return Row(name, why, data, (200,), reached=CREATED, **expected)  # type: ignore[arg-type]
