"""Bounded pools of connections to PostgreSQL, which wait for their server for a limited time.

The limit is the deadline of the call that is being served, or one of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, waiting
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from chassis import call_context

WAITING_PER_CONNECTION = 100
"""How many calls may wait per connection of the pool; one more is refused at once."""
STATEMENT_SECONDS = 10.0
"""How long a statement may take, if the deadline of its call does not come first."""
CANCEL_SECONDS = 0.25
"""How long the server may take to cancel a statement before its connection is dropped."""
ROLLBACK_SECONDS = 0.25
"""The least time that a statement is given: a rollback runs after the deadline has passed."""
RECONNECT_SECONDS = 0.5

_SERVER_OPTIONS = {
    # The server's own limit, for statements whose client can no longer cancel them.
    "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
    # Our transactions wait for nothing but the database: a client that is idle in one has stopped.
    "idle_in_transaction_session_timeout": "10s",
    # A statement ends, and frees its locks, soon after its client is gone.
    "client_connection_check_interval": "1s",
}
_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 2,
    "application_name": "bazaar",
    # A server that vanishes is noticed after about 10 s.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

Result = TypeVar("Result")


def connection_options(url: str) -> dict[str, Any]:
    """Return the options of every connection; server options in the URL come last, and so win."""
    ours = " ".join(f"-c {name}={value}" for name, value in _SERVER_OPTIONS.items())
    theirs = conninfo.conninfo_to_dict(url).get("options") or ""
    return {**_OPTIONS, "options": f"{ours} {theirs}".rstrip()}


class LimitedConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that waits for its server no longer than the call being served may take."""

    async def wait(
        self,
        gen: Generator[Any, Any, Result],
        interval: float = 1.0,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's method has it.
    ) -> Result:
        """Wait for the server; psycopg calls this for everything but connecting.

        Raises:
            psycopg.errors.QueryCanceled: the time was up, and the server confirmed that it stopped.
            psycopg.OperationalError: the time was up, and the server did not react: the connection
                is dropped.
        """
        if timeout is None:
            timeout = max(ROLLBACK_SECONDS, call_context.remaining_seconds(STATEMENT_SECONDS))
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval, timeout)
        except asyncio.CancelledError:
            if self._is_active():
                with suppress(psycopg.OperationalError):
                    await self._interrupt(gen)
            raise
        except psycopg.OperationalError:
            if self._is_active():
                return await self._interrupt(gen)
            raise

    def _is_active(self) -> bool:
        return self.pgconn.transaction_status == TransactionStatus.ACTIVE

    async def _interrupt(self, gen: Generator[Any, Any, Result]) -> Result:
        """Cancel what is running, or drop the connection of a server that does not react."""
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self.cancel_safe(timeout=CANCEL_SECONDS)
                return await waiting.wait_async(gen, self.pgconn.socket, CANCEL_SECONDS)
        except TimeoutError as error:
            raise psycopg.OperationalError("the server did not react in time") from error
        finally:
            if self._is_active():
                self.pgconn.finish()


Pool = AsyncConnectionPool[LimitedConnection]


def make_pool(
    url: str,
    connections: int,
    configure: Callable[[LimitedConnection], Awaitable[None]] | None = None,
) -> Pool:
    """Make a pool, which is opened later; `configure` may refuse a new connection."""
    return AsyncConnectionPool(
        url,
        connection_class=LimitedConnection,
        kwargs=connection_options(url),
        min_size=1,
        max_size=connections,
        max_waiting=WAITING_PER_CONNECTION * connections,
        # So short that the pauses between attempts have no time to grow.
        reconnect_timeout=RECONNECT_SECONDS,
        reconnect_failed=_connect_again,
        configure=configure,
        open=False,
    )


async def _connect_again(pool: Pool) -> None:
    """Let a pool that has given up connect again.

    By itself it would do so only when it queues another call, and its queue may be full.
    """
    await pool.check()
