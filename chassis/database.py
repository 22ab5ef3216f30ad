"""One PostgreSQL database of a service: a bounded pool, transactions, and what its failures mean.

No SQL of any service lives here. READ COMMITTED throughout; what must not race takes row locks.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from chassis import errors

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CHECKOUT_TIMEOUT_SECONDS = 5.0
RECONNECT_SECONDS = 2.0
MIGRATED: LiteralString = "SELECT version_num FROM alembic_version"

_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    "application_name": "bazaar",
    # A server that is gone without a word is noticed after about 20 s.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}


class Database:
    """A pool of connections. Make it in the process that uses it, after any fork."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = 10,
        checkout_timeout_seconds: float = CHECKOUT_TIMEOUT_SECONDS,
    ) -> None:
        self._url = url
        self._pool = AsyncConnectionPool(
            url,
            kwargs=_OPTIONS,
            min_size=1,
            max_size=connections,
            timeout=checkout_timeout_seconds,
            # Short, so that it never backs off for longer: a request that comes begins anew.
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
        )
        self._probe: Connection | None = None
        self._probing = asyncio.Lock()

    async def open(self) -> None:
        """Start connecting in the background; a database that is down is tried again for ever."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()
        # libpq frees a connection that is closed, also under a query that is still running.
        async with self._probing:
            if self._probe is not None:
                await self._probe.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection on which each statement commits by itself: for single reads.

        Raises:
            errors.Unavailable: the database is down.
        """
        with _database_errors():
            async with self._pool.connection() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction: committed at the end, rolled back on an exception.

        Raises:
            errors.Unavailable: the database is down. The outcome of a commit is unknown then.
            errors.Aborted: the transaction lost against another one.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def check(self) -> None:
        """Return if the database answers and is migrated.

        It asks on a connection of its own, so that a pool that is in full use is no outage.

        Raises:
            errors.Unavailable: it is not; the cause says why.
        """
        try:
            # One at a time, or two that find no connection would both make one.
            async with self._probing:
                await self._ask()
        except psycopg.errors.UndefinedTable as error:
            message = "the database has no tables: run ./bazelw run //migrations -- upgrade"
            raise errors.Unavailable("DATABASE_NOT_MIGRATED", message) from error

    async def _ask(self) -> None:
        with _database_errors():
            if self._probe is None or self._probe.closed:
                self._probe = await psycopg.AsyncConnection.connect(self._url, **_OPTIONS)
            await self._probe.execute(MIGRATED)


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
        message = "The change collided with another one. Try again."
        raise errors.Aborted("TRANSACTION_ABORTED", message) from error
    except psycopg.errors.QueryCanceled as error:
        raise errors.DeadlineExceeded("QUERY_CANCELED", "The query took too long.") from error
    except (psycopg.OperationalError, PoolTimeout) as error:
        message = "The database cannot be reached. Try again."
        raise errors.Unavailable("DATABASE_UNAVAILABLE", message) from error
