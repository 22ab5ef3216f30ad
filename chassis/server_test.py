"""A server around a servicer: errors, events, deadlines, health and a graceful stop."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis import call_context, client, errors, interceptor
from chassis.codec import Context
from chassis.database import Database
from chassis.limits import Limits
from chassis.server import Server
from chassis.testing import refusal, serving
from chassis.transport import MAX_MESSAGE_BYTES
from tools.postgres.freezing import find_server, frozen, list_backends

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
SERVICE = "test.Service"
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


class Behaviour:
    """Methods over plain bytes, so that no proto is needed."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.proceed = asyncio.Event()

    async def refuse(self, request: bytes, context: Context) -> bytes:
        violation = errors.Violation("colour", "must be red")
        metadata = {"thing": "7"}
        raise errors.Unprocessable("BAD_COLOUR", "no", metadata=metadata, violations=[violation])

    async def refuse_all(self, request: bytes, context: Context) -> bytes:
        violations = errors.Violations()
        for index in range(10_000):
            violations.check(False, f"colours[{index}]", "must be red")
        violations.raise_any()
        return request

    async def crash(self, request: bytes, context: Context) -> bytes:
        raise RuntimeError("the secret is 42")

    async def lose_race(self, request: bytes, context: Context) -> bytes:
        raise errors.Aborted("TRANSACTION_ABORTED", "Another one was faster.")

    async def wait(self, request: bytes, context: Context) -> bytes:
        self.entered.set()
        await self.proceed.wait()
        return request

    async def identify(self, request: bytes, context: Context) -> bytes:
        return call_context.request_id.get().encode()

    async def remain(self, request: bytes, context: Context) -> bytes:
        return str(context.time_remaining()).encode()

    async def stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"1"
        raise errors.NotFound("NO_SECOND", "There is no second one.")

    async def flood(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        while True:
            yield bytes(MAX_MESSAGE_BYTES - 100)

    async def overflow(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            yield bytes(MAX_MESSAGE_BYTES + 1)
        finally:
            self.entered.set()

    def register(self, server: grpc.aio.Server) -> None:
        refusing = (self.refuse, self.refuse_all, self.crash, self.lose_race)
        unary = (*refusing, self.wait, self.identify, self.remain)
        streams = (self.stream, self.overflow, self.flood)
        handlers: dict[str, Any] = {
            **{each.__name__: grpc.unary_unary_rpc_method_handler(each) for each in unary},
            **{each.__name__: grpc.unary_stream_rpc_method_handler(each) for each in streams},
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
async def server(behaviour: Behaviour, database_url: str) -> Server:
    return Server(SERVICE, behaviour.register, Database(database_url), "127.0.0.1:0")


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(server) as opened:
        yield opened


@pytest.fixture
def events() -> list[MutableMapping[str, Any]]:
    structlog.reset_defaults()
    captured = structlog.testing.LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, captured])
    return captured.entries


def method(channel: grpc.aio.Channel, name: str) -> Any:
    return channel.unary_unary(f"/{SERVICE}/{name}")


async def test_an_error_becomes_a_status_with_its_details(channel: grpc.aio.Channel) -> None:
    refused = await refusal(method(channel, "refuse")(b""))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.message, refused.reason) == ("no", "BAD_COLOUR")
    assert refused.metadata == {"thing": "7", "http_status": "422"}
    assert refused.fields == ["colour"]


async def test_an_error_fits_into_headers_however_much_is_wrong(channel: grpc.aio.Channel) -> None:
    refused = await refusal(method(channel, "refuse_all")(b""))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [f"colours[{index}]" for index in range(20)]


