"""The messages of a call as bytes, so that what is wrong with them is an error like any other.

By itself gRPC parses a request before, and serialises a response after, any code of ours: what
fails there leaves as UNKNOWN with Python's text, or with gRPC's own.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from chassis import errors
from chassis.transport import MAX_MESSAGE_BYTES

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Read = Callable[[Any], Any]
"""Makes one request, or a stream of them, of what gRPC hands over."""
Write = Callable[[Any], bytes]

_MAKERS: Final[dict[tuple[bool, bool], Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def over_bytes(handler: Handler) -> Handler:
    """Return a handler of the same kind that takes and returns bytes.

    Called, it raises errors.InvalidArgument for a request that is no message of its type, and
    errors.Error, which is INTERNAL, for a response that is larger than a message may be. Of a
    stream of requests only iteration yields messages: `context.read` returns bytes.
    """
    behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    read = partial(
        _Requests if handler.request_streaming else _parse, handler.request_deserializer or bytes
    )
    write = partial(_serialize, handler.response_serializer or bytes)
    respond = _respond_in_parts if handler.response_streaming else _respond
    make = _MAKERS[handler.request_streaming, handler.response_streaming]
    made: Handler = make(respond(behaviour, read, write))
    return made


class _Requests:
    """A stream of requests."""

    def __init__(self, parse: Callable[[bytes], Any], received: AsyncIterator[bytes]) -> None:
        self._parse = parse
        self._received = received

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return _parse(self._parse, await anext(self._received))


def _parse(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except DecodeError as error:
        message = "The request is not a protobuf message of the type that the method takes."
        raise errors.InvalidArgument("MALFORMED_REQUEST", message) from error


def _serialize(serialize: Callable[[Any], bytes], response: Any) -> bytes:
    data = serialize(response)
    if len(data) > MAX_MESSAGE_BYTES:
        message = (
            f"The response is larger than the {MAX_MESSAGE_BYTES} bytes that a message may have;"
            " what was asked for has been done."
        )
        raise errors.Error("RESPONSE_TOO_LARGE", message)
    return data


def _respond(behaviour: Any, read: Read, write: Write) -> Any:
    async def call(request: Any, context: Context) -> bytes:
        return write(await behaviour(read(request), context))

    return call


def _respond_in_parts(behaviour: Any, read: Read, write: Write) -> Any:
    async def call(request: Any, context: Context) -> AsyncIterator[bytes]:
        async with aclosing(behaviour(read(request), context)) as responses:
            async for response in responses:
                data = write(response)
                # The client may take long to read this, and both may be large.
                del response
                yield data

    return call
