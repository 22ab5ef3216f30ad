"""Replicas of a service behind one target: they come and go, and a sick one is left out.

No call is retried here, so that every error of a replica shows.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import grpc
import pytest

from chassis import secure_channel
from chassis.client import CONNECTION_OPTIONS, LOAD_BALANCING
from chassis.codec import Context
from chassis.database import Database
from chassis.errors import NotFound, Unavailable
from chassis.secure_channel import ReplaceableChannel, open_channel
from chassis.server import DEFAULT_LIMITS, Limits, Server
from chassis.testing import make_server, unary

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"

SECONDS = 20.0
BATCH = 20
"""How many calls are made at a time."""
BAD = b"bad"
INTERVAL_SECONDS = 0.5
QUERIES = 40


class Replica:
    """A method that counts its calls, and may be made to fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.fail: Callable[[bytes], object] = lambda request: None
        self.proceed = asyncio.Event()
        self.proceed.set()

    async def respond(self, request: bytes, context: Context) -> bytes:
        """Respond with the request."""
        self.calls += 1
        self.fail(request)
        await self.proceed.wait()
        return request


class NameServer(asyncio.DatagramProtocol):
    """A name server that has the addresses of replicas for any name, or knows no name."""

    def __init__(self) -> None:
        self.hosts: Sequence[str] = ()
        self.queries = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.DatagramTransport", transport)
        host, port = transport.get_extra_info("sockname")
        self.address = f"{host}:{port}"

    def datagram_received(self, data: bytes, peer: tuple[str | Any, int]) -> None:
        """Respond with the addresses."""
        query = dns.message.from_wire(data)
        [question] = query.question
        response = dns.message.make_response(query)
        self.queries += 1
        if not self.hosts:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            response.answer = [dns.rrset.from_text(question.name, 0, "IN", "A", *self.hosts)]
        self._transport.sendto(response.to_wire(), peer)


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, ("127.0.0.1", 0))
    yield server
    transport.close()


@asynccontextmanager
async def running(
    database_url: str,
    replica: Replica,
    address: str = "127.0.0.1:0",
    limits: Limits = DEFAULT_LIMITS,
) -> AsyncIterator[Server]:
    server = make_server(Database(database_url), replica.respond, limits=limits, address=address)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(SECONDS)


def connect(target: str) -> grpc.aio.Channel:
    """Open a channel that finds outliers soon, and retries nothing."""
    [(name, detection)] = LOAD_BALANCING["loadBalancingConfig"][0].items()
    soon = {
        **detection,
        "interval": f"{INTERVAL_SECONDS}s",
        "baseEjectionTime": "60s",
        "maxEjectionTime": "60s",
    }
    config = {**LOAD_BALANCING, "loadBalancingConfig": [{name: soon}]}
    return open_channel(target, CONNECTION_OPTIONS, None, "test", config)


async def count_failures(
    channel: grpc.aio.Channel, request: bytes = b"", *, wait_for_ready: bool = True
) -> int:
    """Make a batch of calls, and return how many of them fail."""
    call = unary(channel, "respond")
    calls = (call(request, timeout=1, wait_for_ready=wait_for_ready) for _ in range(BATCH))
    responses = await asyncio.gather(*calls, return_exceptions=True)
    return sum(isinstance(response, grpc.aio.AioRpcError) for response in responses)


async def count_calls(channel: grpc.aio.Channel, replica: Replica) -> int:
    """Make a batch of calls, none of which fails, and return how many came to a replica."""
    before = replica.calls
    assert await count_failures(channel) == 0
    return replica.calls - before


