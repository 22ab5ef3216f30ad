"""Requests as httptools (llhttp, in its strict mode) reads them, taken one at a time.

llhttp is never given more than one request: first a whole head, and then only what belongs to the
body. So nothing depends on how the client's bytes are split into packets. In strict mode, a head
and a chunked body both end with an empty line, CR LF CR LF, and nothing else.
"""

import re
from typing import NamedTuple

import httptools

from gateway.http.asgi import Headers
from gateway.http.problems import Problem, invalid_argument
from gateway.server.limits import FRAMING_BYTES_PER_BODY_BYTE, MAX_FRAMING_BYTES

EMPTY_LINE = b"\r\n\r\n"
"""The end of a head and of a chunked body."""

MAX_LENGTH_DIGITS = 20
"""The digits of 2^64 - 1, the largest length; Python's int() refuses thousands of digits."""

_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([^ \r\n]+) HTTP/([0-9]\.[0-9])\r\n")
_BODY_END = re.compile(rb"[^\n]" + EMPTY_LINE)
"""A possible end of a chunked body: an empty line after another one, such as `0`."""
_OVERLAP_BYTES = len(EMPTY_LINE)
"""How many parsed bytes may be the beginning of an incomplete end."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_SINGLE_VALUED = (
    b"authorization",
    b"content-type",
    b"grpc-timeout",
    b"host",
    b"idempotency-key",
    b"last-event-id",
    b"transfer-encoding",
    b"x-request-id",
)
"""Headers with a single value: of two lines, a proxy may have acted on the other one."""


class Head(NamedTuple):
    """Request line and headers."""

    method: str
    path: bytes
    """Still percent-encoded."""
    query: bytes
    headers: Headers
    """Names in lower case."""
    http_version: str
    keeps_alive: bool
    """The client allows the connection to stay open."""
    has_body: bool
    expects_continue: bool
    """The client waits for 100 Continue before it sends the body."""


class RequestParser:
    """Reads the requests of one connection: `read_head`, then `read_body` until `complete`."""

    def __init__(self) -> None:
        self.complete = True
        """The whole request has been read."""
        self._headers: Headers = []
        self._chunks: list[bytes] = []
        self._begun = False
        self._in_head = False
        self._had_trailers = False
        self._keeps_alive = False
        self._parser = self._body_parser = httptools.HttpRequestParser(self)
        self._remaining: int | None = 0
        """How many bytes of the body are missing, or None if it is chunked."""
        self._overlap = b""
        """The last parsed bytes of a chunked body, whose end may begin in them."""
        self._excess_framing_bytes = 0
        """How much the framing exceeds what the content so far allows."""

    def read_head(self, data: bytes) -> Head:
        """Read a whole head.

        Raises:
            Problem: it is malformed or not supported. Nothing more can be read after that.
        """
        method, target, version = check_request_line(data)
        if self._had_trailers:
            # To llhttp they are headers: after a trailer `Connection: close` it reads no more.
            self._parser = httptools.HttpRequestParser(self)
        self.complete = self._begun = self._had_trailers = False
        self._in_head = True
        self._headers = []
        self._body_parser = self._parser
        upgrade = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            upgrade = True
        except httptools.HttpParserError as error:
            raise _unreadable(error) from error
        headers = self._headers
        fields = dict(headers)
        _check_headers(headers, fields, version)
        has_body = self._expect_body(fields, upgrade)
        expected = fields.get(b"expect", b"").lower()
        return Head(
            method.decode(),
            *_split_target(method, target),
            headers,
            version.decode(),
            version == b"1.1" and self._keeps_alive,
            has_body,
            # HTTP/1.0 has no 100 Continue (RFC 9110 section 10.1.1).
            has_body and version == b"1.1" and expected == b"100-continue",
        )

    def read_body(self, data: bytes) -> tuple[bytes, int]:
        """Parse a piece of the body; return its content, and how much of `data` was parsed.

        Raises:
            Problem: the body is malformed, or has more framing than it may have.
        """
        try:
            taken = self._feed(data)
        except httptools.HttpParserError as error:
            raise _unreadable(error) from error
        content = b"".join(self._chunks)
        self._chunks.clear()
        self._count_framing(taken, len(content))
        return content, taken

    def close(self) -> None:
        """Break the reference cycle with httptools' parser, which only the collector would free."""
        del self._parser, self._body_parser

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Refuse a second request within one."""
        if self._begun:
            raise ValueError("a request within a request")
        self._begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; drop a trailer, which comes after the body."""
        if self._in_head:
            self._headers.append((name.lower(), value.rstrip(b" \t")))
        else:
            self._had_trailers = True

    def on_headers_complete(self) -> None:
        """Record the end of the head, and keep-alive, which httptools forgets after the body."""
        if self._in_head:
            self._in_head = False
            self._keeps_alive = self._parser.should_keep_alive()

    def on_body(self, chunk: bytes) -> None:
        """Store a piece of the content."""
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Record the end of the request."""
        self.complete = True

    def _expect_body(self, fields: dict[bytes, bytes], upgrade: bool) -> bool:
        """Prepare to read the body, and return whether there is one."""
        self._overlap = b""
        self._excess_framing_bytes = 0
        chunked = b"transfer-encoding" in fields
        self._remaining = None if chunked else _read_length(fields.get(b"content-length", b"0"))
        has_body = chunked or self._remaining != 0
        if upgrade and has_body:
            self._read_body_of_upgrade()
        elif has_body == self.complete:
            raise _malformed("the body is not where it was announced")
        return has_body

    def _read_body_of_upgrade(self) -> None:
        """Parse the body with a second parser: httptools ends a request with Upgrade at its head.

        The offer of another protocol is ignored (RFC 9110 section 7.8), so Content-Length or
        Transfer-Encoding frame the body as in any other request.
        """
        framing = b"Transfer-Encoding: chunked"
        if self._remaining is not None:
            framing = b"Content-Length: %d" % self._remaining
        self._begun = False
        self._body_parser = httptools.HttpRequestParser(self)
        self._body_parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + EMPTY_LINE)
        self.complete = False

    def _feed(self, data: bytes) -> int:
        """Parse the part of `data` that belongs to the body; return its size."""
        if self._remaining is None:
            return self._feed_chunked(data)
        taken = min(self._remaining, len(data))
        self._remaining -= taken
        self._body_parser.feed_data(data[:taken])
        return taken

    def _feed_chunked(self, data: bytes) -> int:
        """Parse up to each possible end of the body in turn, until one of them is the end.

        Most of them are content; there may be one in every five bytes.
        """
        at = begin = len(self._overlap)
        joined = self._overlap + data
        view = memoryview(joined)
        while at < len(joined) and not self.complete:
            found = _BODY_END.search(joined, max(0, at - _OVERLAP_BYTES))
            end = len(joined) if found is None else found.end()
            self._body_parser.feed_data(view[at:end])
            at = end
        self._overlap = joined[max(0, at - _OVERLAP_BYTES) : at]
        return at - begin

    def _count_framing(self, taken: int, content: int) -> None:
        excess = self._excess_framing_bytes + taken - content * (1 + FRAMING_BYTES_PER_BODY_BYTE)
        self._excess_framing_bytes = max(0, excess)
        if self._excess_framing_bytes > MAX_FRAMING_BYTES:
            detail = "The body has too much in chunk extensions or trailers."
            raise Problem(431, "INVALID_ARGUMENT", detail, "FRAMING_TOO_LARGE")


def check_request_line(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return method, target and version of the request line that `data` begins with.

    Raises:
        Problem: there is no request line, or its version of HTTP is not supported.
    """
    found = _REQUEST_LINE.match(data)
    if found is None:
        raise _malformed("the request line")
    method, target, version = found.groups()
    if version not in (b"1.1", b"1.0"):
        detail = "Only HTTP/1.1 and HTTP/1.0 are supported."
        raise Problem(505, "UNIMPLEMENTED", detail, "UNSUPPORTED_HTTP_VERSION")
    return method, target, version