async def test_an_unknown_exception_tells_the_client_nothing(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await method(channel, "crash")(b"")
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert "42" not in repr(raised.value)


async def test_an_error_in_mid_stream_ends_the_stream_with_its_status(
    channel: grpc.aio.Channel,
) -> None:
    stream: Any = channel.unary_stream(f"/{SERVICE}/stream")
    call = stream(b"")
    assert await call.read() == b"1"
    refused = await refusal(call.read())
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_a_stream_that_is_closed_after_its_call_is_gone_does_no_harm(
    channel: grpc.aio.Channel, behaviour: Behaviour
) -> None:
    stream: Any = channel.unary_stream(f"/{SERVICE}/overflow")
    refused = await refusal(stream(b"").read())
    assert refused.code == grpc.StatusCode.INTERNAL
    async with asyncio.timeout(10):
        await behaviour.entered.wait()


async def test_each_rpc_logs_one_event(
    events: list[MutableMapping[str, Any]], channel: grpc.aio.Channel
) -> None:
    await method(channel, "identify")(b"", metadata=(("x-request-id", "abc"),))
    await refusal(method(channel, "refuse")(b""))
    first, second = [event for event in events if event["event"] == "rpc"]
    assert (first["method"], first["code"]) == (f"/{SERVICE}/identify", "OK")
    assert first["request_id"] == "abc"
    assert first["duration_ms"] >= 0
    assert re.match(r"ipv4:127\.0\.0\.1:\d+", first["peer"])
    assert (second["method"], second["code"]) == (f"/{SERVICE}/refuse", "INVALID_ARGUMENT")
    assert second["request_id"] != "abc"


async def test_a_call_without_a_deadline_ends_at_the_default_one(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "DEFAULT_DEADLINE_SECONDS", 0.05)
    async with asyncio.timeout(10):
        refused = await refusal(method(channel, "wait")(b""))
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_client_call_passes_on_the_request_id(channel: grpc.aio.Channel) -> None:
    call_context.request_id.set("from-outside")
    assert await client.call(method(channel, "identify"), b"") == b"from-outside"


async def test_client_call_keeps_within_the_deadline_that_is_being_served(
    channel: grpc.aio.Channel,
) -> None:
    call_context.deadline.set(time.monotonic() + 5)
    given = await client.call(method(channel, "remain"), b"", timeout_seconds=60)
    # On the wire gRPC rounds a timeout of some seconds up to a hundredth.
    assert 0 < float(given) <= 5 - client.HEADROOM_SECONDS + 0.01


async def test_client_call_says_unavailable_when_the_time_runs_out(
    channel: grpc.aio.Channel,
) -> None:
    with pytest.raises(errors.Unavailable):
        await client.call(method(channel, "wait"), b"", timeout_seconds=0.05)


async def test_client_call_says_unavailable_when_the_other_service_lost_a_race(
    channel: grpc.aio.Channel,
) -> None:
    with pytest.raises(errors.Unavailable):
        await client.call(method(channel, "lose_race"), b"")


async def test_client_call_says_unavailable_when_nobody_listens() -> None:
    async with client.open_channel("127.0.0.1", 1) as nobody:
        with pytest.raises(errors.Unavailable):
            await client.call(method(nobody, "identify"), b"", timeout_seconds=2)


async def wait_for_health(channel: grpc.aio.Channel, wanted: int) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
        if answer.status == wanted:
            return


async def test_health_is_serving_when_the_database_is_there(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(10):
        await wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "failure", [errors.Unavailable("DATABASE_UNAVAILABLE", "down"), KeyError("a defect")]
)
async def test_health_follows_the_database(
    behaviour: Behaviour,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
) -> None:
    database = Database(database_url)
    up = database.check

    async def down() -> None:
        raise failure

    monkeypatch.setattr("chassis.server.PROBE_INTERVAL_SECONDS", 0.01)
    server = Server(SERVICE, behaviour.register, database, "127.0.0.1:0")
    async with asyncio.timeout(10), serving(server) as channel:
        await wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
        monkeypatch.setattr(database, "check", down)
        await wait_for_health(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        monkeypatch.setattr(database, "check", up)
        await wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)


async def test_close_waits_for_a_check_that_is_under_way(database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    await database.check()
    checking = asyncio.create_task(database.check())
    await asyncio.sleep(0)
    await database.close()
    assert checking.done()
    await checking


async def accepted(channel: grpc.aio.Channel) -> bool:
    try:
        await method(channel, "identify")(b"", timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return True


def make_server(behaviour: Behaviour, database_url: str, limits: Limits) -> Server:
    return Server(SERVICE, behaviour.register, Database(database_url), "127.0.0.1:0", limits)


async def test_calls_beyond_the_limit_are_refused_and_probes_are_not(
    behaviour: Behaviour, database_url: str, events: list[MutableMapping[str, Any]]
) -> None:
    server = make_server(behaviour, database_url, Limits(max_calls=3))
    async with asyncio.timeout(10), serving(server) as channel:
        await wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
        held = [asyncio.ensure_future(method(channel, "wait")(b"")) for _ in range(3)]
        await behaviour.entered.wait()
        for _ in range(2):
            refused = await refusal(method(channel, "identify")(b""))
            assert (refused.code, refused.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "OVERLOADED",
            )
            assert refused.metadata["http_status"] == "503"
        stream: Any = channel.unary_stream(f"/{SERVICE}/stream")
        assert (await refusal(stream(b"").read())).reason == "OVERLOADED"
        await wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
        behaviour.proceed.set()
        await asyncio.gather(*held)
        assert await accepted(channel)
        while "calls_refused" not in [each["event"] for each in events]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [each["count"] for each in events if each["event"] == "calls_refused"] == [3]


async def read_to_end(call: Any) -> grpc.StatusCode:
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_client_that_does_not_read_loses_its_call_and_its_slot(
    behaviour: Behaviour, database_url: str, events: list[MutableMapping[str, Any]]
) -> None:
    server = make_server(behaviour, database_url, Limits(max_calls=5, max_send_seconds=2))
    async with asyncio.timeout(30), serving(server) as channel:
        flood: Any = channel.unary_stream(f"/{SERVICE}/flood")
        calls = [flood(b"") for _ in range(5)]
        await asyncio.gather(*(call.read() for call in calls))
        while not await accepted(channel):
            pass
        # gRPC remembers the last call that came, so that one may not be reset before the next one.
        ends = [asyncio.ensure_future(read_to_end(call)) for call in calls]
        for end in itertools.islice(asyncio.as_completed(ends), 4):
            # Not DEADLINE_EXCEEDED: a status would have to wait for the client to read.
            assert await end == grpc.StatusCode.CANCELLED
    ended = [each for each in events if each.get("method") == f"/{SERVICE}/flood"]
    assert [(each["event"], each["code"]) for each in ended] == [("rpc", "DEADLINE_EXCEEDED")] * 5


async def test_client_that_reads_keeps_its_call_however_slow_the_service_is(
    behaviour: Behaviour, database_url: str
) -> None:
    server = make_server(behaviour, database_url, Limits(max_send_seconds=0.1))
    async with asyncio.timeout(10), serving(server) as channel:
        call = asyncio.ensure_future(method(channel, "wait")(b"kept"))
        await asyncio.sleep(2)
        behaviour.proceed.set()
        assert await call == b"kept"


async def test_one_good_probe_does_not_end_an_outage(
    behaviour: Behaviour,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    events: list[MutableMapping[str, Any]],
) -> None:
    database = Database(database_url)
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
    server = Server(SERVICE, behaviour.register, database, "127.0.0.1:0")
    async with asyncio.timeout(10), serving(server):
        await all_given.wait()
    said = [each["event"] for each in events if each["event"].startswith("database_")]
    assert said == ["database_ready", "database_unavailable", "database_ready"]


async def test_health_notices_a_database_that_freezes(
    behaviour: Behaviour, database_url: str
) -> None:
    server = Server(SERVICE, behaviour.register, Database(database_url), "127.0.0.1:0")
    async with asyncio.timeout(20), serving(server) as channel:
        await wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
        with frozen([find_server(database_url), *list_backends(database_url)]):
            async with asyncio.timeout(3):
                await wait_for_health(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        async with asyncio.timeout(2):
            await wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)


async def test_an_address_in_use_ends_the_program_with_a_clear_error(
    server: Server, behaviour: Behaviour
) -> None:
    with pytest.raises(SystemExit, match=rf"cannot listen on 127\.0\.0\.1:{server.port}"):
        Server(SERVICE, behaviour.register, Database(NOWHERE), f"127.0.0.1:{server.port}")


async def test_stop_finishes_what_is_in_flight(server: Server, behaviour: Behaviour) -> None:
    await server.start()
    async with client.open_channel("127.0.0.1", server.port) as channel:
        call = asyncio.ensure_future(method(channel, "wait")(b"kept"))
        await behaviour.entered.wait()
        stopping = asyncio.create_task(server.stop())
        while await accepted(channel):
            assert not stopping.done()
        behaviour.proceed.set()
        assert await call == b"kept"
        await stopping