async def test_replicas_of_a_name_come_and_go_without_an_error(
    database_url: str, name_server: NameServer
) -> None:
    first, second = Replica(), Replica()
    limits = replace(DEFAULT_LIMITS, max_connection_seconds=1)
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        leaving = await stack.enter_async_context(AsyncExitStack())
        server = await leaving.enter_async_context(running(database_url, first, limits=limits))
        name_server.hosts = ("127.0.0.1",)
        target = f"dns://{name_server.address}/shop.test:{server.port}"
        channel = await stack.enter_async_context(connect(target))
        assert await count_calls(channel, first) == BATCH

        other_address = f"127.0.0.2:{server.port}"
        await stack.enter_async_context(running(database_url, second, other_address))
        name_server.hosts = ("127.0.0.1", "127.0.0.2")
        while not await count_calls(channel, second):
            pass
        assert await count_calls(channel, first) > 0

        name_server.hosts = ("127.0.0.2",)
        await server.announce_stop()
        while await count_calls(channel, first):
            pass
        stopping = asyncio.create_task(leaving.aclose())
        while not stopping.done():
            assert await count_calls(channel, second) == BATCH
        assert await count_calls(channel, second) == BATCH


async def test_a_name_that_had_no_address_is_looked_up_often(
    database_url: str, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself gRPC looks it up six times or so."""
    monkeypatch.setattr(secure_channel, "REOPEN_SECONDS", 0.01)
    replica = Replica()
    async with asyncio.timeout(SECONDS), running(database_url, replica) as server:
        target = f"dns://{name_server.address}/shop.test:{server.port}"
        async with ReplaceableChannel(target, CONNECTION_OPTIONS, None, "test") as channel:
            while name_server.queries < QUERIES:
                assert await count_failures(channel, wait_for_ready=False) == BATCH
            name_server.hosts = ("127.0.0.1",)
            while await count_failures(channel, wait_for_ready=False):
                pass


def refuse(_request: bytes) -> None:
    raise Unavailable("SICK", "This replica is sick.")


def refuse_if_bad(request: bytes) -> None:
    if request == BAD:
        raise NotFound("MISSING", "There is no such thing.")


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[tuple[grpc.aio.Channel, Replica, Replica]]:
    """Yield a channel to two replicas, and these."""
    first, second = Replica(), Replica()
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running(database_url, replica))
            for replica in (first, second)
        ]
        addresses = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        channel = await stack.enter_async_context(connect(f"ipv4:{addresses}"))
        while await count_calls(channel, first) in (0, BATCH):
            pass
        yield channel, first, second


async def test_a_replica_that_fails_every_call_is_left_out(
    replicas: tuple[grpc.aio.Channel, Replica, Replica],
) -> None:
    channel, sick, _ = replicas
    sick.fail = refuse
    async with asyncio.timeout(SECONDS):
        while await count_failures(channel):
            pass
        sick.calls = 0
        for _ in range(10):
            assert await count_failures(channel) == 0
    assert sick.calls == 0


async def test_a_replica_that_does_not_respond_is_left_out(
    replicas: tuple[grpc.aio.Channel, Replica, Replica],
) -> None:
    channel, frozen, _ = replicas
    frozen.proceed.clear()
    async with asyncio.timeout(SECONDS):
        while await count_failures(channel):
            pass
    frozen.proceed.set()


async def test_replicas_that_all_fail_are_not_all_left_out(
    replicas: tuple[grpc.aio.Channel, Replica, Replica],
) -> None:
    channel, first, second = replicas
    first.fail = second.fail = refuse
    async with asyncio.timeout(SECONDS):
        while first.calls and second.calls:
            first.calls = second.calls = 0
            assert await count_failures(channel) == BATCH
        first.fail = second.fail = lambda request: None
        assert await count_failures(channel) == 0


async def test_bad_requests_do_not_turn_a_replica_off(
    replicas: tuple[grpc.aio.Channel, Replica, Replica],
) -> None:
    channel, first, second = replicas
    first.fail = second.fail = refuse_if_bad
    end_time = time.monotonic() + 4 * INTERVAL_SECONDS
    while time.monotonic() < end_time:
        first.calls = second.calls = 0
        assert await count_failures(channel, BAD) == BATCH
        assert await count_failures(channel) == 0
        assert first.calls
        assert second.calls


async def test_a_socket_is_a_target(database_url: str) -> None:
    replica = Replica()
    # The path of a socket must not be long.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        target = f"unix:{directory}/test.sock"
        async with running(database_url, replica, target), connect(target) as channel:
            assert await count_calls(channel, replica) == BATCH
