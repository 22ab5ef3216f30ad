"""The gRPC requests that the body of an HTTP request becomes: one, or a stream of them."""

from collections.abc import AsyncIterator, Collection

from google.protobuf.message import Message

from gateway.errors import Problem, invalid_argument
from gateway.exchange import Exchange
from gateway.media_types import JSON, NDJSON, NDJSON_ALIASES
from gateway.routing.transcoding import RequestParts


async def read_message(parts: RequestParts, exchange: Exchange) -> Message:
    """Read the body of a request that is one message."""
    binding = parts.route.body
    content_type = exchange.header(b"content-type")
    if binding is None:
        if exchange.body.expected:
            raise invalid_argument("This request takes no body.", "UNEXPECTED_BODY")
        return parts.message(b"", content_type)
    body = await exchange.body.read()
    if body and not binding.raw:
        _check_type(content_type, (JSON,))
    return parts.message(body, content_type)


async def read_messages(parts: RequestParts, exchange: Exchange) -> AsyncIterator[Message]:
    """Read the body of a request that is a stream of messages, as it comes."""
    content_type = exchange.header(b"content-type")
    if parts.route.body is not None and parts.route.body.raw:
        async for chunk in exchange.body.chunks():
            yield parts.message(chunk, content_type)
        return
    if exchange.body.expected:
        _check_type(content_type, (NDJSON, *NDJSON_ALIASES))
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


def _check_type(content_type: str, wanted: Collection[str]) -> None:
    """Refuse a body of another type; JSON is UTF-8 (RFC 8259), and no type is taken for it."""
    name, _, parameters = content_type.lower().partition(";")
    charset = parameters.strip().replace('"', "")
    if (name.strip() in wanted or not content_type) and charset in ("", "charset=utf-8"):
        return
    names = " or ".join(sorted(wanted))
    detail = f"The body must be {names}, in UTF-8."
    raise Problem(415, "INVALID_ARGUMENT", detail, "UNSUPPORTED_MEDIA_TYPE")
