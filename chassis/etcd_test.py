"""The client of etcd, and the directory, with what others may do to a real etcd."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from etcd.v1 import etcd_pb2

from chassis import errors
from chassis.discovery import LEASE_SECONDS, PREFIX, Directory, Registration
from chassis.etcd import MAX_KEYS, SERVER_NAME, TIMEOUT_SECONDS, Etcd
from chassis.secure_channel import Addresses, open_channel
from chassis.tls import Certificates
from tools.certs.authority import Authority
from tools.certs.directories import write_directory
from tools.testing.etcd import EtcdServer

SECONDS = 10.0
PING_SECONDS = 15.0
"""How long it takes to notice that etcd does not respond to pings, as chassis.etcd has them."""
NAMES = ("user", SERVER_NAME)
KEY = f"{PREFIX}user/127.0.0.1:50051"
LARGE_BYTES = 1_000_000


class Others:
    """Other users of an etcd server, who write what they like."""

    def __init__(self, server: EtcdServer, certificates: Certificates) -> None:
        self._channel = open_channel(server.target, (), certificates, SERVER_NAME)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def put(self, key: str, value: bytes = b"") -> None:
        """Set a key."""
        request = etcd_pb2.PutRequest(key=key.encode(), value=value)
        await self._call("Put", request.SerializeToString())

    async def delete(self, key: str) -> None:
        """Delete a key."""
        # A DeleteRangeRequest begins as a RangeRequest does.
        request = etcd_pb2.RangeRequest(key=key.encode())
        await self._call("DeleteRange", request.SerializeToString())

    async def compact(self, revision: int) -> None:
        """Have etcd forget what was before a small revision."""
        await self._call("Compact", bytes([0x08, revision]))

    async def _call(self, method: str, request: bytes) -> None:
        call: Any = self._channel.unary_unary(f"/etcdserverpb.KV/{method}")
        await call(request)


class Cluster:
    """An etcd server, our client of it, and others."""

    def __init__(self, root: Path) -> None:
        certificates = Certificates(root / "user")
        self.server = EtcdServer(root / SERVER_NAME, root / "stored")
        self.etcd = Etcd(self.server.target, certificates)
        self.others = Others(self.server, certificates)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    authority = Authority.create(NAMES)
    for name in NAMES:
        write_directory(tmp_path / name, authority, authority.issue(name))
    started = Cluster(tmp_path)
    try:
        await started.server.start(started.etcd)
        yield started
    finally:
        await started.others.close()
        await started.etcd.close()
        await started.server.kill()


@asynccontextmanager
async def registered(etcd: Etcd) -> AsyncIterator[None]:
    announced = asyncio.Event()
    announced.set()
    async with registering(etcd, announced):
        await wait_for_key(etcd, KEY)
        yield


@asynccontextmanager
async def registering(
    etcd: Etcd, announced: asyncio.Event, host: str = "127.0.0.1"
) -> AsyncIterator[None]:
    registration = Registration(etcd, "user", host, 50051, announced)
    registration.start()
    try:
        yield
    finally:
        await registration.stop()


async def wait_for_key(etcd: Etcd, key: str) -> None:
    async with asyncio.timeout(SECONDS):
        keys, revision = await etcd.read_keys(key)
        while not keys:
            async with aclosing(etcd.watch(key, revision + 1)) as changes:
                await anext(changes)
            keys, revision = await etcd.read_keys(key)


async def test_a_server_is_registered_once_it_is_announced(cluster: Cluster) -> None:
    announced = asyncio.Event()
    other_key = f"{PREFIX}user/127.0.0.2:50051"
    async with registering(cluster.etcd, announced, "127.0.0.2"), registered(cluster.etcd):
        assert (await cluster.etcd.read_keys(PREFIX))[0] == [KEY]
        announced.set()
        await wait_for_key(cluster.etcd, other_key)


async def test_a_watch_ends_if_changes_were_compacted(cluster: Cluster) -> None:
    for _ in range(3):
        await cluster.others.put(KEY)
    _, revision = await cluster.etcd.read_keys(PREFIX)
    await cluster.others.compact(revision)
    async with asyncio.timeout(SECONDS):
        async with aclosing(cluster.etcd.watch(PREFIX, revision - 1)) as changes:
            assert [change async for change in changes] == []


async def test_keys_with_large_values_are_read(cluster: Cluster) -> None:
    keys = [f"{KEY}{number}" for number in range(5)]
    for key in keys:
        await cluster.others.put(key, bytes(LARGE_BYTES))
    assert (await cluster.etcd.read_keys(PREFIX))[0] == keys


async def test_a_directory_finds_a_service_among_too_many_keys(cluster: Cluster) -> None:
    garbage = [f"{PREFIX}garbage/{number}" for number in range(MAX_KEYS)]
    await asyncio.gather(*map(cluster.others.put, garbage))
    directory = Directory(cluster.etcd)
    addresses = directory.resolve("etcd:///user")
    assert isinstance(addresses, Addresses)
    async with registered(cluster.etcd):
        await directory.open()
        assert addresses.target == "ipv4:127.0.0.1:50051"
    await directory.close()


async def test_an_address_that_others_delete_is_registered_again(cluster: Cluster) -> None:
    async with registered(cluster.etcd):
        await cluster.others.delete(KEY)
        await wait_for_key(cluster.etcd, KEY)


async def test_nobody_waits_for_a_frozen_etcd(cluster: Cluster) -> None:
    lease = await cluster.etcd.grant(LEASE_SECONDS)
    await cluster.etcd.put(KEY, lease)
    cluster.server.freeze()
    async with asyncio.timeout(2 * TIMEOUT_SECONDS):
        with pytest.raises(errors.Unavailable):
            await cluster.etcd.keep_alive(KEY, lease, 0.1)
    async with asyncio.timeout(2 * TIMEOUT_SECONDS):
        with pytest.raises(errors.Unavailable):
            await cluster.etcd.read_keys(PREFIX)


async def test_a_watch_ends_when_etcd_is_frozen(cluster: Cluster) -> None:
    _, revision = await cluster.etcd.read_keys(PREFIX)
    async with aclosing(cluster.etcd.watch(PREFIX, revision + 1)) as changes:
        change = asyncio.create_task(anext(changes))
        # It has begun when it yields.
        await cluster.others.put(KEY)
        await change
        cluster.server.freeze()
        async with asyncio.timeout(PING_SECONDS + TIMEOUT_SECONDS):
            with pytest.raises(errors.Unavailable):
                await anext(changes)
