"""A shop whose programs find each other in etcd: two replicas of each service, and one gateway."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from chassis.discovery import LEASE_SECONDS, PREFIX
from chassis.etcd import SERVER_NAME, Etcd
from chassis.tls import Certificates
from tools.certs.directories import renew
from tools.client.session import Session
from tools.dev.mixed_load import TIMEOUT_SECONDS, MixedLoad
from tools.dev.replicas import CERTIFIED, ReplicatedShop
from tools.dev.shop import SERVICES
from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD, open_environment
from tools.testing.etcd import EtcdServer

HOSTS = ("127.0.0.1", "127.0.0.2")
BRIEF_SECONDS = 0.5
LONG_SECONDS = LEASE_SECONDS + 2.0
"""So long that all leases end meanwhile."""
EXPIRY_SECONDS = 2.0
"""How long etcd may take to notice that a lease has ended, and callers to hear of it."""
SILENT_SECONDS = 5.0
"""Longer than a caller waits before it connects again (chassis.client)."""
IN_FLIGHT = 6
"""How many requests the load has at a time."""


class EtcdShop:
    """The shop, its etcd, and its load."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        directory = Path(environment["BUILD_WORKSPACE_DIRECTORY"])
        tls = directory / ".data" / "tls"
        renew(tls, CERTIFIED)
        self.server = EtcdServer(tls / SERVER_NAME, directory / "etcd")
        self.etcd = Etcd(self.server.target, Certificates(tls / "gateway"))
        targets = {f"{name.upper()}SERVICE_TARGET": f"etcd:///{name}" for name in SERVICES}
        self.ports = {name: int(environment[f"{name.upper()}SERVICE_PORT"]) for name in SERVICES}
        self.replicas = ReplicatedShop(
            {**environment, **targets, "ETCD_TARGET": self.server.target},
            print,
            dict.fromkeys(SERVICES, HOSTS),
        )
        self.load = MixedLoad(self.replicas.url, Session(ADMIN_EMAIL, ADMIN_PASSWORD))

    async def start(self, stack: AsyncExitStack) -> None:
        """Start everything but the load."""
        stack.push_async_callback(self.etcd.close)
        stack.push_async_callback(self.server.kill)
        await self.server.start(self.etcd)
        await self.replicas.start(stack)

    async def wait_until_registered(self) -> None:
        """Wait until all replicas are registered."""
        expected = {
            f"{PREFIX}{name}/{host}:{port}" for name, port in self.ports.items() for host in HOSTS
        }
        async with asyncio.timeout(2 * LEASE_SECONDS):
            while set((await self.etcd.read_keys(PREFIX))[0]) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def wait_until_used(self) -> None:
        """Wait until a request of each kind is over."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not self._is_used():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def check_load(self) -> None:
        """Check that no request has failed, of some of each kind."""
        assert self.load.failures == []
        assert self._is_used()

    def _is_used(self) -> bool:
        return all(self.load.requests[name] for name in ("read", "order", "list", "upload"))


@pytest.fixture
async def shop() -> AsyncIterator[EtcdShop]:
    with open_environment() as environment:
        async with AsyncExitStack() as stack:
            started = EtcdShop(environment)
            await started.start(stack)
            yield started


async def test_no_request_fails_while_etcd_is_killed_and_started_again(shop: EtcdShop) -> None:
    async with shop.load.running():
        for down_seconds in (BRIEF_SECONDS, LONG_SECONDS, BRIEF_SECONDS):
            await shop.server.kill()
            await asyncio.sleep(down_seconds)
            await shop.server.start(shop.etcd)
            await shop.wait_until_registered()
    shop.check_load()


async def test_no_request_fails_while_etcd_loses_everything(shop: EtcdShop) -> None:
    async with shop.load.running():
        for down_seconds in (BRIEF_SECONDS, LONG_SECONDS):
            await shop.server.kill()
            shop.server.forget()
            await asyncio.sleep(down_seconds)
            await shop.server.start(shop.etcd)
            await shop.wait_until_registered()
    shop.check_load()


async def test_no_request_fails_while_etcd_is_frozen(shop: EtcdShop) -> None:
    async with shop.load.running():
        shop.server.freeze()
        await asyncio.sleep(LONG_SECONDS)
        shop.server.thaw()
        await shop.wait_until_registered()
    shop.check_load()


async def test_no_caller_connects_to_a_dead_replica_after_its_lease(shop: EtcdShop) -> None:
    # No stream of a customer from it lasts: see chassis.secure_channel.
    service = "product"
    async with shop.load.running():
        await shop.wait_until_used()
        await shop.replicas.kill(service, 1)
        kill_time = time.monotonic()
        async with counting(HOSTS[1], shop.ports[service]) as connect_times:
            await asyncio.sleep(LEASE_SECONDS + EXPIRY_SECONDS)
            failures = list(shop.load.failures)
            assert connect_times
            await asyncio.sleep(SILENT_SECONDS)
    assert max(connect_times) - kill_time < LEASE_SECONDS + EXPIRY_SECONDS
    # Those in flight fail, if they are not safe to repeat.
    assert shop.load.failures == failures
    assert len(failures) <= IN_FLIGHT


async def test_callers_that_make_no_calls_let_dead_replicas_go_as_well(shop: EtcdShop) -> None:
    async with shop.load.running():
        await shop.wait_until_used()
    async with AsyncExitStack() as stack:
        for service in SERVICES:
            await shop.replicas.kill(service, 1)
        kill_time = time.monotonic()
        connect_times = [
            await stack.enter_async_context(counting(HOSTS[1], shop.ports[service]))
            for service in SERVICES
        ]
        await asyncio.sleep(LEASE_SECONDS + EXPIRY_SECONDS + SILENT_SECONDS)
    for times in connect_times:
        assert 0 < max(times) - kill_time < LEASE_SECONDS + EXPIRY_SECONDS


@asynccontextmanager
async def counting(host: str, port: int) -> AsyncIterator[list[float]]:
    """Listen in the place of a replica, refuse to serve, and yield when callers have connected."""
    times: list[float] = []

    def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        writer.close()

    server = await asyncio.start_server(refuse, host, port, family=socket.AF_INET)
    async with server:
        yield times
