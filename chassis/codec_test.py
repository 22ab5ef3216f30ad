"""Malformed requests and responses that are too large, for each kind of method."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf import wrappers_pb2

from chassis.codec import Context
from chassis.database import Database
from chassis.server import Server
from chassis.testing import Refusal, access_control, refusal, serving
from chassis.transport import MAX_MESSAGE_BYTES

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
SERVICE = "test.Service"
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
# The tag of a field that has a length, and no length.
MALFORMED = b"\x0a"
NOT_UTF_8 = b"\x0a\x01\xff"
TOO_LARGE = MAX_MESSAGE_BYTES + 1
Text: TypeAlias = wrappers_pb2.StringValue


async def unary_unary(request: Text, context: Context) -> Text:
    return repeat(request)


async def unary_stream(request: Text, context: Context) -> AsyncIterator[Text]:
    yield repeat(request)


async def stream_unary(requests: AsyncIterator[Text], context: Context) -> Text:
    return repeat([request async for request in requests][-1])


async def stream_stream(requests: AsyncIterator[Text], context: Context) -> AsyncIterator[Text]:
    async for request in requests:
        yield repeat(request)


def repeat(request: Text) -> Text:
    """Return the text of a request, or as many characters as a number in it asks for."""
    text = request.value
    return Text(value="x" * int(text) if text.isdecimal() else text)


def register(server: grpc.aio.Server) -> None:
    handlers: dict[str, Any] = {}
    for behaviour in (unary_unary, unary_stream, stream_unary, stream_stream):
        make = getattr(grpc, f"{behaviour.__name__}_rpc_method_handler")
        handlers[behaviour.__name__] = make(
            behaviour,
            request_deserializer=Text.FromString,
            response_serializer=Text.SerializeToString,
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@pytest.fixture
async def channel(database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    access = access_control(kinds)
    server = Server(SERVICE, register, access, Database(database_url), "127.0.0.1:0")
    async with serving(server) as opened:
        yield opened


async def call(channel: grpc.aio.Channel, kind: str, *requests: bytes) -> list[Text]:
    """Call a method with serialized requests; return all responses."""
    method = getattr(channel, kind)(f"/{SERVICE}/{kind}")
    called = method(iter(requests) if kind.startswith("stream") else requests[-1])
    if kind.endswith("unary"):
        return [Text.FromString(await called)]
    return [Text.FromString(response) async for response in called]


def details(refused: Refusal) -> tuple[grpc.StatusCode, str]:
    return refused.code, refused.reason


@pytest.mark.parametrize("kind", KINDS)
async def test_messages_of_every_kind_of_method_pass(channel: grpc.aio.Channel, kind: str) -> None:
    request = Text(value="red")
    assert await call(channel, kind, request.SerializeToString()) == [request]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [MALFORMED, NOT_UTF_8])
async def test_a_request_that_is_no_message_is_an_invalid_argument(
    channel: grpc.aio.Channel, kind: str, data: bytes
) -> None:
    refused = await refusal(call(channel, kind, Text(value="red").SerializeToString(), data))
    assert details(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert "Error" not in refused.message


@pytest.mark.parametrize("kind", KINDS)
async def test_a_response_that_is_too_large_is_an_internal_error(
    channel: grpc.aio.Channel, kind: str
) -> None:
    request = Text(value=f"{TOO_LARGE}").SerializeToString()
    refused = await refusal(call(channel, kind, request))
    assert details(refused) == (grpc.StatusCode.INTERNAL, "RESPONSE_TOO_LARGE")
    assert str(MAX_MESSAGE_BYTES) in refused.message


async def test_the_largest_response_passes(channel: grpc.aio.Channel) -> None:
    overhead = 5  # The tag and the length of the one field.
    size = MAX_MESSAGE_BYTES - overhead
    (response,) = await call(channel, "unary_unary", Text(value=f"{size}").SerializeToString())
    assert response.ByteSize() == MAX_MESSAGE_BYTES
