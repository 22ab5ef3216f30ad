"""What happens around every call: errors as statuses, one log event, a deadline."""

import asyncio
import re
from collections.abc import AsyncIterator

import grpc
import pytest

from chassis import call_context, errors, interceptor
from chassis.codec import Context
from chassis.database import Database
from chassis.testing import SERVICE, Events, Waiting, make_server, refusal, serving, streamed, unary
from chassis.transport import MAX_MESSAGE_BYTES
from chassis.violations import Violations

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "user"


async def refuse(request: bytes, context: Context) -> bytes:
    violation = errors.Violation("colour", "must be red")
    metadata = {"thing": "7"}
    raise errors.Unprocessable("BAD_COLOUR", "no", metadata=metadata, violations=[violation])


async def refuse_all(request: bytes, context: Context) -> bytes:
    violations = Violations()
    for index in range(10_000):
        violations.check(False, f"colours[{index}]", "must be red")
    violations.raise_any()
    return request


async def crash(request: bytes, context: Context) -> bytes:
    raise RuntimeError("the secret is 42")


async def identify(request: bytes, context: Context) -> bytes:
    return call_context.request_id.get().encode()


async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
    yield b"1"
    raise errors.NotFound("NO_SECOND", "There is no second one.")


class Overflow:
    """A stream whose first response is too large."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def overflow(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            yield bytes(MAX_MESSAGE_BYTES + 1)
        finally:
            self.closed.set()


@pytest.fixture
def overflow() -> Overflow:
    return Overflow()


@pytest.fixture
async def channel(database_url: str, overflow: Overflow) -> AsyncIterator[grpc.aio.Channel]:
    methods = (refuse, refuse_all, crash, identify, stream, overflow.overflow, Waiting().wait)
    async with serving(make_server(Database(database_url), *methods)) as opened:
        yield opened


async def test_an_error_becomes_a_status_with_its_details(channel: grpc.aio.Channel) -> None:
    refused = await refusal(unary(channel, "refuse")(b""))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.message, refused.reason) == ("no", "BAD_COLOUR")
    assert refused.metadata == {"thing": "7", "http_status": "422"}
    assert refused.fields == ["colour"]


async def test_an_error_has_at_most_20_violations(channel: grpc.aio.Channel) -> None:
    refused = await refusal(unary(channel, "refuse_all")(b""))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [f"colours[{index}]" for index in range(20)]


async def test_an_unknown_exception_is_hidden_from_the_client(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await unary(channel, "crash")(b"")
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert "42" not in repr(raised.value)


async def test_an_error_ends_a_stream_with_its_status(channel: grpc.aio.Channel) -> None:
    call = streamed(channel, "stream")(b"")
    assert await call.read() == b"1"
    refused = await refusal(call.read())
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_a_stream_is_closed_although_its_call_has_ended(
    channel: grpc.aio.Channel, overflow: Overflow
) -> None:
    refused = await refusal(streamed(channel, "overflow")(b"").read())
    assert refused.code == grpc.StatusCode.INTERNAL
    async with asyncio.timeout(10):
        await overflow.closed.wait()


async def test_each_call_logs_one_event(events: Events, channel: grpc.aio.Channel) -> None:
    await unary(channel, "identify")(b"", metadata=(("x-request-id", "abc"),))
    await refusal(unary(channel, "refuse")(b""))
    first, second = [event for event in events if event["event"] == "rpc"]
    assert (first["method"], first["code"]) == (f"/{SERVICE}/identify", "OK")
    assert first["request_id"] == "abc"
    assert first["duration_ms"] >= 0
    assert re.match(r"ipv4:127\.0\.0\.1:\d+", first["peer"])
    assert (second["method"], second["code"]) == (f"/{SERVICE}/refuse", "INVALID_ARGUMENT")
    assert second["request_id"] != "abc"


async def test_a_call_without_a_deadline_has_the_default_one(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "DEFAULT_DEADLINE_SECONDS", 0.05)
    async with asyncio.timeout(10):
        refused = await refusal(unary(channel, "wait")(b""))
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
