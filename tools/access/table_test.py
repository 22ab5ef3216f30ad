"""Every RPC and every route, called by everybody: those whom the proto allows come in, no others.

What is expected is worked out here from the option access.v1.access of each RPC, apart from the
code that enforces it.
"""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio

from chassis.caller import Role
from chassis.token_testing import Forger, Issuer
from tools.access.rpcs import (
    ADMITTED,
    CALL_SECONDS,
    STREAM_SECONDS,
    Outcome,
    Rpc,
    call,
    list_rpcs,
    send,
)
from tools.access.testing import SERVICES, Setup, forge_pair
from tools.certs.directories import PROGRAMS

pytest_plugins = ("tools.postgres.testing", "services.order.testing", "tools.access.testing")
pytestmark = pytest.mark.asyncio(loop_scope="module")

RPCS = list(list_rpcs())
EACH_RPC = pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.descriptor.full_name)
EACH_ROUTED_RPC = pytest.mark.parametrize(
    "rpc", [rpc for rpc in RPCS if rpc.routes], ids=lambda rpc: rpc.descriptor.full_name
)
MIN_FORGERIES = 40
EXPIRED = frozenset({"expired", "expired long ago", "an expiry that is true"})
"""The forged tokens whose time has passed; true is 1, in 1970."""

EVERYBODY = frozenset({"customer", "other customer", "staff", "admin"})
ALLOWED: Mapping[str, frozenset[str]] = {
    "PUBLIC": EVERYBODY,
    "AUTHENTICATED": EVERYBODY,
    "OWNER": EVERYBODY,
    "STAFF": frozenset({"staff", "admin"}),
    "ADMIN": frozenset({"admin"}),
}
"""Which users the callers of the option are."""


@dataclass(frozen=True)
class Client:
    """Somebody with an access token, which `refusal` says to be no good, or without one."""

    name: str
    token: str | None = None
    refusal: str = ""


def make_clients(issuer: Issuer) -> list[Client]:
    revoked = uuid.uuid4()
    issuer.revocations.revoke(revoked)
    return [
        Client("nobody"),
        Client("customer", issuer.token(uuid.UUID(int=11), Role.CUSTOMER)),
        Client("other customer", issuer.token(uuid.UUID(int=12), Role.CUSTOMER)),
        Client("staff", issuer.token(uuid.UUID(int=13), Role.STAFF)),
        Client("admin", issuer.token(uuid.UUID(int=14), Role.ADMIN)),
        Client("ended session", issuer.token(session_id=revoked), "TOKEN_REVOKED"),
        *(
            Client(name, token, "TOKEN_EXPIRED" if name in EXPIRED else "TOKEN_INVALID")
            for name, token in Forger(issuer).forge().items()
        ),
    ]


def expect(rpc: Rpc, client: Client, certificate: str = "gateway") -> str:
    """Return what is to become of a call, or the reason why it is to be refused."""
    if client.token is None or not rpc.callers:
        if "PUBLIC" in rpc.callers:
            return ADMITTED
        if rpc.services:
            return ADMITTED if certificate in rpc.services else "CALLER_NOT_ALLOWED"
        return "TOKEN_MISSING"
    if client.refusal:
        return client.refusal
    users = frozenset[str]().union(*(ALLOWED[caller] for caller in rpc.callers))
    return ADMITTED if client.name in users else "ROLE_MISSING"


def choose_patience(expected: str) -> float:
    """Return how long a call may be silent, which a stream is that is admitted."""
    return STREAM_SECONDS if expected == ADMITTED else CALL_SECONDS


