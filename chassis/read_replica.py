"""A streaming replica of a database, whose reads miss nothing that was acknowledged before them.

Before a read, the primary is asked for the end of its write-ahead log (WAL) on disk, in which is
every commit that any client has seen acknowledged, through whichever process. The replica serves
the read once it has replayed as much. So nobody has to hand a token on, and none can be forged.

It costs the primary one short query at a time for each process, which all reads share that wait for
it, and a read a round trip. Where the replica lags, is gone, or follows another server or timeline,
the primary serves the reads.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Concatenate, LiteralString, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import psycopg

from chassis import call_context, log
from chassis.connection_pool import LimitedConnection, connection_options, make_pool
from chassis.supervision import BackgroundTask

QUERY_SECONDS = 0.5
"""How long the primary may take to tell where its log ends, connecting included."""
CATCH_UP_SECONDS = 0.1
"""How far a replica may lag behind: a read waits for it no longer."""
CHECKOUT_SECONDS = 0.5
"""How long a read waits for a connection to the replica."""
READ_SECONDS = 2.0
"""How long a read may take there, if half of the time to its deadline is not shorter."""
PROBE_INTERVAL_SECONDS = 0.5
"""How often the replica is probed: how soon it is used again."""
POLL_SECONDS = 0.001
"""The first of the pauses after which a replica that lags is asked again; each is doubled."""

# The timeline of the end of the log is in the names of its files. The log of a server that takes no
# writes may go on elsewhere: it has failed over.
LOG_END: LiteralString = """
SELECT (SELECT system_identifier FROM pg_control_system()),
    ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer,
    (pg_current_wal_flush_lsn() - '0/0')::bigint
WHERE current_setting('transaction_read_only') = 'off'
"""
# A replica writes down which timeline it follows a while after it has begun to.
REPLAYED: LiteralString = """
SELECT (SELECT system_identifier FROM pg_control_system()),
    greatest((SELECT timeline_id FROM pg_control_checkpoint()),
             (SELECT min_recovery_end_timeline FROM pg_control_recovery())),
    (pg_last_wal_replay_lsn() - '0/0')::bigint
WHERE pg_is_in_recovery()
"""

_CANCELLATIONS = (psycopg.errors.QueryCanceled, psycopg.errors.SerializationFailure)
"""Errors of a query that was too slow, or in the way of the replay, on a replica that is well. They
do not turn it off: clients choose their queries and deadlines."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class ReplicaError(psycopg.OperationalError):
    """The replica cannot serve a read, and the primary has to."""


class _Position(NamedTuple):
    """A position in the log of a server."""

    system_identifier: int
    timeline: int
    lsn: int

    def includes(self, other: "_Position") -> bool:
        """Return whether this position is not before another one, and in the same log."""
        return self[:2] == other[:2] and self.lsn >= other.lsn


