"""A shop whose programs find each other in etcd: two replicas of each service, and one gateway."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from chassis.discovery import LEASE_SECONDS, PREFIX
from chassis.etcd import SERVER_NAME, Etcd
from chassis.tls import Certificates
from tools.certs.directories import renew
from tools.client.auth import Bearer
from tools.client.session import Session
from tools.dev.mixed_load import TIMEOUT_SECONDS, MixedLoad
from tools.dev.replicas import CERTIFIED, ReplicatedShop
from tools.dev.shop import SERVICES
from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD, open_environment
from tools.testing.connection_attempts import counting_attempts
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
STREAMS = 8
"""So many that each worker of the gateway has streams from all replicas."""


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


async def test_a_dead_replica_fails_no_more_than_what_was_in_flight(shop: EtcdShop) -> None:
    async with shop.load.running():
        await shop.wait_until_used()
        await shop.replicas.kill("product", 1)
        await asyncio.sleep(LEASE_SECONDS + EXPIRY_SECONDS)
        failures = list(shop.load.failures)
        await asyncio.sleep(SILENT_SECONDS)
    # Those in flight fail, if they are not safe to repeat.
    assert shop.load.failures == failures
    assert len(failures) <= IN_FLIGHT


async def test_no_caller_connects_to_a_dead_replica_after_its_lease(shop: EtcdShop) -> None:
    """Neither one that makes no more calls, nor one whose clients have streams."""
    async with shop.load.running():
        await shop.wait_until_used()
    async with AsyncExitStack() as stack:
        watches = await stack.enter_async_context(watching_orders(shop.replicas.url))
        for service in SERVICES:
            await shop.replicas.kill(service, 1)
        kill_time = time.monotonic()
        attempts = [
            await stack.enter_async_context(counting_attempts(HOSTS[1], shop.ports[service]))
            for service in SERVICES
        ]
        await asyncio.sleep(LEASE_SECONDS + EXPIRY_SECONDS + SILENT_SECONDS)
        assert not all(watch.done() for watch in watches)
    last_times = [max(each.times) - kill_time for each in attempts]
    assert max(last_times) < LEASE_SECONDS + EXPIRY_SECONDS


@asynccontextmanager
async def watching_orders(url: str) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Watch all orders, over streams that have begun; each task ends with its stream."""
    begun = asyncio.Semaphore(0)

    async def watch() -> None:
        async with client.stream("GET", "/v1/orders:watch") as response:
            lines = response.raise_for_status().aiter_lines()
            await anext(lines)
            begun.release()
            async for _ in lines:
                pass

    auth = Bearer(Session(ADMIN_EMAIL, ADMIN_PASSWORD))
    async with httpx.AsyncClient(base_url=url, auth=auth, timeout=None, trust_env=False) as client:
        watches = [asyncio.create_task(watch()) for _ in range(STREAMS)]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for _ in watches:
                await begun.acquire()
        yield watches
        for each in watches:
            each.cancel()
        await asyncio.wait(watches)
