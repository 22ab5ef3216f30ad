"""Rows of `raw_requests` about request lines and headers.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from gateway.server.limits import MAX_HEAD_BYTES
from gateway.server.raw_rows import CREATED, SMUGGLED, Row, get, refused, sized

REQUEST_LINES = [
    Row("one request", "RFC 9112 2.1", get("7"), (200,), reached=("GetProbe 7",)),
    Row(
        "empty lines first",
        "RFC 9112 2.2: CRLF before a request line is ignored",
        b"\r\n\r\n\r\n" + get("7"),
        (200,),
        reached=("GetProbe 7",),
    ),
    Row(
        "absolute form",
        "RFC 9112 3.2.2: a server must take it; Host counts for nothing then",
        b"GET http://b/v1/probes/7?text=x HTTP/1.1\r\nHost: a\r\n\r\n",
        (200,),
        reached=("GetProbe 7",),
    ),
    Row(
        "HTTP/1.0",
        "RFC 9112 9.3: it is closed after the response",
        b"GET /v1/probes/7 HTTP/1.0\r\n\r\n" + SMUGGLED,
        (200,),
        closed=True,
        reached=("GetProbe 7",),
    ),
    Row(
        "HTTP/1.0 with Expect",
        "RFC 9110 10.1.1: ignored, as HTTP/1.0 has no 100 Continue",
        sized("Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"),
        (200,),
        closed=True,
        reached=CREATED,
    ),
    refused("HTTP/0.9", "RFC 9112 3: there is no version", b"GET /v1/probes/7\r\n"),
    refused(
        "HTTP/0.9 by name",
        "RFC 9110 15.6.6",
        get("7", version="0.9"),
        status=505,
        reason="UNSUPPORTED_HTTP_VERSION",
    ),
    refused(
        "HTTP/2.0 in a request line",
        "RFC 9110 15.6.6",
        get("7", version="2.0"),
        status=505,
        reason="UNSUPPORTED_HTTP_VERSION",
    ),
    refused(
        "HTTP/1.2",
        "RFC 9110 2.5: no such version was ever made",
        get("7", version="1.2"),
        status=505,
        reason="UNSUPPORTED_HTTP_VERSION",
    ),
    refused(
        "HTTP/2 preface",
        "RFC 9113 3.4",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        status=505,
        reason="UNSUPPORTED_HTTP_VERSION",
    ),
    refused("HTTP/1.10", "RFC 9112 2.3: one digit", get("7", version="1.10")),
    refused("HTTP/01.1", "RFC 9112 2.3: one digit", get("7", version="01.1")),
    refused("http/1.1", "RFC 9112 2.3: in capitals", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    refused("RTSP", "RFC 9112 2.3: llhttp would take it", b"GET / RTSP/1.0\r\n\r\n"),
    refused("TLS", "a TLS handshake on a port without TLS", b"\x16\x03\x01\x02\x00\x01\r\n"),
    refused("no HTTP", "RFC 9112 3", b"hello\r\n"),
    refused("two spaces", "RFC 9112 3: one SP", b"GET  /v1/probes/7 HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("tab", "RFC 9112 3: one SP", b"GET\t/v1/probes/7 HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("space after", "RFC 9112 3", b"GET /v1/probes/7 HTTP/1.1 \r\nHost: a\r\n\r\n"),
    refused("space before", "RFC 9112 2.2", b" GET /v1/probes/7 HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("bare LF before", "RFC 9112 2.2: CRLF only", b"\n" + get("7")),
    refused("bare CR before", "RFC 9112 2.2: CRLF only", b"\rG" + get("7")),
    refused(
        "lower case", "RFC 9110 9.1: methods have a case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    refused(
        "unknown method",
        "RFC 9110 15.6.2",
        b"FETCH /v1/probes/7 HTTP/1.1\r\nHost: a\r\n\r\n",
        status=501,
        reason="UNKNOWN_METHOD",
    ),
    refused(
        "CONNECT",
        "RFC 9110 9.3.6: no tunnels",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        reason="INVALID_TARGET",
    ),
    refused(
        "asterisk",
        "RFC 9112 3.2.4",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        reason="INVALID_TARGET",
    ),
    refused(
        "fragment", "RFC 9112 3.2: it is no part of a target", get("7#x"), reason="INVALID_TARGET"
    ),
    refused("control in the target", "RFC 3986 2", get("7\x01")),
    refused("NUL in the target", "RFC 3986 2", get("7\x00")),
    refused("byte above 127 in the target", "RFC 3986 2", get("7\xff")),
]

HEADERS = [
    refused("no Host", "RFC 9112 3.2", b"GET /v1/probes/7 HTTP/1.1\r\n\r\n", reason="INVALID_HOST"),
    refused("two Hosts", "RFC 9112 3.2", get("7", "Host: b"), reason="REPEATED_HEADER"),
    refused("the same Host twice", "RFC 9112 3.2", get("7", "host: a"), reason="REPEATED_HEADER"),
    refused(
        "bad Host", "RFC 9112 3.2", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", reason="INVALID_HOST"
    ),
    refused(
        "two Hosts in one",
        "RFC 9112 3.2",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        reason="INVALID_HOST",
    ),
    Row(
        "IPv6 Host",
        "RFC 3986 3.2.2",
        b"GET /v1/probes/7 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        (200,),
        reached=("GetProbe 7",),
    ),
    Row(
        "empty Host",
        "RFC 9112 3.2",
        b"GET /v1/probes/7 HTTP/1.1\r\nHost:\r\n\r\n",
        (200,),
        reached=("GetProbe 7",),
    ),
    refused(
        "two Authorizations",
        "RFC 9110 5.3: one proxy checks the first, another the last",
        get("7", "Authorization: Bearer a", "authorization: Bearer b"),
        reason="REPEATED_HEADER",
    ),
    refused(
        "two Idempotency-Keys",
        "RFC 9110 5.3",
        sized("Idempotency-Key: a", "Idempotency-Key: b"),
        reason="REPEATED_HEADER",
    ),
    refused(
        "two Content-Types",
        "RFC 9110 5.3",
        sized("Content-Type: text/plain"),
        reason="REPEATED_HEADER",
    ),
    Row(
        "a list in two lines",
        "RFC 9110 5.3: lists may be",
        get("7", "Accept: text/html", "Accept: application/json"),
        (200,),
        reached=("GetProbe 7",),
    ),
    refused("space before colon", "RFC 9112 5.1", get("7", "Authorization : a")),
    refused("no name", "RFC 9112 5", get("7", ": a")),
    refused("no colon", "RFC 9112 5", get("7", "Authorization")),
    refused("folded line", "RFC 9112 5.2", get("7", "X-Folded: a", " b")),
    refused("space before the first header", "RFC 9112 2.2", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    refused("NUL in a value", "RFC 9110 5.5", get("7", "X-Nul: a\x00b")),
    refused("CR in a value", "RFC 9110 5.5", get("7", "X-Cr: a\rb")),
    refused("control in a value", "RFC 9110 5.5", get("7", "X-Bell: a\x07b")),
    refused("byte above 127 in a name", "RFC 9110 5.1", get("7", "X-\xff: a")),
    refused("bare LF", "RFC 9112 2.2: it may be refused", get("7", "X-A: a\nX-B: b")),
    refused("bare LFs only", "RFC 9112 2.2", b"GET /v1/probes/7 HTTP/1.1\nHost: a\n\n"),
    refused(
        "head over the bound",
        "RFC 6585 5",
        get("7", "X-Long: " + "x" * MAX_HEAD_BYTES),
        status=431,
        reason="HEADERS_TOO_LARGE",
    ),
    refused(
        "many headers",
        "RFC 6585 5",
        get("7", *[f"X-{at}: " + "x" * 100 for at in range(400)]),
        status=431,
        reason="HEADERS_TOO_LARGE",
    ),
    refused(
        "path over the bound",
        "RFC 6585 5",
        get("7" * MAX_HEAD_BYTES),
        status=431,
        reason="HEADERS_TOO_LARGE",
    ),
    refused(
        "empty lines over the bound",
        "RFC 6585 5",
        b"\r\n" * MAX_HEAD_BYTES + get("7"),
        status=431,
        reason="HEADERS_TOO_LARGE",
    ),
    Row(
        "head at the bound",
        "RFC 6585 5",
        get("7", "X-Long: " + "x" * (MAX_HEAD_BYTES - len(get("7", "X-Long: ")))),
        (200,),
        reached=("GetProbe 7",),
    ),
]