def find_wrong(outcomes: Iterable[tuple[str, str, Outcome]]) -> list[str]:
    """Compare who called, what was expected and what became of it."""
    return [
        f"{who}: {outcome.result} instead of {expected}"
        for who, expected, outcome in outcomes
        if outcome.result != expected
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(setup: Setup) -> list[Client]:
    return make_clients(setup.shop.issuer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channels(setup: Setup) -> Mapping[str, Mapping[str, grpc.aio.Channel]]:
    """Channels to the services, by the program whose certificate they have."""
    pairs = {name: setup.read_pair(name) for name in PROGRAMS}
    return {name: await setup.open_channels(pair) for name, pair in pairs.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strangers(setup: Setup) -> AsyncIterator[Mapping[str, Mapping[str, grpc.aio.Channel]]]:
    """Channels with certificates of an authority that is not the shop's, and without any."""
    pairs = {name: forge_pair(name) for name in SERVICES}
    opened = {name: await setup.open_channels(pair) for name, pair in pairs.items()}
    yield {**opened, "nobody": await setup.open_channels(None)}


@EACH_RPC
async def test_an_rpc_admits_the_users_that_it_declares_and_nobody_else(
    channels: Mapping[str, Mapping[str, grpc.aio.Channel]], clients: list[Client], rpc: Rpc
) -> None:
    channel = channels["gateway"][rpc.service]

    async def try_as(client: Client) -> tuple[str, str, Outcome]:
        expected = expect(rpc, client)
        patience_seconds = choose_patience(expected)
        found = await call(channel, rpc, client.token, patience_seconds=patience_seconds)
        return client.name, expected, found

    assert find_wrong(await asyncio.gather(*(try_as(client) for client in clients))) == []


@EACH_ROUTED_RPC
async def test_a_route_admits_the_users_that_its_rpc_declares_and_nobody_else(
    setup: Setup, clients: list[Client], rpc: Rpc
) -> None:
    async def try_as(client: Client) -> list[tuple[str, str, Outcome]]:
        expected = expect(rpc, client)
        found = await send(setup.http, rpc, client.token, choose_patience(expected))
        return [(client.name, expected, outcome) for outcome in found]

    tried = await asyncio.gather(*(try_as(client) for client in clients))
    rows = [row for found in tried for row in found]
    assert find_wrong(rows) == []
    refusals = [json.loads(row[2].text) for row in rows if row[1] != ADMITTED]
    told = {"type", "title", "status", "detail", "code", "reason"}
    assert all(refusal.keys() == told for refusal in refusals), "and they learn nothing else"


@EACH_RPC
async def test_an_rpc_admits_the_services_that_it_declares_and_no_others(
    channels: Mapping[str, Mapping[str, grpc.aio.Channel]], rpc: Rpc
) -> None:
    async def try_as(name: str) -> tuple[str, str, Outcome]:
        expected = expect(rpc, Client("nobody"), name)
        channel, patience_seconds = channels[name][rpc.service], choose_patience(expected)
        found = await call(channel, rpc, None, patience_seconds=patience_seconds)
        return name, expected, found

    assert find_wrong(await asyncio.gather(*map(try_as, channels))) == []


@EACH_RPC
async def test_no_rpc_can_be_called_with_the_certificate_of_another_authority(
    strangers: Mapping[str, Mapping[str, grpc.aio.Channel]], clients: list[Client], rpc: Rpc
) -> None:
    admin = next(client.token for client in clients if client.name == "admin")
    metadata = [("authorization", f"Bearer {admin}")]
    found = {
        name: await find_status(opened[rpc.service], rpc, metadata)
        for name, opened in strangers.items()
    }
    assert set(found.values()) == {grpc.StatusCode.UNAVAILABLE}, found


async def find_status(
    channel: Any, rpc: Rpc, metadata: Sequence[tuple[str, str]]
) -> grpc.StatusCode:
    """Return the status of a call, which is made alike for all kinds of RPCs."""
    try:
        await channel.unary_unary(rpc.path)(b"", timeout=CALL_SECONDS, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_the_table_has_every_service_and_route_and_many_forged_tokens(
    setup: Setup, clients: list[Client]
) -> None:
    assert {rpc.service for rpc in RPCS} == set(SERVICES)
    document = (await setup.http.get("/openapi.json")).json()
    served = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    }
    assert document["x-unlisted-routes"] == []
    routed = [rpc for rpc in RPCS for _ in rpc.routes]
    names = {re.sub(r"_\d+$", "", name) for name in served}
    assert names == {
        f"{rpc.descriptor.containing_service.name}_{rpc.descriptor.name}" for rpc in routed
    }
    assert len(served) == len(routed)
    assert all(rpc.callers for rpc in routed), "no route is for services only"
    assert len({client.token for client in clients if client.refusal}) >= MIN_FORGERIES
