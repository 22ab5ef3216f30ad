"""A call that is made while another one is served: what it takes over from that one."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from chassis import client
from chassis.database import Database
from chassis.server import Server
from chassis.testing import serving

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
SERVICE = "test.Service"


class Relay:
    """Methods over plain bytes: the first one calls the second one on the same server."""

    channel: grpc.aio.Channel

    async def front(self, request: bytes, context: Any) -> bytes:
        return await client.call(self.channel.unary_unary(f"/{SERVICE}/back"), request)

    async def back(self, request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        return f"{metadata['x-request-id']} {context.time_remaining()}".encode()

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {
            method.__name__: grpc.unary_unary_rpc_method_handler(method)
            for method in (self.front, self.back)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@pytest.fixture
async def channel(database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    relay = Relay()
    server = Server(SERVICE, relay.register, Database(database_url), "127.0.0.1:0")
    async with serving(server) as relay.channel:
        yield relay.channel


async def test_a_call_ends_before_the_deadline_of_the_call_that_is_served(
    channel: grpc.aio.Channel,
) -> None:
    timeout_seconds = client.DEFAULT_TIMEOUT_SECONDS / 2
    front: Any = channel.unary_unary(f"/{SERVICE}/front")
    response = await front(b"", timeout=timeout_seconds)
    remaining = response.decode().rpartition(" ")[2]
    # gRPC rounds deadlines up on the wire, each time by a few hundredths of a second, so the
    # headroom cannot be seen. Without the caller's deadline the default would be left, twice this.
    assert 0 < float(remaining) < 1.1 * timeout_seconds


async def test_a_call_has_the_request_id_of_the_call_that_is_served(
    channel: grpc.aio.Channel,
) -> None:
    front: Any = channel.unary_unary(f"/{SERVICE}/front")
    response = await front(b"", metadata=(("x-request-id", "from-outside"),))
    assert response.decode().partition(" ")[0] == "from-outside"
