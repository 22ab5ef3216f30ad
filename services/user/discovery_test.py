"""Replicas of the user service, each a process, that their callers find in etcd.

No call is retried here, so that every error shows.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.client import CONNECTION_OPTIONS, LOAD_BALANCING
from chassis.discovery import LEASE_SECONDS, Directory
from chassis.etcd import SERVER_NAME, Etcd
from chassis.secure_channel import open_channel
from chassis.tls import Certificates
from tools.certs.authority import Authority
from tools.certs.directories import write_directory
from tools.testing.etcd import EtcdServer

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"

SECONDS = 20.0
EXPIRY_SECONDS = 2.0
"""How long etcd may take to notice that a lease has ended."""
NAMES = ("user", "gateway", SERVER_NAME)
CALLS_AT_A_TIME = 4


class Shop:
    """An etcd server, replicas that register in it, and a caller of theirs under load."""

    def __init__(self, root: Path, database_url: str) -> None:
        self._root = root
        self._database_url = database_url
        self._certificates = Certificates(root / "gateway")
        self.server = EtcdServer(root / SERVER_NAME, root / "stored")
        self.etcd = Etcd(self.server.target, self._certificates)
        self.directory = Directory(self.etcd)
        self.replicas: dict[str, Process] = {}
        self.calls = 0
        self.failures: list[grpc.aio.AioRpcError] = []

    async def start_replica(self) -> str:
        """Start a replica, and return its address when it is found."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address = f"127.0.0.1:{port}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.user.main", env=self._environment(port)
        )
        self.replicas[address] = process
        await self.wait_until(lambda: address in self.find() or process.returncode is not None)
        if process.returncode is not None:
            raise ChildProcessError("a replica ended at its start")
        return address

    def find(self) -> list[str]:
        """Return the addresses that callers know."""
        return list_addresses(self.directory)

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for a change of the directory."""
        async with asyncio.timeout(SECONDS):
            while not holds():
                await self._make_calls()

    async def make_calls(self, seconds: float) -> None:
        """Make calls for some time."""
        end_time = time.monotonic() + seconds
        while time.monotonic() < end_time:
            await self._make_calls()

    async def open(self, stack: AsyncExitStack) -> None:
        """Start etcd and a replica, and connect a caller."""
        stack.push_async_callback(self.etcd.close)
        stack.push_async_callback(self.server.kill)
        await self.server.start(self.etcd)
        target = self.directory.resolve("etcd:///user")
        stack.push_async_callback(self.directory.close)
        await self.directory.open()
        channel = open_channel(
            target, CONNECTION_OPTIONS, self._certificates, "user", LOAD_BALANCING
        )
        stack.push_async_callback(channel.close)
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        stack.push_async_callback(self._kill_replicas)

    async def _make_calls(self) -> None:
        request = health_pb2.HealthCheckRequest()
        calls = [self._health.Check(request, timeout=5) for _ in range(CALLS_AT_A_TIME)]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            self.calls += 1
            if isinstance(result, grpc.aio.AioRpcError):
                self.failures.append(result)

    async def _kill_replicas(self) -> None:
        for process in self.replicas.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _environment(self, port: int) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "BAZAAR_ENVIRONMENT": "development",
            "ETCD_TARGET": self.server.target,
            "USERSERVICE_TARGET": "etcd:///user",
            "USERSERVICE_HOST": "127.0.0.1",
            "USERSERVICE_PORT": str(port),
            "USERSERVICE_DATABASE_URL": self._database_url,
            "USERSERVICE_TLS_DIRECTORY": str(self._root / "user"),
            "USERSERVICE_KEY_SECRET": "change-me-in-production",
            "USERSERVICE_MAIL_DIRECTORY": str(self._root / "mail"),
        }


def list_addresses(directory: Directory) -> list[str]:
    return directory.find("user").removeprefix("ipv4:").split(",")


@pytest.fixture
async def shop(tmp_path: Path, database_url: str) -> AsyncIterator[Shop]:
    authority = Authority.create(NAMES)
    for name in NAMES:
        write_directory(tmp_path / name, authority, authority.issue(name))
    async with AsyncExitStack() as stack:
        opened = Shop(tmp_path, database_url)
        await opened.open(stack)
        await opened.start_replica()
        # Until the first is there, calls fail.
        opened.failures.clear()
        yield opened


async def test_replicas_come_and_go_without_a_failed_call(shop: Shop) -> None:
    [first] = shop.find()
    second = await shop.start_replica()
    await shop.make_calls(1)
    shop.replicas[first].send_signal(signal.SIGTERM)
    leaving = asyncio.create_task(shop.replicas[first].wait())
    await shop.wait_until(leaving.done)
    assert leaving.result() == 0
    # It has taken itself out, and not its lease.
    assert shop.find() == [second]
    assert shop.failures == []


async def test_no_call_fails_while_etcd_is_killed_and_started_again(shop: Shop) -> None:
    known = {*shop.find(), await shop.start_replica()}
    await shop.server.kill()
    await shop.make_calls(LEASE_SECONDS + EXPIRY_SECONDS)
    assert set(shop.find()) == known
    starting = asyncio.create_task(shop.server.start(shop.etcd))
    await shop.wait_until(starting.done)
    await starting
    # Those that were there register again, and so do others.
    third = await shop.start_replica()
    await shop.make_calls(LEASE_SECONDS + EXPIRY_SECONDS)
    assert set(shop.find()) == known | {third}
    assert shop.failures == []


async def test_replicas_register_again_where_etcd_has_lost_everything(shop: Shop) -> None:
    known = {*shop.find(), await shop.start_replica()}
    await shop.server.kill()
    shop.server.forget()
    starting = asyncio.create_task(shop.server.start(shop.etcd))
    await shop.wait_until(starting.done)
    await starting
    fresh = Directory(shop.etcd)
    fresh.resolve("etcd:///user")
    await fresh.open()
    await shop.wait_until(lambda: set(list_addresses(fresh)) == known)
    await fresh.close()
    assert shop.failures == []


async def test_a_replica_that_is_killed_is_gone_when_its_lease_ends(shop: Shop) -> None:
    [first] = shop.find()
    second = await shop.start_replica()
    shop.replicas[first].kill()
    kill_time = time.monotonic()
    await shop.wait_until(lambda: shop.find() == [second])
    assert time.monotonic() - kill_time < LEASE_SECONDS + EXPIRY_SECONDS
