"""One PostgreSQL database: a bounded pool, transactions, and its failures as errors.

No SQL of any service lives here. READ COMMITTED throughout; what must not race takes row locks.
Every wait ends with the deadline of the call that is being served, or at a limit of its own.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import conninfo, waiting
from psycopg.abc import Params
from psycopg.pq import TransactionStatus
from psycopg.rows import args_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from chassis import call_context, errors

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CONNECTIONS = 10
"""How many connections a pool has at most, unless the settings say otherwise."""
CHECKOUT_SECONDS = 5.0
"""How long a call may wait for a connection, if its deadline does not come first."""
OUTAGE_CHECKOUT_SECONDS = 0.5
"""The same while the database is known to be down."""
WAITING_PER_CONNECTION = 100
"""How many calls may wait per connection of the pool; one more is refused at once."""
STATEMENT_SECONDS = 10.0
"""How long a statement may take, if the deadline of its call does not come first."""
CANCEL_SECONDS = 0.25
"""How long the server may take to cancel a statement before its connection is dropped."""
ROLLBACK_SECONDS = 0.25
"""The least time that a statement is given: a rollback runs after the deadline has passed."""
PROBE_SECONDS = 1.0
"""How long a probe may take, connecting included."""
RECONNECT_SECONDS = 0.5
POLL_SECONDS = 1.0
"""How long `Database.listen` waits for a notification at most."""
PROBE_QUERY: LiteralString = "SELECT version_num FROM alembic_version"

# A server for tests says so itself, by a setting of ours.
VOLATILE_SETTINGS: LiteralString = """
SELECT name FROM unnest(ARRAY['fsync', 'full_page_writes', 'synchronous_commit']) AS name
WHERE current_setting(name) = 'off'
AND current_setting('bazaar.allow_data_loss', true) IS DISTINCT FROM 'on'
"""

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


def _connection_options(url: str) -> dict[str, Any]:
    """Return the options of every connection; server options in the URL come last, and so win."""
    ours = " ".join(f"-c {name}={value}" for name, value in _SERVER_OPTIONS.items())
    theirs = conninfo.conninfo_to_dict(url).get("options") or ""
    return {**_OPTIONS, "options": f"{ours} {theirs}".rstrip()}


class _LimitedConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
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


class VolatileServerError(psycopg.OperationalError):
    """The server is set to lose commits in a crash."""


class Database:
    """A pool of connections. Create it in the process that uses it, after any fork."""

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        self._url = url
        self._options = _connection_options(url)
        self._pool = AsyncConnectionPool(
            url,
            connection_class=_LimitedConnection,
            kwargs=self._options,
            min_size=1,
            max_size=connections,
            max_waiting=WAITING_PER_CONNECTION * connections,
            # So short that the pauses between attempts have no time to grow.
            reconnect_timeout=RECONNECT_SECONDS,
            reconnect_failed=_connect_again,
            configure=_refuse_volatile,
            open=False,
        )
        self._probe: _LimitedConnection | None = None
        self._checking: asyncio.Task[errors.Unavailable | None] | None = None
        """The check in progress."""
        self._is_down = False
        """The last probe failed, and no connection was obtained since."""

    async def open(self) -> None:
        """Start connecting in the background, and retry for ever while the database is down."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()
        # Closing frees libpq's connection even under a running query: the probe ends first.
        if self._checking is not None:
            await asyncio.wait([self._checking])
        await self._drop_probe()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Obtain a connection in autocommit mode, for single statements.

        Raises:
            errors.Unavailable: the database is down, or too many calls wait for a connection.
            errors.DeadlineExceeded: a statement took longer than it may.
        """
        with _database_errors():
            at_most = OUTAGE_CHECKOUT_SECONDS if self._is_down else CHECKOUT_SECONDS
            limit = call_context.remaining_seconds(at_most)
            async with self._pool.connection(limit) as connection:
                self._is_down = False
                yield connection

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

    async def listen(self, channel: LiteralString) -> AsyncGenerator[None, None]:
        """Yield when a notification of a channel may have arrived, and every POLL_SECONDS.

        It has a connection of its own. Several notifications may be one.

        Raises:
            errors.Unavailable: the database is down.
        """
        with _database_errors():
            # Not a _LimitedConnection: most of its time, it waits for nothing in particular.
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
        """Check, within PROBE_SECONDS, that the database responds, is durable and was migrated.

        At which revision it is, is not compared. Concurrent checks are one, however many there are.

        The probe has a connection of its own, so that a pool whose connections are all in use does
        not look like an outage.

        Raises:
            errors.Unavailable: it does not respond, may lose data or is not migrated; the cause
                says which.
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
            self._probe = await _LimitedConnection.connect(self._url, **self._options)
            await _refuse_volatile(self._probe)
        await self._probe.execute(PROBE_QUERY)

    async def _drop_probe(self) -> None:
        if self._probe is not None:
            await self._probe.close()
            self._probe = None


async def _refuse_volatile(connection: Connection) -> None:
    """Refuse a server that may lose what it has committed.

    Raises:
        VolatileServerError: it may.
    """
    rows = await (await connection.execute(VOLATILE_SETTINGS)).fetchall()
    if rows:
        names = ", ".join(name for (name,) in rows)
        raise VolatileServerError(f"the server may lose commits: turn on {names}")


async def _connect_again(pool: AsyncConnectionPool[_LimitedConnection]) -> None:
    """Let a pool that has given up connect again.

    By itself it would do so only when it queues another call, and its queue may be full.
    """
    await pool.check()


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
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise _unavailable() from error


def _caused(fault: errors.Unavailable, cause: Exception) -> errors.Unavailable:
    """Return an error as `raise ... from` would raise it."""
    fault.__cause__ = cause
    return fault


def _unavailable() -> errors.Unavailable:
    message = "The database cannot be reached. Try again."
    return errors.Unavailable("DATABASE_UNAVAILABLE", message)
