"""The body of an HTTP request as one gRPC request, or as a stream of them."""

from collections.abc import AsyncIterator, Collection

from google.protobuf.message import Message

from gateway.calls.concurrency_limit import ConcurrencyLimit
from gateway.http.client_address import network_of
from gateway.http.exchange import Exchange
from gateway.http.media_types import JSON, NDJSON, NDJSON_ALIASES
from gateway.http.problems import Problem, invalid_argument
from gateway.routing.transcoding import RequestParts


async def read_message(
    parts: RequestParts, exchange: Exchange, open_bodies: ConcurrencyLimit
) -> Message:
    """Read the body of a request that is one message; it counts as open until it is complete.

    Raises:
        Problem: the body has the wrong type or an encoding, is too large or too slow, or does not
            fit; or too many bodies are open.
        ClientGoneError: the client disconnected before the end.
    """
    binding = parts.route.body
    content_type = exchange.header(b"content-type")
    if binding is None:
        if exchange.body.expected:
            raise invalid_argument("This request takes no body.", "UNEXPECTED_BODY")
        return parts.message(b"", content_type)
    _check_encoding(exchange)
    with open_bodies.of(network_of(exchange.client)):
        body = await exchange.body.read()
    if body and not binding.raw:
        _check_type(content_type, (JSON,))
    return parts.message(body, content_type)


def read_messages(parts: RequestParts, exchange: Exchange) -> AsyncIterator[Message]:
    """Read the body of a request that is a stream of messages, as it arrives.

    Raises:
        Problem: the body has the wrong type, or an encoding; raised before any of it is read.
    """
    content_type = exchange.header(b"content-type")
    _check_encoding(exchange)
    if parts.route.body is not None and parts.route.body.raw:
        return (parts.message(chunk, content_type) async for chunk in exchange.body.chunks())
    if exchange.body.expected:
        _check_type(content_type, (NDJSON, *NDJSON_ALIASES))
    return _read_lines(parts, exchange, content_type)


async def _read_lines(
    parts: RequestParts, exchange: Exchange, content_type: str
) -> AsyncIterator[Message]:
    number = 0
    async for line in exchange.body.lines():
        number += 1
        try:
            message = parts.message(line, content_type)
        except Problem as problem:
            problem.detail = f"Record {number}: {problem.detail}"
            problem.metadata = {**problem.metadata, "record": str(number)}
            raise
        yield message


def _check_encoding(exchange: Exchange) -> None:
    """Refuse a body that is compressed (RFC 9110 §8.4, §12.5.3).

    The limits on bodies are meant for their decoded content. Raw bytes are refused too, because
    HttpBody has no field for their encoding.
    """
    encoding = exchange.list_header(b"content-encoding")
    if encoding is None or not exchange.body.expected or encoding.strip().lower() == "identity":
        return
    raise Problem(
        status=415,
        code="INVALID_ARGUMENT",
        detail="The body must not have a Content-Encoding other than identity.",
        reason="UNSUPPORTED_CONTENT_ENCODING",
        headers={"Accept-Encoding": "identity"},
    )


def _check_type(content_type: str, expected: Collection[str]) -> None:
    """Refuse a body of another media type, or of none; JSON is UTF-8 (RFC 8259).

    A body without a type may come from a page of any site, because browsers send it without a
    preflight (Fetch, "CORS-safelisted request-header").
    """
    name, _, parameters = content_type.lower().partition(";")
    charset = parameters.strip().replace('"', "")
    if name.strip() in expected and charset in ("", "charset=utf-8"):
        return
    names = " or ".join(sorted(expected))
    detail = f"The Content-Type of the body must be {names}, in UTF-8."
    raise Problem(415, "INVALID_ARGUMENT", detail, "UNSUPPORTED_MEDIA_TYPE")
