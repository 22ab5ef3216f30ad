"""Calls to another service: what they pass on of the call being served, and how they fail."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from chassis import call_context, client, errors
from chassis.codec import Context
from chassis.database import Database
from chassis.testing import Waiting, make_server, serving, unary

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
CONNECT_SECONDS = 0.3
"""How long a connection takes: longer than gRPC waits by `initial_reconnect_backoff_ms`."""


class Relay:
    """Two methods, of which the first calls the second on the same server."""

    channel: grpc.aio.Channel

    async def front(self, request: bytes, context: Context) -> bytes:
        return await client.call(unary(self.channel, "back"), request)

    async def back(self, request: bytes, context: Context) -> bytes:
        return f"{call_context.request_id.get()} {context.time_remaining()}".encode()


async def lose_race(request: bytes, context: Context) -> bytes:
    raise errors.Aborted("TRANSACTION_ABORTED", "Another one was faster.")


@pytest.fixture
async def channel(database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    relay = Relay()
    methods = (relay.front, relay.back, lose_race, Waiting().wait)
    async with serving(make_server(Database(database_url), *methods)) as relay.channel:
        yield relay.channel


async def test_a_call_ends_before_the_deadline_of_the_call_that_is_served(
    channel: grpc.aio.Channel,
) -> None:
    timeout_seconds = client.TIMEOUT_SECONDS / 2
    response = await unary(channel, "front")(b"", timeout=timeout_seconds)
    remaining = response.decode().rpartition(" ")[2]
    # gRPC rounds deadlines up on the wire, each time by a few hundredths of a second, so the
    # headroom cannot be seen. Without the caller's deadline the default would be left, twice this.
    assert 0 < float(remaining) < 1.1 * timeout_seconds


async def test_a_call_leaves_headroom_before_the_deadline(channel: grpc.aio.Channel) -> None:
    call_context.deadline.set(time.monotonic() + 5)
    response = await client.call(unary(channel, "back"), b"")
    remaining = response.decode().rpartition(" ")[2]
    # On the wire gRPC rounds a timeout of some seconds up to a hundredth.
    assert 0 < float(remaining) <= 5 - client.HEADROOM_SECONDS + 0.01


async def test_a_call_has_the_request_id_of_the_call_that_is_served(
    channel: grpc.aio.Channel,
) -> None:
    response = await unary(channel, "front")(b"", metadata=(("x-request-id", "from-outside"),))
    assert response.decode().partition(" ")[0] == "from-outside"


async def test_a_service_that_does_not_respond_in_time_is_unavailable(
    channel: grpc.aio.Channel,
) -> None:
    with call_context.time_limit(0.1), pytest.raises(errors.Unavailable):
        await client.call(unary(channel, "wait"), b"")


async def test_a_service_that_lost_a_race_is_unavailable(channel: grpc.aio.Channel) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        await client.call(unary(channel, "lose_race"), b"")
    assert str(caught.value.__cause__).startswith("bytes: ABORTED: ")


async def test_a_call_that_is_refused_names_the_request_and_the_reason(
    channel: grpc.aio.Channel,
) -> None:
    with pytest.raises(errors.FailedCallError, match=r"^bytes: UNIMPLEMENTED: Method not found"):
        await client.call(unary(channel, "missing"), b"")


async def test_a_connection_that_takes_long_is_not_given_up(database_url: str) -> None:
    server = make_server(Database(database_url), Relay().back)
    connections = 0

    async def delay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.sleep(CONNECT_SECONDS)
        await asyncio.gather(copy(reader, upstream_writer), copy(upstream_reader, writer))

    async with serving(server), await asyncio.start_server(delay, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        async with client.open_channel(f"127.0.0.1:{port}") as channel:
            await client.call(unary(channel, "back"), b"")
    assert connections == 1


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4_096):
        writer.write(data)
    writer.close()


async def test_a_service_that_cannot_be_reached_is_unavailable() -> None:
    async with client.open_channel("127.0.0.1:1") as nobody:
        with call_context.time_limit(2), pytest.raises(errors.Unavailable):
            await client.call(unary(nobody, "back"), b"")
