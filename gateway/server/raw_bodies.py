"""Rows of `raw_requests` about bodies: their ends, and their content.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from gateway.server.limits import MAX_FRAMING_BYTES
from gateway.server.raw_rows import (
    CHUNK,
    CREATED,
    LAST,
    REQUEST_ID,
    Row,
    chunked,
    endless,
    get,
    post,
    refused,
    served,
    sized,
)

LENGTHS = [
    served("Content-Length", "RFC 9112 6.2", sized()),
    served(
        "space around", "RFC 9110 5.5: not part", post("Content-Length: \t10 ", body=CHUNK[3:-2])
    ),
    served("leading zeros", "RFC 9110 8.6: digits", post("Content-Length: 0010", body=CHUNK[3:-2])),
    Row(
        "no length",
        "RFC 9112 6.3: no body, so what follows is the next request",
        post(path="/v1/probes:touch") + get("2"),
        (200, 200),
        reached=("CreateProbe ", "GetProbe 2"),
    ),
    refused("two lengths", "RFC 9112 6.3", post("Content-Length: 10", "Content-Length: 11")),
    refused(
        "the same length twice", "RFC 9112 6.3", post("Content-Length: 2", "Content-Length: 2")
    ),
    refused("list of lengths", "RFC 9112 6.3", post("Content-Length: 2, 2", body=b"{}")),
    refused("plus", "RFC 9110 8.6", post("Content-Length: +2", body=b"{}")),
    refused("minus", "RFC 9110 8.6", post("Content-Length: -2", body=b"{}")),
    refused("hexadecimal", "RFC 9110 8.6", post("Content-Length: 0x2", body=b"{}")),
    refused(
        "underscore", "RFC 9110 8.6: Python's int would accept it", post("Content-Length: 1_0")
    ),
    refused("empty length", "RFC 9110 8.6", post("Content-Length: ")),
    refused(
        "thousands of zeros",
        "RFC 9110 8.6: to be prepared for; Python's int raises",
        post(f"Content-Length: {'0' * 5000}2", body=b"{}"),
    ),
    refused("2^64", "RFC 9110 8.6: overflow", post("Content-Length: 18446744073709551616")),
    refused(
        "2^64 - 1",
        "RFC 9110 15.5.14",
        post("Content-Length: 18446744073709551615"),
        status=413,
        reason="TOO_LARGE",
    ),
]

CODINGS = [
    served("chunked", "RFC 9112 7.1", chunked(CHUNK + LAST)),
    served(
        "case",
        "RFC 9112 7: codings are case-insensitive",
        post("Transfer-Encoding: CHUNKED", body=CHUNK + LAST),
    ),
    refused(
        "length, then coding",
        "RFC 9112 6.1: CL.TE smuggling",
        post("Content-Length: 5", "Transfer-Encoding: chunked", body=LAST),
    ),
    refused(
        "coding, then length",
        "RFC 9112 6.1: TE.CL smuggling",
        post("Transfer-Encoding: chunked", "Content-Length: 5", body=LAST),
    ),
    refused("space before colon", "RFC 9112 5.1", post("Transfer-Encoding : chunked", body=LAST)),
    refused("xchunked", "RFC 9112 6.1", post("Transfer-Encoding: xchunked", body=LAST)),
    refused("quoted", "RFC 9112 6.1", post('Transfer-Encoding: "chunked"', body=LAST)),
    refused("parameter", "RFC 9112 7", post("Transfer-Encoding: chunked;a=b", body=LAST)),
    refused("vertical tab", "RFC 9110 5.5", post("Transfer-Encoding: \x0bchunked", body=LAST)),
    refused("empty coding", "RFC 9112 6.1", post("Transfer-Encoding: ", body=LAST)),
    refused("identity", "RFC 9112 7", post("Transfer-Encoding: identity", body=LAST)),
    refused("not last", "RFC 9112 6.3", post("Transfer-Encoding: chunked, identity", body=LAST)),
    refused("twice", "RFC 9112 6.1", post(*["Transfer-Encoding: chunked"] * 2, body=LAST)),
    refused(
        "gzip, chunked",
        "RFC 9112 6.1",
        post("Transfer-Encoding: gzip, chunked", body=LAST),
        status=501,
        reason="UNKNOWN_TRANSFER_CODING",
    ),
    refused("folded", "RFC 9112 5.2", post("Transfer-Encoding:", " chunked", body=LAST)),
    refused(
        "chunked in HTTP/1.0",
        "RFC 9112 6.1",
        b"POST /v1/probes HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK + LAST,
    ),
    Row(
        "another header",
        "Transfer_Encoding is another header: the body is read as the next request",
        post("Transfer_Encoding: chunked", path="/v1/probes:touch", body=LAST),
        (200, 400),
        reason="INVALID_HTTP",
        closed=True,
        reached=("CreateProbe ",),
    ),
]

CHUNKS = [
    served(
        "chunk of each byte",
        "RFC 9112 7.1",
        chunked(b"".join(b"1\r\n%c\r\n" % c for c in b'{"id":"1"}') + LAST),
    ),
    served("capital size", "RFC 9112 7.1", chunked(CHUNK.upper().replace(b"ID", b"id") + LAST)),
    served("zeros", "RFC 9112 7.1: 1*HEXDIG", chunked(b"0000" + CHUNK + b"000\r\n\r\n")),
    served("extensions", "RFC 9112 7.1.1: ignored", chunked(b'a;b=c;d="e"' + CHUNK[1:] + LAST)),
    served(
        "empty lines in the body",
        "the end is found by the sizes alone",
        chunked(b'9\r\n{\r\n\r\n\r\n\r\n\r\n9\r\n "id":"1"\r\n1\r\n}\r\n' + LAST),
    ),
    refused("no size", "RFC 9112 7.1", chunked(b"\r\n" + CHUNK + LAST)),
    refused("size over 2^64", "RFC 9112 7.1: overflow", chunked(b"1000000000000000a\r\n{}\r\n")),
    refused("plus before size", "RFC 9112 7.1", chunked(b"+" + CHUNK + LAST)),
    refused("minus before size", "RFC 9112 7.1", chunked(b"-" + CHUNK + LAST)),
    refused("0x before size", "RFC 9112 7.1", chunked(b"0x" + CHUNK + LAST)),
    refused("space before size", "RFC 9112 7.1", chunked(b" " + CHUNK + LAST)),
    refused(
        "space after size",
        "RFC 9112 7.1.1: BWS is bad",
        chunked(CHUNK.replace(b"a\r", b"a \r") + LAST),
    ),
    refused("LF after size", "RFC 9112 2.2", chunked(CHUNK.replace(b"a\r", b"a") + LAST)),
    refused("LF after data", "RFC 9112 7.1", chunked(CHUNK[:-2] + b"\n" + LAST)),
    refused("data longer than size", "RFC 9112 7.1", chunked(b"9" + CHUNK[1:] + LAST)),
    refused(
        "LF in an extension",
        "RFC 9112 7.1.1: TERM.EXT smuggling",
        chunked(b"a;b\n" + CHUNK[1:] + LAST),
    ),
    refused("CR in an extension", "RFC 9112 7.1.1", chunked(b"a;b\rc" + CHUNK[1:] + LAST)),
    refused("LF in a quoted extension", "RFC 9112 7.1.1", chunked(b'a;b="\n"' + CHUNK[1:] + LAST)),
    refused("extension without a name", "RFC 9112 7.1.1", chunked(b"a;" + CHUNK[1:] + LAST)),
    refused("LF at the end", "RFC 9112 7.1", chunked(CHUNK + b"0\r\n\n")),
    refused("LF after the last size", "RFC 9112 7.1", chunked(CHUNK + b"0\n\r\n")),
    endless("extension over the bound", chunked(b"a;" + b"x" * 2 * MAX_FRAMING_BYTES)),
    endless("zeros over the bound", chunked(b"0" * 2 * MAX_FRAMING_BYTES)),
]

TRAILERS = [
    served(
        "trailers",
        "RFC 9110 6.5.1: not merged into the headers",
        chunked(
            CHUNK + b"0\r\nAuthorization: Bearer x\r\nX-Request-Id: x\r\n\r\n",
            "Authorization: Bearer head",
            f"X-Request-Id: {REQUEST_ID}",
        ),
        metadata={"authorization": "Bearer head", "x-request-id": REQUEST_ID},
    ),
    Row(
        "request after trailers",
        "RFC 9112 7.1.2: they end with an empty line",
        chunked(CHUNK + b"0\r\nX-A: a\r\nX-B: b\r\n\r\n") + get("2"),
        (200, 200),
        reached=(*CREATED, "GetProbe 2"),
    ),
    Row(
        "request after Connection: close in a trailer",
        "RFC 9110 6.5.1: a dropped trailer has no effect",
        chunked(CHUNK + b"0\r\nConnection: close\r\n\r\n") + get("2"),
        (200, 200),
        reached=(*CREATED, "GetProbe 2"),
    ),
    served(
        "Connection in a trailer",
        "RFC 9110 6.5.1",
        chunked(CHUNK + b"0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    ),
    refused(
        "length in a trailer",
        "RFC 9110 6.5.1",
        chunked(CHUNK + b"0\r\nContent-Length: 1\r\n\r\n"),
    ),
    refused("folded trailer", "RFC 9112 5.2", chunked(CHUNK + b"0\r\nX-A: a\r\n b\r\n\r\n")),
    refused("LF after a trailer", "RFC 9112 2.2", chunked(CHUNK + b"0\r\nX-A: a\n\r\n")),
    endless("trailer over the bound", chunked(b"0\r\nX-Long: " + b"x" * 2 * MAX_FRAMING_BYTES)),
    endless("trailers over the bound", chunked(b"0\r\n" + b"X-A: b\r\n" * MAX_FRAMING_BYTES)),
]
