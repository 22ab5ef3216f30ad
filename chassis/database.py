"""One PostgreSQL database: connections, transactions, and its failures as errors.

No SQL of any service lives here. READ COMMITTED throughout; what must not race takes row locks.
Every wait ends with the deadline of the call that is being served, or at a limit of its own.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Concatenate, LiteralString, ParamSpec, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.abc import Params
from psycopg.rows import args_row
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis import call_context, errors
from chassis.connection_pool import (
    STATEMENT_SECONDS,
    LimitedConnection,
    connection_options,
    make_pool,
)
from chassis.read_replica import ReadReplica, ReplicaError

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CONNECTIONS = 10
"""How many connections a pool has at most, unless the settings say otherwise."""
CHECKOUT_SECONDS = 5.0
"""How long a call may wait for a connection, if its deadline does not come first."""
OUTAGE_CHECKOUT_SECONDS = 0.5
"""The same while the database is known to be down."""
PROBE_SECONDS = 1.0
"""How long a probe may take, connecting included."""
POLL_SECONDS = 1.0
"""How long `Database.listen` waits for a notification at most."""
PROBE_QUERY: LiteralString = (
    "SELECT version_num, current_setting('transaction_read_only') FROM alembic_version"
)

# A server for tests says so itself, by a setting of ours.
VOLATILE_SETTINGS: LiteralString = """
SELECT name FROM unnest(ARRAY['fsync', 'full_page_writes', 'synchronous_commit']) AS name
WHERE current_setting(name) = 'off'
AND current_setting('bazaar.allow_data_loss', true) IS DISTINCT FROM 'on'
"""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Row = TypeVar("Row")


async def fetch(
    connection: Connection,
    make_row: Callable[..., Row],
    query: LiteralString,
    parameters: Params,
) -> list[Row]:
    """Execute a query; return what `make_row` returns for the columns of each row.

    Results are binary, because ids, numbers and times are then parsed faster than as text.
    """
    cursor = connection.cursor(binary=True, row_factory=args_row(make_row))
    await cursor.execute(query, parameters)
    return await cursor.fetchall()


class VolatileServerError(psycopg.OperationalError):
    """The server is set to lose commits in a crash."""


class Database:
    """A pool of connections. Create it in the process that uses it, after any fork.

    If there is the URL of a replica, `read` uses as many connections to that.
    """

    def __init__(
        self, url: str, *, connections: int = CONNECTIONS, replica_url: str | None = None
    ) -> None:
        self._url = _for_writes(url)
        self._options = connection_options(url)
        self._pool = make_pool(self._url, connections, _refuse_volatile)
        self._replica = (
            ReadReplica(replica_url, self._url, connections=connections) if replica_url else None
        )
        self._probe: LimitedConnection | None = None
        self._checking: asyncio.Task[errors.Unavailable | None] | None = None
        """The check in progress."""
        self._is_down = False
        """The last probe failed, and no connection was obtained since."""

    async def open(self) -> None:
        """Start connecting in the background, and retry for ever while the database is down."""
        await self._pool.open(wait=False)
        if self._replica is not None:
            await self._replica.open()

    async def close(self) -> None:
        """Close the connections."""
        if self._replica is not None:
            await self._replica.close()
        await self._pool.close()
        # Closing frees libpq's connection even under a running query: the probe ends first.
        if self._checking is not None:
            await asyncio.wait([self._checking])
        await self._drop_probe()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Obtain a connection in autocommit mode, for single statements.

        Raises:
            errors.Unavailable: the database is down or takes no writes, or too many calls wait for
                a connection.
            errors.DeadlineExceeded: a statement took longer than it may.
        """
        with _database_errors():
            at_most = OUTAGE_CHECKOUT_SECONDS if self._is_down else CHECKOUT_SECONDS
            limit = call_context.remaining_seconds(at_most)
            async with self._pool.connection(limit) as connection:
                self._is_down = False
                try:
                    yield connection
                except psycopg.errors.ReadOnlySqlTransaction:
                    await connection.close()
                    raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Obtain a connection in a transaction: committed at the end, rolled back on an exception.

        Raises:
            errors.Unavailable: as for `connection`. Whether the transaction was committed is
                unknown then.
            errors.DeadlineExceeded: as for `connection`.
            errors.Aborted: the transaction lost against another one.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def read(
        self,
        query: Callable[Concatenate[Connection, Parameters], Awaitable[Result]],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Return what `query` returns, which is called with a connection and the arguments.

        It may be a connection to a replica, and a second one to the primary if the first one fails.
        All that was acknowledged before is read. No write may depend on the result: it locks
        nothing.

        Raises:
            errors.Unavailable: as for `connection`.
            errors.DeadlineExceeded: as for `connection`.
        """
        if self._replica is not None:
            with suppress(ReplicaError):
                return await self._replica.read(query, *args, **kwargs)
        async with self.connection() as connection:
            return await query(connection, *args, **kwargs)

    async def listen(self, channel: LiteralString) -> AsyncGenerator[None, None]:
        """Yield when a notification of a channel may have arrived, and every POLL_SECONDS.

        It has a connection of its own. Several notifications may be one.

        Raises:
            errors.Unavailable: the database is down.
        """
        with _database_errors():
            # Not a LimitedConnection: most of its time, it waits for nothing in particular.
            connection = await psycopg.AsyncConnection.connect(self._url, **self._options)
            try:
                async with asyncio.timeout(STATEMENT_SECONDS):
                    await connection.execute(f"LISTEN {channel}")
                while True:
                    yield
                    async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                        pass
            except TimeoutError as error:
                raise _unavailable() from error
            finally:
                await connection.close()

    async def check(self) -> None:
        """Check, within PROBE_SECONDS, that the database takes writes, is durable and was migrated.

        At which revision it is, is not compared. Concurrent checks are one, however many there are.

        The probe has a connection of its own, so that a pool whose connections are all in use does
        not look like an outage.

        Raises:
            errors.Unavailable: it does not respond, takes no writes, may lose data or is not
                migrated; the cause says which.
        """
        if self._checking is None or self._checking.done():
            # Neither the deadline nor the end of one caller is that of the others.
            self._checking = asyncio.create_task(self._find_fault(), context=contextvars.Context())
        fault = await asyncio.shield(self._checking)
        if fault is not None:
            raise fault.with_traceback(None)

    async def _find_fault(self) -> errors.Unavailable | None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._run_probe()
        except psycopg.errors.UndefinedTable as error:
            message = "the database has no tables: run ./bazelw run //migrations -- upgrade"
            return _caused(errors.Unavailable("DATABASE_NOT_MIGRATED", message), error)
        except VolatileServerError as error:
            await self._drop_probe()
            return _caused(errors.Unavailable("DATABASE_NOT_DURABLE", str(error)), error)
        except (psycopg.Error, TimeoutError) as error:
            self._is_down = True
            await self._drop_probe()
            # The others may be dead too, and a call would only find out at its deadline.
            await self._pool.drain()
            return _caused(_unavailable(), error)
        self._is_down = False
        return None

    async def _run_probe(self) -> None:
        if self._probe is None or self._probe.closed:
            self._probe = await LimitedConnection.connect(self._url, **self._options)
            await _refuse_volatile(self._probe)
        row = await (await self._probe.execute(PROBE_QUERY)).fetchone()
        if row is not None and row[1] == "on":
            raise psycopg.OperationalError("the server takes no writes")

    async def _drop_probe(self) -> None:
        if self._probe is not None:
            await self._probe.close()
            self._probe = None


def _for_writes(url: str) -> str:
    """Return the URL of a server that takes writes, unless the URL itself says which it is.

    While a database fails over, its name may lead to another. A connection to that would last long
    after the name leads elsewhere.
    """
    if "target_session_attrs" in conninfo.conninfo_to_dict(url):
        return url
    return conninfo.make_conninfo(url, target_session_attrs="read-write")


async def _refuse_volatile(connection: Connection) -> None:
    """Refuse a server that may lose what it has committed.

    Raises:
        VolatileServerError: it may.
    """
    rows = await (await connection.execute(VOLATILE_SETTINGS)).fetchall()
    if rows:
        names = ", ".join(name for (name,) in rows)
        raise VolatileServerError(f"the server may lose commits: turn on {names}")


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
        message = "The change conflicts with a concurrent one. Try again."
        raise errors.Aborted("TRANSACTION_ABORTED", message) from error
    except psycopg.errors.QueryCanceled as error:
        raise errors.DeadlineExceeded("QUERY_CANCELED", "The query took too long.") from error
    except TooManyRequests as error:
        message = "Too many calls wait for the database. Try again."
        raise errors.Unavailable("DATABASE_BUSY", message) from error
    except (
        psycopg.OperationalError,
        psycopg.errors.ReadOnlySqlTransaction,
        PoolTimeout,
    ) as error:
        raise _unavailable() from error


def _caused(fault: errors.Unavailable, cause: Exception) -> errors.Unavailable:
    """Return an error as `raise ... from` would raise it."""
    fault.__cause__ = cause
    return fault


def _unavailable() -> errors.Unavailable:
    message = "The database cannot be reached. Try again."
    return errors.Unavailable("DATABASE_UNAVAILABLE", message)
