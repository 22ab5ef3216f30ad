"""A server reports whether it can serve, and finishes its calls before it stops."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis import client, errors
from chassis.database import Database
from chassis.health import SERVER, STARTED
from chassis.server import Server
from chassis.testing import (
    SERVICE,
    Events,
    Waiting,
    access_control,
    echo,
    is_served,
    make_server,
    refusal,
    serving,
    unary,
)
from chassis.token_testing import Issuer
from tools.postgres.freezing import find_server, frozen, list_backends

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "user"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
MEBIBYTE = 1024 * 1024


@pytest.fixture
async def database(database_url: str) -> Database:
    return Database(database_url)


@pytest.fixture
async def server(database: Database) -> Server:
    return make_server(database)


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(server) as opened:
        yield opened


async def wait_for_health(channel: grpc.aio.Channel, wanted: int) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    async for response in stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
        if response.status == wanted:
            return


async def read_health(channel: grpc.aio.Channel, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
    return status


async def test_a_server_with_a_database_is_serving(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(10):
        await wait_for_health(channel, SERVING)
    assert await read_health(channel, SERVER) == SERVING


async def test_clients_call_a_server_once_it_knows_which_sessions_have_ended(
    database: Database,
) -> None:
    issuer = Issuer()
    issuer.revocations.known.clear()
    async with serving(make_server(database, echo, issuer=issuer)) as channel:
        refused = await refusal(unary(channel, "echo")(b""))
        assert refused.code == grpc.StatusCode.UNAVAILABLE
        call = asyncio.ensure_future(unary(channel, "echo")(b"", wait_for_ready=True, timeout=10))
        issuer.revocations.known.set()
        assert await call == b""


async def test_a_server_that_does_not_learn_which_sessions_have_ended_is_called_after_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.server.ANNOUNCE_SECONDS", 0.1)
    issuer = Issuer()
    issuer.revocations.known.clear()
    async with serving(make_server(database, echo, issuer=issuer)) as channel:
        assert await unary(channel, "echo")(b"", wait_for_ready=True, timeout=10) == b""


async def test_a_server_has_started_once_its_database_has_responded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = database.check

    async def down() -> None:
        raise errors.Unavailable("DATABASE_UNAVAILABLE", "down")

    monkeypatch.setattr("chassis.server.PROBE_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(database, "check", down)
    async with asyncio.timeout(10), serving(make_server(database)) as channel:
        await wait_for_health(channel, NOT_SERVING)
        assert await read_health(channel, STARTED) == NOT_SERVING
        monkeypatch.setattr(database, "check", up)
        await wait_for_health(channel, SERVING)
        monkeypatch.setattr(database, "check", down)
        await wait_for_health(channel, NOT_SERVING)
        assert await read_health(channel, STARTED) == SERVING


@pytest.mark.parametrize(
    "failure", [errors.Unavailable("DATABASE_UNAVAILABLE", "down"), KeyError("a defect")]
)
async def test_health_follows_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    up = database.check

    async def down() -> None:
        raise failure

    monkeypatch.setattr("chassis.server.PROBE_INTERVAL_SECONDS", 0.01)
    async with asyncio.timeout(10), serving(make_server(database)) as channel:
        await wait_for_health(channel, SERVING)
        monkeypatch.setattr(database, "check", down)
        await wait_for_health(channel, NOT_SERVING)
        monkeypatch.setattr(database, "check", up)
        await wait_for_health(channel, SERVING)


async def test_one_good_probe_does_not_end_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    successes = iter([True, False, True, False, True, True])
    all_given = asyncio.Event()

    async def check() -> None:
        succeeds = next(successes, None)
        if succeeds is None:
            all_given.set()
        elif not succeeds:
            raise errors.Unavailable("DATABASE_UNAVAILABLE", "down")

    monkeypatch.setattr("chassis.server.PROBE_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(database, "check", check)
    async with asyncio.timeout(10), serving(make_server(database)):
        await all_given.wait()
    logged = [each["event"] for each in events if each["event"].startswith("database_")]
    assert logged == ["database_ready", "database_unavailable", "database_ready"]


async def test_health_notices_a_database_that_freezes(
    channel: grpc.aio.Channel, database_url: str
) -> None:
    async with asyncio.timeout(20):
        await wait_for_health(channel, SERVING)
        with frozen([find_server(database_url), *list_backends(database_url)]):
            async with asyncio.timeout(3):
                await wait_for_health(channel, NOT_SERVING)
        async with asyncio.timeout(2):
            await wait_for_health(channel, SERVING)


async def test_an_address_in_use_ends_the_program_with_a_clear_error(
    server: Server, database: Database
) -> None:
    address = f"127.0.0.1:{server.port}"
    with pytest.raises(SystemExit, match=f"cannot listen on {address}"):
        Server(SERVICE, lambda _: None, access_control(()), database, address)


async def test_stop_finishes_calls_in_flight(database: Database) -> None:
    waiting = Waiting()
    server = make_server(database, echo, waiting.wait)
    await server.start()
    async with client.open_channel(f"127.0.0.1:{server.port}") as channel:
        call = asyncio.ensure_future(unary(channel, "wait")(b"kept"))
        await waiting.entered()
        stopping = asyncio.create_task(server.stop(grace_seconds=25))
        while await is_served(channel):
            assert not stopping.done()
        waiting.proceed.set()
        assert await call == b"kept"
        await stopping


async def test_no_call_is_lost_when_a_replica_announces_its_stop(database_url: str) -> None:
    calls: Counter[str] = Counter()

    def make_replica(name: str) -> Server:
        async def echo(request: bytes, _context: object) -> bytes:
            calls[name] += 1
            return request

        return make_server(Database(database_url), echo)

    first, second = make_replica("first"), make_replica("second")
    target = f"ipv4:127.0.0.1:{first.port},127.0.0.1:{second.port}"
    config = json.dumps(dict(client.LOAD_BALANCING))
    options = [*client.CONNECTION_OPTIONS, ("grpc.service_config", config)]
    is_over = False

    async def call_on(channel: grpc.aio.Channel) -> None:
        while not is_over:
            await unary(channel, "echo")(b"")

    async with asyncio.timeout(10), grpc.aio.insecure_channel(target, options=options) as channel:
        await asyncio.gather(first.start(), second.start())
        await unary(channel, "echo")(b"", wait_for_ready=True)
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(call_on(channel))
            while not (calls["first"] and calls["second"]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await first.announce_stop()
            before = -1
            while calls["first"] > before:
                before = calls["first"]
                await asyncio.sleep(0.1)
            await first.stop(grace_seconds=5)
            is_over = True
        await second.stop(grace_seconds=5)


async def test_an_outage_of_the_database_does_not_keep_clients_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down() -> None:
        raise errors.Unavailable("DATABASE_UNAVAILABLE", "down")

    monkeypatch.setattr("chassis.server.PROBE_INTERVAL_SECONDS", 0.01)
    async with asyncio.timeout(10), serving(make_server(database, echo)) as channel:
        await wait_for_health(channel, SERVING)
        monkeypatch.setattr(database, "check", down)
        await wait_for_health(channel, NOT_SERVING)
        assert await is_served(channel)


async def test_a_client_is_not_far_ahead_of_a_service_that_stops_reading(
    database: Database,
) -> None:
    sent = received = 0

    async def upload(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        nonlocal received
        async for request in requests:
            received += len(request)
            # By then gRPC would have measured the bandwidth, which is high.
            if received >= 32 * MEBIBYTE:
                await asyncio.Event().wait()
        yield b""

    async def send(channel: grpc.aio.Channel) -> None:
        nonlocal sent
        call: Any = channel.stream_stream(f"/{SERVICE}/upload")()
        while True:
            await call.write(bytes(16 * 1024))
            sent += 16 * 1024

    handler: Any = grpc.stream_stream_rpc_method_handler(upload)
    generic = grpc.method_handlers_generic_handler(SERVICE, {"upload": handler})
    server = Server(
        SERVICE,
        lambda server: server.add_generic_rpc_handlers((generic,)),
        access_control(["upload"]),
        database,
        "127.0.0.1:0",
    )
    async with asyncio.timeout(30), serving(server) as channel:
        sending = asyncio.create_task(send(channel))
        before = -1
        while received < 32 * MEBIBYTE or sent > before:
            before = sent
            await asyncio.sleep(0.2)
        sending.cancel()
    assert sent - received < MEBIBYTE
