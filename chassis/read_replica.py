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
from contextlib import asynccontextmanager
from typing import Any, Concatenate, LiteralString, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import psycopg

from chassis import call_context, log
from chassis.connection_pool import LimitedConnection, connection_options, make_pool
from chassis.supervision import BackgroundTask

CATCH_UP_SECONDS = 0.1
"""How far a replica may lag behind: a read waits for it no longer."""
CHECKOUT_SECONDS = 0.1
"""How long a read waits for a connection to the replica."""
READ_SECONDS = 2.0
"""How long a read may take there, if half of the time to its deadline is not shorter."""
PROBE_INTERVAL_SECONDS = 0.5
"""How often the replica is probed: how soon it is used again."""
POLL_SECONDS = 0.001
"""The first of the pauses after which a replica that lags is asked again; each is doubled."""

# The timeline of the end of the log is in the names of its files.
_WRITTEN: LiteralString = """
SELECT (SELECT system_identifier FROM pg_control_system()),
    ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer,
    (pg_current_wal_flush_lsn() - '0/0')::bigint
"""
# A replica writes down which timeline it follows a while after it has begun to.
_REPLAYED: LiteralString = """
SELECT (SELECT system_identifier FROM pg_control_system()),
    greatest((SELECT timeline_id FROM pg_control_checkpoint()),
             (SELECT min_recovery_end_timeline FROM pg_control_recovery())),
    (pg_last_wal_replay_lsn() - '0/0')::bigint
WHERE pg_is_in_recovery()
"""

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
                async with self._connection() as connection:
                    return await query(connection, *args, **kwargs)
        except psycopg.OperationalError as error:
            self._leave_out(error)
            raise ReplicaError("the replica cannot serve the read") from error

    async def _probe(self) -> None:
        try:
            with call_context.time_limit(READ_SECONDS):
                async with self._connection():
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
    async def _connection(self) -> AsyncIterator[LimitedConnection]:
        """Obtain a connection to a replica that has replayed all that is acknowledged by now."""
        end = await self._log_end.find()
        async with self._pool.connection(CHECKOUT_SECONDS) as connection:
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
                replayed = await _find_position(connection, _REPLAYED)
                self._replayed[connection] = replayed


def _check_lag(replayed: _Position, end: _Position) -> None:
    """Check that a replica which is not up to the end yet may still get there in time."""
    if replayed[:2] != end[:2]:
        raise ReplicaError("the replica follows another server, or another timeline of it")
    if not call_context.remaining_seconds(CATCH_UP_SECONDS):
        raise ReplicaError(f"the replica lags {end.lsn - replayed.lsn} bytes behind")
