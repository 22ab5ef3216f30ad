"""Counters that several gateways share, in Redis or Valkey.

While the store is down, or slow, each gateway counts in its own memory: requests go on, and a login
is not open to guessing.
"""

import asyncio
import time
from typing import Any, NamedTuple

from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from chassis import log
from gateway.rates.memory import BoundedMemoryStorage
from gateway.rates.quotas import Quota, Subject

STORE_SECONDS = 0.1
"""How long the store may take for all counters of a request."""

RETRY_SECONDS = 1.0
"""How long the store is left alone after a failure; then one request tries it again."""

_CONNECTIONS = 32
_PREFIX = "gateway"


class Usage(NamedTuple):
    """A quota after a request was counted."""

    quota: Quota
    exceeded: bool
    remaining: int
    reset_seconds: float


class Counters:
    """Counts requests, in the memory of this process or in a store."""

    def __init__(self, url: str = "") -> None:
        """Take the URL of a store, `redis://` or `rediss://`; without one, count in memory."""
        self._memory = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
        self._method_memory = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
        """Counts for the quotas of methods, which other requests do not push out."""
        self._pool = _make_pool(url) if url else None
        self._shared = None if self._pool is None else _share(url, self._pool)
        self._retry_at = 0.0
        """When the store may be tried again; 0 while it works."""
        self._missed = 0
        """How many requests the store has not counted."""
        self._log = log.logger()

    async def hit(self, subject: Subject) -> list[Usage]:
        """Count a request of somebody, but not for a quota that it exceeds, or a longer one."""
        if self._shared is not None and self._may_use_store():
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    usages = await _hit(self._shared, subject)
            except (RedisError, OSError, TimeoutError) as error:
                self._note_outage(error)
            else:
                self._note_recovery()
                return usages
        return await _hit(self._method_memory if subject.of_method else self._memory, subject)

    async def close(self) -> None:
        """Close the connections to the store."""
        if self._pool is not None:
            await self._pool.aclose()

    def _may_use_store(self) -> bool:
        if self._retry_at:
            now = time.monotonic()
            if now < self._retry_at:
                self._missed += 1
                return False
            self._retry_at = now + RETRY_SECONDS
        return True

    def _note_outage(self, error: Exception) -> None:
        if not self._retry_at:
            self._log.warning("rate_limit_store_unavailable", cause=type(error).__name__)
        self._missed += 1
        self._retry_at = time.monotonic() + RETRY_SECONDS

    def _note_recovery(self) -> None:
        if self._retry_at:
            self._log.info("rate_limit_store_available", requests_not_counted=self._missed)
            self._retry_at = 0.0
            self._missed = 0


async def _hit(limiter: SlidingWindowCounterRateLimiter, subject: Subject) -> list[Usage]:
    usages: list[Usage] = []
    allowed = True
    for quota in subject.quotas:
        identity = quota.name, subject.key
        exceeded = False
        if allowed:
            allowed = await limiter.hit(quota.item, *identity)
            exceeded = not allowed
        reset_time, remaining = await limiter.get_window_stats(quota.item, *identity)
        usages.append(Usage(quota, exceeded, remaining, max(0.0, reset_time - time.time())))
    return usages


def _make_pool(url: str) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=STORE_SECONDS,
        socket_timeout=STORE_SECONDS,
        socket_connect_timeout=STORE_SECONDS,
    )


def _share(url: str, pool: BlockingConnectionPool) -> SlidingWindowCounterRateLimiter:
    options: dict[str, Any] = {"connection_pool": pool}  # limits' types have no pool.
    storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix=_PREFIX, **options)
    return SlidingWindowCounterRateLimiter(storage)