def _check_headers(headers: Headers, fields: dict[bytes, bytes], version: bytes) -> None:
    if len(fields) < len(headers):
        _check_repeated([name for name, _ in headers])
    host = fields.get(b"host", b"" if version == b"1.0" else None)
    if host is None or not _HOST.fullmatch(host):
        raise invalid_argument("There must be one valid Host header.", "INVALID_HOST")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        _check_transfer_coding(coding, version)


def _check_repeated(names: list[bytes]) -> None:
    for name in _SINGLE_VALUED:
        if names.count(name) > 1:
            detail = f"The header {name.decode()} must be given once."
            raise invalid_argument(detail, "REPEATED_HEADER")


def _check_transfer_coding(coding: bytes, version: bytes) -> None:
    """Allow chunked only, and nothing in HTTP/1.0 (RFC 9112 section 6.1)."""
    if version == b"1.0":
        raise _malformed("HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() != b"chunked":
        detail = "The only supported transfer coding is chunked."
        raise Problem(501, "UNIMPLEMENTED", detail, "UNKNOWN_TRANSFER_CODING")


def _read_length(digits: bytes) -> int:
    """Read a Content-Length. llhttp has checked it, but allows any number of leading zeros."""
    if len(digits) > MAX_LENGTH_DIGITS:
        raise _malformed("the length of the body")
    return int(digits)


def _split_target(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a target in origin form or absolute form (RFC 9112 section 3.2)."""
    if method == b"CONNECT" or b"#" in target or not target.startswith((b"/", b"http")):
        raise invalid_argument("The request target must be a path or a URL.", "INVALID_TARGET")
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return path, query
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError as error:
        raise invalid_argument("The request target is not a URL.", "INVALID_TARGET") from error
    return url.path or b"/", url.query or b""


def _malformed(why: str) -> Problem:
    return invalid_argument(f"The HTTP request is malformed: {why}.", "INVALID_HTTP")


def _unreadable(error: httptools.HttpParserError) -> Problem:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        detail = "The method is not known."
        return Problem(501, "UNIMPLEMENTED", detail, "UNKNOWN_METHOD")
    return _malformed(str(error))
