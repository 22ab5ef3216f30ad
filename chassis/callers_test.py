"""Which services may call an RPC that is for services: their certificates decide."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest

from chassis.access import Rule
from chassis.caller import Role
from chassis.database import Database
from chassis.server import Server
from chassis.testing import authorized, echo, make_server, refusal, unary
from chassis.tls import Certificates, server_credentials
from chassis.token_testing import Issuer
from tools.certs.authority import Authority, spiffe_id
from tools.certs.directories import write_directory

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
AUTHORITY = Authority.create(("user", "order"))
ISSUER = Issuer()
FOR_ORDER = Rule(services=frozenset({"order"}))


async def manage(request: bytes, context: object) -> bytes:
    """Respond with the request: a method for staff."""
    return await echo(request, context)


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    directory = write_directory(tmp_path / "user", AUTHORITY, AUTHORITY.issue("user"))
    made = make_server(
        Database(database_url),
        echo,
        manage,
        rules={"echo": FOR_ORDER, "manage": Rule(frozenset({Role.STAFF}))},
        issuer=ISSUER,
        credentials=server_credentials(Certificates(directory, "user")),
    )
    await made.start()
    yield made
    await made.stop(0)


def connect(server: Server, uris: Sequence[str]) -> grpc.aio.Channel:
    """Open a channel with a certificate of the authority that has these URIs among its names."""
    pair = AUTHORITY.issue("order", uris=uris)
    credentials = grpc.ssl_channel_credentials(
        AUTHORITY.pair.certificate, pair.key, pair.certificate
    )
    options = (("grpc.ssl_target_name_override", "user"),)
    return grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials, options=options)


async def test_the_service_that_an_rpc_names_may_call_it(server: Server) -> None:
    async with connect(server, [spiffe_id("order")]) as channel:
        assert await unary(channel, "echo")(b"hello") == b"hello"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        [spiffe_id("gateway")],
        [spiffe_id("order"), spiffe_id("gateway")],
        [spiffe_id("order"), "https://example.com"],
        ["https://bazaar/order"],
        ["spiffe://evil/order"],
        ["spiffe://bazaar/order/x"],
        ["spiffe://bazaar/x/order"],
    ],
)
async def test_no_other_certificate_may(server: Server, uris: Sequence[str]) -> None:
    async with connect(server, uris) as channel:
        for calling in (channel, authorized(channel, ISSUER.token())):
            refused = await refusal(unary(calling, "echo")(b""))
            assert (refused.code, refused.reason) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "CALLER_NOT_ALLOWED",
            )


async def test_a_service_is_no_user(server: Server) -> None:
    async with connect(server, [spiffe_id("order")]) as channel:
        refused = await refusal(unary(channel, "manage")(b""))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
