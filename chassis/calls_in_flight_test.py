"""The number of calls in flight is bounded, and so is the time that clients take to read."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.codec import Context
from chassis.database import Database
from chassis.server import Limits, Server
from chassis.testing import (
    SERVICE,
    Events,
    Waiting,
    echo,
    is_served,
    make_server,
    refusal,
    serving,
    streamed,
    unary,
)
from chassis.transport import MAX_MESSAGE_BYTES

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "user"


async def flood(request: bytes, context: Context) -> AsyncIterator[bytes]:
    while True:
        yield bytes(MAX_MESSAGE_BYTES - 100)


def make(database_url: str, waiting: Waiting, limits: Limits) -> Server:
    return make_server(Database(database_url), echo, flood, waiting.wait, limits=limits)


async def test_calls_beyond_the_limit_are_refused_and_probes_are_not(
    database_url: str, events: Events
) -> None:
    waiting = Waiting()
    server = make(database_url, waiting, Limits(max_calls=3))
    async with asyncio.timeout(10), serving(server) as channel:
        held = [asyncio.ensure_future(unary(channel, "wait")(b"")) for _ in range(3)]
        await waiting.entered(3)
        for _ in range(2):
            refused = await refusal(unary(channel, "echo")(b""))
            assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refused.reason == "TOO_MANY_CALLS"
            assert refused.metadata["http_status"] == "503"
        refused = await refusal(streamed(channel, "flood")(b"").read())
        assert refused.reason == "TOO_MANY_CALLS"
        await check_health(channel)
        waiting.proceed.set()
        await asyncio.gather(*held)
        assert await is_served(channel)
        while "calls_refused" not in [each["event"] for each in events]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [each["count"] for each in events if each["event"] == "calls_refused"] == [3]


async def test_slow_method_does_not_take_all_calls(database_url: str) -> None:
    waiting = Waiting()
    server = make(database_url, waiting, Limits(max_calls=10, max_method_calls=2))
    async with asyncio.timeout(10), serving(server) as channel:
        held = [asyncio.ensure_future(unary(channel, "wait")(b"")) for _ in range(2)]
        await waiting.entered(2)
        refused = await refusal(unary(channel, "wait")(b""))
        assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.reason == "TOO_MANY_CALLS"
        assert await is_served(channel)
        waiting.proceed.set()
        await asyncio.gather(*held)
        assert await unary(channel, "wait")(b"") == b""


async def test_client_that_does_not_read_loses_its_call_and_its_slot(
    database_url: str, events: Events
) -> None:
    server = make(database_url, Waiting(), Limits(max_calls=5, max_send_seconds=2))
    async with asyncio.timeout(30), serving(server) as channel:
        calls = [streamed(channel, "flood")(b"") for _ in range(5)]
        await asyncio.gather(*(call.read() for call in calls))
        while not await is_served(channel):
            pass
        # gRPC remembers the last call that came, so that one may not be reset before the next one.
        ends = [asyncio.ensure_future(read_to_end(call)) for call in calls]
        for end in itertools.islice(asyncio.as_completed(ends), 4):
            # Not DEADLINE_EXCEEDED: a status would have to wait for the client to read.
            assert await end == grpc.StatusCode.CANCELLED
    ended = [each for each in events if each.get("method") == f"/{SERVICE}/flood"]
    assert [(each["event"], each["code"]) for each in ended] == [("rpc", "DEADLINE_EXCEEDED")] * 5


async def test_client_that_reads_keeps_its_call_however_slow_the_service_is(
    database_url: str,
) -> None:
    waiting = Waiting()
    server = make(database_url, waiting, Limits(max_send_seconds=0.1))
    async with asyncio.timeout(10), serving(server) as channel:
        call = asyncio.ensure_future(unary(channel, "wait")(b"kept"))
        await asyncio.sleep(2)
        waiting.proceed.set()
        assert await call == b"kept"


async def check_health(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    await stub.Check(health_pb2.HealthCheckRequest())


async def read_to_end(call: Any) -> grpc.StatusCode:
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
