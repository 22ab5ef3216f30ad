"""Requests parsed, checked and responses serialized by our own code: failures are `errors.Error`.

By default gRPC parses a request before it calls the method that an interceptor returned, and
serializes the response after it: a failure there ends the call with a status that is not ours.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from chassis import errors, rules
from chassis.transport import MAX_MESSAGE_BYTES

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]
"""A method of a servicer: a coroutine function, or an async generator if responses are streamed."""
Parse = Callable[[Any], Any]
"""Returns one request from its bytes, or a stream of requests from a stream of bytes."""
Serialize = Callable[[Any], bytes]

_MAKERS: Final[dict[tuple[bool, bool], Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def over_bytes(handler: Handler) -> Behaviour:
    """Return the behaviour of a handler, changed to take requests and return responses as bytes.

    It raises errors.InvalidArgument for a request that is not a message of its type or breaks a
    rule of the contract, and errors.Error, which is INTERNAL, for a response larger than
    MAX_MESSAGE_BYTES. A stream of requests yields messages only when it is iterated over:
    `context.read` returns bytes. Its messages are not checked, because a servicer may respond to a
    bad one and continue.
    """
    behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    parse = partial(
        _parse_stream if handler.request_streaming else _parse_checked,
        handler.request_deserializer or bytes,
    )
    serialize = partial(_serialize, handler.response_serializer or bytes)
    wrap = _stream_bytes if handler.response_streaming else _return_bytes
    return wrap(behaviour, parse, serialize)


def make_handler(like: Handler, behaviour: Behaviour) -> Handler:
    """Return a handler of the same kind as another one, for a behaviour over bytes."""
    made: Handler = _MAKERS[like.request_streaming, like.response_streaming](behaviour)
    return made


async def _parse_stream(
    parse: Callable[[bytes], Any], received: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for data in received:
        yield _parse(parse, data)


def _parse(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except DecodeError as error:
        message = "The request is not a protobuf message of the type that the method takes."
        raise errors.InvalidArgument("MALFORMED_REQUEST", message) from error


def _parse_checked(parse: Callable[[bytes], Any], data: bytes) -> Any:
    request = _parse(parse, data)
    if isinstance(request, Message):
        rules.check(request)
    return request


def _serialize(serialize: Callable[[Any], bytes], response: Any) -> bytes:
    data = serialize(response)
    if len(data) > MAX_MESSAGE_BYTES:
        message = (
            f"The response is larger than the {MAX_MESSAGE_BYTES} bytes that a message may have;"
            " what was asked for has been done."
        )
        raise errors.Error("RESPONSE_TOO_LARGE", message)
    return data


def _return_bytes(behaviour: Any, parse: Parse, serialize: Serialize) -> Behaviour:
    async def call(request: Any, context: Context) -> bytes:
        return serialize(await behaviour(parse(request), context))

    return call


def _stream_bytes(behaviour: Any, parse: Parse, serialize: Serialize) -> Behaviour:
    async def call(request: Any, context: Context) -> AsyncIterator[bytes]:
        async with aclosing(behaviour(parse(request), context)) as responses:
            async for response in responses:
                data = serialize(response)
                # The client may take long to read the bytes: do not hold the message meanwhile.
                del response
                yield data

    return call