class _LogEnd:
    """Where the log of the primary ends on disk."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: LimitedConnection | None = None
        self._in_use = asyncio.Lock()
        self._next: asyncio.Task[_Position | None] | None = None
        """The query that has not begun yet."""

    async def find(self) -> _Position:
        """Ask the primary. Concurrent callers share a query, which begins after they have called.

        Raises:
            ReplicaError: the primary does not respond, or not before the deadline.
        """
        if self._next is None:
            # Neither the deadline nor the end of one caller is that of the others.
            self._next = asyncio.create_task(self._query(), context=contextvars.Context())
        end = None
        # The query before it may have to end first.
        with suppress(TimeoutError):
            async with asyncio.timeout(call_context.remaining_seconds(2 * QUERY_SECONDS)):
                end = await asyncio.shield(self._next)
        if end is None:
            raise ReplicaError("the primary does not tell where its log ends")
        return end

    async def close(self) -> None:
        """Close the connection, once nobody uses it."""
        if self._next is not None:
            await asyncio.wait([self._next])
        async with self._in_use:
            await self._disconnect()

    async def _query(self) -> _Position | None:
        async with self._in_use:
            # Who calls from here on may have seen a commit that this query does not.
            self._next = None
            try:
                async with asyncio.timeout(QUERY_SECONDS):
                    return await _find_position(await self._connect(), LOG_END)
            except (psycopg.OperationalError, TimeoutError):
                await self._disconnect()
                return None

    async def _connect(self) -> LimitedConnection:
        if self._connection is None:
            options = connection_options(self._url)
            self._connection = await LimitedConnection.connect(self._url, **options)
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


class ReadReplica:
    """Reads from a replica while it keeps up with the primary."""

    def __init__(self, url: str, primary_url: str, *, connections: int) -> None:
        self._pool = make_pool(url, connections)
        self._log_end = _LogEnd(primary_url)
        self._replayed: WeakKeyDictionary[LimitedConnection, _Position] = WeakKeyDictionary()
        """How far the server of a connection was at least; it never goes back."""
        self._is_used: bool | None = None
        """None until the first probe."""
        self._probing = BackgroundTask("probe_replica", self._probe, PROBE_INTERVAL_SECONDS)
        self._log = log.logger()

    async def open(self) -> None:
        """Start to connect and to probe in the background."""
        await self._pool.open(wait=False)
        self._probing.start()

    async def close(self) -> None:
        """Close the connections."""
        await self._probing.stop()
        await self._pool.close()
        await self._log_end.close()

    async def read(
        self,
        query: Callable[Concatenate[LimitedConnection, Parameters], Awaitable[Result]],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Return what `query` returns, which is called with a connection and the arguments.

        Raises:
            ReplicaError: the primary has to serve the read.
        """
        if not self._is_used:
            raise ReplicaError("the replica is not used")
        try:
            with call_context.time_limit(call_context.remaining_seconds(2 * READ_SECONDS) / 2):
                async with self._connection(CHECKOUT_SECONDS) as connection:
                    return await query(connection, *args, **kwargs)
        except psycopg.OperationalError as error:
            if not isinstance(error, _CANCELLATIONS):
                self._leave_out(error)
            raise ReplicaError("the replica cannot serve the read") from error

    async def _probe(self) -> None:
        try:
            with call_context.time_limit(READ_SECONDS):
                async with self._connection(READ_SECONDS):
                    pass
        except psycopg.OperationalError as error:
            self._leave_out(error)
            # The other connections may be dead too.
            await self._pool.drain()
        else:
            if not self._is_used:
                self._log.info("replica_used")
            self._is_used = True

    def _leave_out(self, error: psycopg.OperationalError) -> None:
        if self._is_used is not False:
            self._log.warning("replica_left_out", cause=str(error))
        self._is_used = False

    @asynccontextmanager
    async def _connection(self, checkout_seconds: float) -> AsyncIterator[LimitedConnection]:
        """Obtain a connection to a replica that has replayed all that is acknowledged by now."""
        end = await self._log_end.find()
        async with self._pool.connection(checkout_seconds) as connection:
            await self._catch_up(connection, end)
            yield connection

    async def _catch_up(self, connection: LimitedConnection, end: _Position) -> None:
        """Return when the server of a connection has replayed the log up to its end.

        It is the server of this connection that counts: the URL may be that of several replicas.

        Raises:
            ReplicaError: it has not within CATCH_UP_SECONDS, or never will.
        """
        replayed = self._replayed.get(connection)
        pause_seconds = POLL_SECONDS
        with call_context.time_limit(CATCH_UP_SECONDS):
            while replayed is None or not replayed.includes(end):
                if replayed is not None:
                    _check_lag(replayed, end)
                    await asyncio.sleep(pause_seconds)
                    pause_seconds *= 2
                replayed = await _find_position(connection, REPLAYED)
                self._replayed[connection] = replayed


async def _find_position(connection: LimitedConnection, query: LiteralString) -> _Position:
    row = await (await connection.execute(query)).fetchone()
    if row is None:
        raise ReplicaError("the server is not a replica")
    return _Position(*row)


def _check_lag(replayed: _Position, end: _Position) -> None:
    """Check that a replica which is not up to the end yet may still get there in time."""
    if replayed[:2] != end[:2]:
        raise ReplicaError("the replica follows another server, or another timeline of it")
    if not call_context.remaining_seconds(CATCH_UP_SECONDS):
        raise ReplicaError(f"the replica lags {end.lsn - replayed.lsn} bytes behind")
