"""Services trust the tokens of the user service, and no longer than their sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import client, errors
from chassis.database import Database
from chassis.secure_channel import Addresses, Target
from chassis.server import Server
from chassis.service import Resources
from chassis.tokens import Verifier
from services.identity import issuer
from services.user.main import SERVICE
from services.user.testing import PASSWORD, SETTINGS, Users, log_in

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"


@asynccontextmanager
async def user_service(url: str, port: int = 0) -> AsyncIterator[Server]:
    """Run the user service with its own keys and tasks."""
    resources = Resources(Database(url), SETTINGS)
    server = SERVICE.make_server(resources, f"127.0.0.1:{port}")
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop, 0)
        for task in resources.tasks:
            task.start()
            stack.push_async_callback(task.stop)
        yield server


@asynccontextmanager
async def clients(target: Target) -> AsyncIterator[tuple[Users, Verifier]]:
    """Yield a client of the user service, and what another service verifies tokens with."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(client.open_channel(target))
        resources = Resources(Database(""), channels={issuer.PEER: channel})
        verifier = issuer.make_verifier(resources, None)
        for task in resources.tasks:
            task.start()
            stack.push_async_callback(task.stop)
        yield user_pb2_grpc.UserServiceStub(channel), verifier


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


async def register(users: Users) -> None:
    request = user_pb2.RegisterRequest(
        email="ada@example.com", password=PASSWORD, display_name="Ada"
    )
    await users.Register(request, wait_for_ready=True)


async def wait_until_refused(verifier: Verifier, token: str) -> str:
    """Return why a token is refused; it may take a moment until it is."""
    async with asyncio.timeout(10):
        while True:
            try:
                await verifier.verify(token)
            except errors.Unauthenticated as error:
                return error.reason
            await asyncio.sleep(0.01)


async def test_a_token_of_a_login_is_valid_until_the_logout(clean_database_url: str) -> None:
    async with (
        user_service(clean_database_url) as server,
        clients(address(server.port)) as (users, verifier),
    ):
        await register(users)
        tokens, others = await log_in(users), await log_in(users)
        for each in (tokens, others):
            await verifier.verify(each.access_token)
        await users.Logout(user_pb2.LogoutRequest(refresh_token=tokens.refresh_token))
        assert await wait_until_refused(verifier, tokens.access_token) == "TOKEN_REVOKED"
        await verifier.verify(others.access_token)


async def test_tokens_are_verified_while_the_user_service_is_down(clean_database_url: str) -> None:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(AsyncExitStack())
        server = await running.enter_async_context(user_service(clean_database_url))
        users, verifier = await stack.enter_async_context(clients(address(server.port)))
        await register(users)
        known, new = await log_in(users), await log_in(users)
        await verifier.verify(known.access_token)
        await running.aclose()
        for each in (known, new):
            await verifier.verify(each.access_token)


async def test_a_logout_reaches_services_that_were_cut_off(clean_database_url: str) -> None:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(AsyncExitStack())
        server = await running.enter_async_context(user_service(clean_database_url))
        users, verifier = await stack.enter_async_context(clients(address(server.port)))
        await register(users)
        tokens = await log_in(users)
        await verifier.verify(tokens.access_token)
        await running.aclose()
        async with (
            user_service(clean_database_url) as other,
            clients(address(other.port)) as (elsewhere, _),
        ):
            request = user_pb2.LogoutRequest(refresh_token=tokens.refresh_token)
            await elsewhere.Logout(request, wait_for_ready=True)
        await verifier.verify(tokens.access_token)
        async with user_service(clean_database_url, server.port):
            assert await wait_until_refused(verifier, tokens.access_token) == "TOKEN_REVOKED"


class WatchedUsers(grpc.GenericRpcHandler):
    """Watches with a response every so often."""

    def __init__(self, interval_seconds: float) -> None:
        self.watches = asyncio.Semaphore(0)
        self.has_ended = asyncio.Event()
        self._interval_seconds = interval_seconds

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the method for WatchRevocations only."""
        if details.method.endswith("/WatchRevocations"):
            return grpc.unary_stream_rpc_method_handler(self.watch)
        return None

    async def watch(self, _request: bytes, _context: object) -> AsyncIterator[bytes]:
        self.watches.release()
        try:
            while True:
                yield user_pb2.WatchRevocationsResponse().SerializeToString()
                await asyncio.sleep(self._interval_seconds)
        finally:
            self.has_ended.set()


@asynccontextmanager
async def watched(users: WatchedUsers) -> AsyncIterator[int]:
    """Serve watches, and yield the port."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((users,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(0)


async def test_a_user_service_that_falls_silent_is_watched_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(issuer, "SILENCE_SECONDS", 0.05)
    silent = WatchedUsers(interval_seconds=60)
    async with asyncio.timeout(10), watched(silent) as port, clients(address(port)):
        for _ in range(2):
            await silent.watches.acquire()


async def test_replicas_of_the_user_service_that_are_gone_are_watched_no_more() -> None:
    first, second = WatchedUsers(interval_seconds=0.01), WatchedUsers(interval_seconds=0.01)
    async with asyncio.timeout(10), watched(first) as port, watched(second) as other_port:
        addresses = Addresses(f"ipv4:{address(port)}")
        async with clients(addresses):
            await first.watches.acquire()
            addresses.change(f"ipv4:{address(other_port)}")
            await first.has_ended.wait()
            await second.watches.acquire()
