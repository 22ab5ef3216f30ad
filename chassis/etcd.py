"""A client of etcd 3, for keys that live as long as their process (https://etcd.io/docs/v3.4/).

Every method raises errors.Unavailable if etcd cannot be reached, or does not respond in time.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from typing import Any, Final, TypeVar

import grpc
from etcd.v1 import etcd_pb2
from google.protobuf.message import Message

from chassis import errors
from chassis.client import CONNECTION_OPTIONS
from chassis.secure_channel import open_channel
from chassis.tls import Certificates

SERVER_NAME = "etcd"
"""The name in the certificates of all members of the cluster."""
TIMEOUT_SECONDS = 2.0
STREAM_SECONDS = 86_400.0
"""How long a stream lasts at most: less than DRAIN_SECONDS, as its channel may be replaced."""
MAX_KEYS = 1_000
"""How many keys are read at most."""

_OPTIONS: Final = {
    **dict(CONNECTION_OPTIONS),
    # A watch is silent as long as nothing changes. etcd allows one ping in 5 s.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    # Without it, gRPC waits for a minute for the response to a ping.
    "grpc.http2.ping_timeout_ms": 5_000,
}

_NEEDS_LEADER = (("hasleader", "true"),)
"""Ends a stream to a member that is cut off from the others."""

Response = TypeVar("Response")


class Etcd:
    """A channel to a cluster; it belongs to the event loop of its process."""

    def __init__(self, target: str, certificates: Certificates | None) -> None:
        self._channel = open_channel(target, list(_OPTIONS.items()), certificates, SERVER_NAME)
        self._range = self._unary("KV/Range", etcd_pb2.RangeResponse)
        self._put = self._unary("KV/Put", etcd_pb2.PutResponse)
        self._grant = self._unary("Lease/LeaseGrant", etcd_pb2.LeaseGrantResponse)
        self._revoke = self._unary("Lease/LeaseRevoke", etcd_pb2.LeaseRevokeResponse)
        self._keep_alive = self._stream("Lease/LeaseKeepAlive", etcd_pb2.LeaseKeepAliveResponse)
        self._watch = self._stream("Watch/Watch", etcd_pb2.WatchResponse)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def read_keys(self, prefix: str) -> tuple[list[str], int]:
        """Return the keys with a prefix, in order, and the revision of the store."""
        start, end = _range(prefix)
        # A value may have a megabyte, whoever has written it.
        request = etcd_pb2.RangeRequest(key=start, range_end=end, limit=MAX_KEYS, keys_only=True)
        response = await _attempt(self._range(request, timeout=TIMEOUT_SECONDS))
        keys = [pair.key.decode(errors="replace") for pair in response.kvs]
        return keys, response.header.revision

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[None, None]:
        """Yield whenever keys with a prefix have changed; the end means that some were missed."""
        start, end = _range(prefix)
        create = etcd_pb2.WatchCreateRequest(
            key=start, range_end=end, start_revision=start_revision
        )
        call = self._watch(metadata=_NEEDS_LEADER, timeout=STREAM_SECONDS)
        try:
            with _unavailable():
                await call.write(etcd_pb2.WatchRequest(create_request=create))
                async for response in call:
                    if response.canceled:
                        return
                    if not response.created:
                        yield
        finally:
            call.cancel()

    async def grant(self, seconds: int) -> int:
        """Return a new lease."""
        request = etcd_pb2.LeaseGrantRequest(ttl=seconds)
        response = await _attempt(self._grant(request, timeout=TIMEOUT_SECONDS))
        return int(response.id)

    async def put(self, key: str, lease: int) -> None:
        """Set a key without a value, which is deleted with the lease."""
        request = etcd_pb2.PutRequest(key=key.encode(), lease=lease)
        await _attempt(self._put(request, timeout=TIMEOUT_SECONDS))

    async def keep_alive(self, key: str, lease: int, interval_seconds: float) -> None:
        """Keep a key alive by its lease, and return when the key or the lease is lost.

        Others may delete the key, and a put that timed out may be late, and replace its lease.
        """
        call = self._keep_alive(metadata=_NEEDS_LEADER, timeout=STREAM_SECONDS)
        try:
            while await self._keep_alive_once(call, lease):
                if key not in (await self.read_keys(key))[0]:
                    return
                await asyncio.sleep(interval_seconds)
        finally:
            call.cancel()

    async def revoke(self, lease: int) -> None:
        """Delete the lease, and the keys that have it."""
        request = etcd_pb2.LeaseRevokeRequest(id=lease)
        await _attempt(self._revoke(request, timeout=TIMEOUT_SECONDS))

    async def _keep_alive_once(self, call: Any, lease: int) -> bool:
        with _unavailable():
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await call.write(etcd_pb2.LeaseKeepAliveRequest(id=lease))
                response = await call.read()
        return response is not grpc.aio.EOF and response.ttl > 0

    def _unary(self, method: str, response: type[Message]) -> Any:
        return self._channel.unary_unary(f"/etcdserverpb.{method}", *_codec(response))

    def _stream(self, method: str, response: type[Message]) -> Any:
        return self._channel.stream_stream(f"/etcdserverpb.{method}", *_codec(response))


def _codec(response: type[Message]) -> tuple[Any, Any]:
    return methodcaller("SerializeToString"), response.FromString


def _range(prefix: str) -> tuple[bytes, bytes]:
    """Return the first of all keys with a prefix, which ends in ASCII, and what is after them."""
    start = prefix.encode()
    return start, start[:-1] + bytes([start[-1] + 1])


async def _attempt(call: Awaitable[Response]) -> Response:
    with _unavailable():
        return await call


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    # A call that has failed takes no more requests.
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
        raise errors.Unavailable("ETCD_UNAVAILABLE", "etcd did not respond.") from error
