"""Who may call an RPC, and for how long: through a real server."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from access.v1 import access_pb2
from google.protobuf import descriptor_pb2, descriptor_pool

from chassis import access, call_context
from chassis.access import Rule
from chassis.caller import Role
from chassis.codec import Context
from chassis.database import Database
from chassis.testing import (
    Waiting,
    authorized,
    make_server,
    read_refusal,
    refusal,
    serving,
    streamed,
    unary,
)
from chassis.token_testing import Issuer

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"

OWNED = Rule(frozenset(Role))
FOR_STAFF = Rule(frozenset({Role.STAFF, Role.ADMIN}))
FOR_SERVICES = Rule(services=frozenset({"order"}))


async def name_caller(_request: bytes, _context: Context) -> bytes:
    caller = call_context.find_caller()
    return b"" if caller is None else str(caller.user_id).encode()


async def manage(_request: bytes, _context: Context) -> bytes:
    return b"done"


async def reserve(_request: bytes, _context: Context) -> bytes:
    return b"reserved"


async def look(_request: bytes, _context: Context) -> bytes:
    return await name_caller(b"", _context)


class Follower:
    """A stream that sends one response, and no other."""

    def __init__(self) -> None:
        self.waiting = Waiting()

    async def follow(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"first"
        await self.waiting.wait(request, context)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def channel(database_url: str, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    server = make_server(
        Database(database_url),
        name_caller,
        manage,
        reserve,
        look,
        Follower().follow,
        rules={"name_caller": OWNED, "manage": FOR_STAFF, "reserve": FOR_SERVICES, "follow": OWNED},
        issuer=issuer,
    )
    async with serving(server) as opened:
        yield opened


async def _call(channel: grpc.aio.Channel, method: str, token: str) -> bytes:
    found: bytes = await unary(authorized(channel, token), method)(b"")
    return found


async def test_the_caller_is_the_subject_of_the_token(
    channel: grpc.aio.Channel, issuer: Issuer
) -> None:
    user_id = uuid.uuid4()
    token = issuer.token(user_id, Role.CUSTOMER)
    assert await _call(channel, "name_caller", token) == str(user_id).encode()
    assert await _call(channel, "look", token) == str(user_id).encode()


async def test_a_call_without_a_token_is_unauthenticated(channel: grpc.aio.Channel) -> None:
    refused = await refusal(unary(channel, "name_caller")(b""))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


async def test_a_public_call_needs_no_token_and_no_bad_one(
    channel: grpc.aio.Channel, issuer: Issuer
) -> None:
    assert await unary(channel, "look")(b"") == b""
    refused = await refusal(_call(channel, "look", issuer.token(age_seconds=1_000)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


@pytest.mark.parametrize(
    "values", [["Basic YTpi"], ["Bearer"], ["x"], [""], ["Bearer {token}", "Bearer {token}"]]
)
async def test_authorization_is_one_bearer_token(
    channel: grpc.aio.Channel, issuer: Issuer, values: list[str]
) -> None:
    metadata = [("authorization", value.format(token=issuer.token())) for value in values]
    refused = await refusal(unary(channel, "name_caller")(b"", metadata=metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


@pytest.mark.parametrize(
    ("role", "allowed"), [(Role.CUSTOMER, False), (Role.STAFF, True), (Role.ADMIN, True)]
)
async def test_a_role_decides(
    channel: grpc.aio.Channel, issuer: Issuer, role: Role, allowed: bool
) -> None:
    call = _call(channel, "manage", issuer.token(role=role))
    if allowed:
        assert await call == b"done"
        return
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")


async def test_a_plain_text_port_trusts_that_its_peers_are_services(
    channel: grpc.aio.Channel,
) -> None:
    assert await unary(channel, "reserve")(b"") == b"reserved"


@asynccontextmanager
async def _following(channel: grpc.aio.Channel, token: str) -> AsyncIterator[object]:
    call = streamed(authorized(channel, token), "follow")(b"")
    assert await call.read() == b"first"
    yield call
    call.cancel()


async def _end(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()  # type: ignore[attr-defined]
    refused = read_refusal(raised.value)
    return refused.code, refused.reason


async def test_a_stream_ends_with_its_session(channel: grpc.aio.Channel, issuer: Issuer) -> None:
    ended, other = uuid.uuid4(), uuid.uuid4()
    async with (
        asyncio.timeout(10),
        _following(channel, issuer.token(session_id=ended)) as call,
        _following(channel, issuer.token(session_id=ended)) as second,
        _following(channel, issuer.token(session_id=other)) as unaffected,
    ):
        issuer.revocations.revoke(ended)
        expected = (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")
        assert [await _end(each) for each in (call, second)] == [expected, expected]
        issuer.revocations.revoke(other)
        assert await _end(unaffected) == expected


async def test_a_stream_ends_with_its_token(
    channel: grpc.aio.Channel, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token()
    almost_ten_minutes_later = time.time() + 598.5
    monkeypatch.setattr("chassis.access.time.time", lambda: almost_ten_minutes_later)
    async with asyncio.timeout(10), _following(channel, token) as call:
        assert await _end(call) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


def _service(**options: access_pb2.Access) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{uuid.uuid4().hex}.proto", package="lamp")
    file.message_type.add(name="Empty")
    service = file.service.add(name="LampService")
    for name, option in options.items():
        rpc = service.method.add(name=name, input_type=".lamp.Empty", output_type=".lamp.Empty")
        rpc.options.Extensions[access_pb2.access].CopyFrom(option)
    return file


def _read_rules(**options: access_pb2.Access) -> access.Rules:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_service(**options))
    return access.read_rules(pool.FindServiceByName("lamp.LampService"))


def test_rules_are_declared_in_the_proto() -> None:
    rules = _read_rules(
        Light=access_pb2.Access(allow=[access_pb2.OWNER]),
        Break=access_pb2.Access(allow=[access_pb2.ADMIN], services=["order"]),
        Look=access_pb2.Access(allow=[access_pb2.PUBLIC]),
    )
    assert rules == {
        "/lamp.LampService/Light": OWNED,
        "/lamp.LampService/Break": Rule(frozenset({Role.ADMIN}), services=frozenset({"order"})),
        "/lamp.LampService/Look": access.PUBLIC,
    }


@pytest.mark.parametrize(
    "option",
    [
        access_pb2.Access(),
        access_pb2.Access(allow=[access_pb2.PUBLIC, access_pb2.STAFF]),
        access_pb2.Access(allow=[access_pb2.PUBLIC], services=["order"]),
        access_pb2.Access(allow=[access_pb2.CALLER_UNSPECIFIED]),
    ],
)
def test_an_rpc_whose_callers_are_not_clear_is_not_served(option: access_pb2.Access) -> None:
    with pytest.raises(ValueError, match=r"lamp\.LampService\.Light"):
        _read_rules(Light=option)
