"""Rows of `raw_requests` about sequences: upgrades, pipelines, refused uploads.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from gateway.server.limits import MAX_HEAD_BYTES
from gateway.server.raw_rows import (
    CHUNK,
    CREATED,
    LAST,
    REQUEST_ID,
    SMUGGLED,
    Row,
    chunked,
    get,
    refused,
    served,
    sized,
)

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")

UPGRADES = [
    served("h2c", "RFC 9110 7.8: ignored, the body is read", sized(*H2C)),
    served("h2c, chunked", "RFC 9110 7.8", chunked(CHUNK + LAST, *H2C)),
    served(
        "websocket",
        "RFC 9110 7.8",
        sized("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    ),
    Row(
        "h2c without a body",
        "RFC 9110 7.8",
        get("7", *H2C) + get("8"),
        (200, 200),
        reached=("GetProbe 7", "GetProbe 8"),
    ),
    Row(
        "h2c, the body a request",
        "the length makes it a body, and not a request",
        sized(*H2C, body=SMUGGLED) + get("8"),
        (400, 200),
        reached=("GetProbe 8",),
    ),
    Row(
        "h2c, then another request",
        "RFC 9112 9.3.2",
        sized(*H2C) + get("8"),
        (200, 200),
        reached=(*CREATED, "GetProbe 8"),
    ),
    served(
        "h2c, trailers",
        "RFC 9110 6.5.1",
        chunked(CHUNK + b"0\r\nX-Request-Id: x\r\n\r\n", *H2C, f"X-Request-Id: {REQUEST_ID}"),
        metadata={"x-request-id": REQUEST_ID},
    ),
    refused("h2c, bad chunk", "RFC 9112 7.1", chunked(b"x" + CHUNK, *H2C)),
    refused("h2c, two lengths", "RFC 9112 6.3", sized(*H2C, "Content-Length: 10")),
]

PIPELINES = [
    Row(
        "three in one",
        "RFC 9112 9.3.2: in order",
        get("1") + get("2") + get("3"),
        (200, 200, 200),
        reached=("GetProbe 1", "GetProbe 2", "GetProbe 3"),
    ),
    Row(
        "different bodies",
        "RFC 9112 6",
        sized() + chunked(CHUNK + LAST) + get("3"),
        (200, 200, 200),
        reached=(*CREATED, *CREATED, "GetProbe 3"),
    ),
    Row(
        "a bad one after good ones",
        "the requests before it are complete",
        get("1") + get("2") + b"?\r\n\r\n",
        (200, 200, 400),
        reason="INVALID_HTTP",
        closed=True,
        reached=("GetProbe 1", "GetProbe 2"),
    ),
    Row(
        "a large one after a good one",
        "as above",
        get("1") + get("x" * MAX_HEAD_BYTES),
        (200, 431),
        reason="HEADERS_TOO_LARGE",
        closed=True,
        reached=("GetProbe 1",),
    ),
    Row(
        "large body, then a piece of a head",
        "each request has limits of its own",
        sized(body=b'{"id":"1"}' + b" " * 200000) + get("2")[:-2] + b"X-A: b\r\n\r\n",
        (200, 200),
        reached=(*CREATED, "GetProbe 2"),
    ),
    Row(
        "5,000 at once",
        "reading pauses, and nothing is lost",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 5000,
        (200,) * 5000,
    ),
    Row(
        "after Connection: close",
        "RFC 9112 9.6: further requests are ignored",
        get("1", "Connection: close") + SMUGGLED,
        (200,),
        closed=True,
        reached=("GetProbe 1",),
    ),
    Row(
        "close among others",
        "RFC 9110 7.6.1: a list",
        get("1", "Connection: x, Close") + SMUGGLED,
        (200,),
        closed=True,
        reached=("GetProbe 1",),
    ),
    Row(
        "problems in between",
        "a problem of the application is a response",
        get("1/2/3") + get("2"),
        (404, 200),
        reached=("GetProbe 2",),
    ),
]

UPLOAD = b"x" * 100_000

UPLOADS = [
    Row(
        "to an unknown path",
        "RFC 9112 9.6: the connection is closed after the response",
        sized(path="/v1/none", body=UPLOAD),
        (404,),
        reason="UNKNOWN_PATH",
        closed=True,
    ),
    Row(
        "to a path without the method",
        "RFC 9112 9.6",
        sized(path="/v1/groups/1/probes/2", body=UPLOAD),
        (405,),
        reason="METHOD_NOT_ALLOWED",
        closed=True,
    ),
    Row(
        "over the bound",
        "RFC 9112 9.6",
        sized(body=UPLOAD * 12),
        (413,),
        reason="TOO_LARGE",
        closed=True,
    ),
    Row(
        "chunked over the bound",
        "RFC 9112 9.6",
        chunked(b"186a0\r\n%s\r\n" % UPLOAD * 14 + LAST),
        (413,),
        reason="TOO_LARGE",
        closed=True,
    ),
    Row(
        "to what takes none",
        "RFC 9112 9.6",
        b"DELETE /v1/probes/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + UPLOAD,
        (400,),
        reason="UNEXPECTED_BODY",
        closed=True,
    ),
    Row(
        "Expect, refused",
        "RFC 9110 10.1.1: no 100; the body that arrives is discarded",
        sized("Expect: 100-continue", path="/v1/none", body=UPLOAD),
        (404,),
        reason="UNKNOWN_PATH",
        closed=True,
    ),
]
