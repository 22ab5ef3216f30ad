"""Follows the sessions that are ended, for all watchers of a process.

One connection listens for all of them. What has changed is read from the sessions: a notification
may be lost, or may come before what it announces can be read.
"""

import asyncio
import contextlib
import datetime as dt
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence

from chassis import errors, tokens
from chassis.database import POLL_SECONDS, Database
from chassis.supervision import BackgroundTask
from services.user import session_repository
from services.user.session_repository import Revocation

WINDOW = dt.timedelta(seconds=tokens.REVOCATION_SECONDS)
"""How long after its end a session is listed: until its access tokens have expired everywhere, on
clocks that differ, too."""
OVERLAP = dt.timedelta(seconds=60)
"""How much is read again each time. A transaction that ends sessions, and is committed after others
that began later, is shorter than that."""
MAX_REVOCATIONS = 10_000
"""How many are read, and yielded, at once."""
MAX_QUEUED = 100
"""How many readings a watcher may be behind before it has to start again."""


class RevocationLog:
    """Tells watchers which sessions were ended."""

    def __init__(self, database: Database, draining: asyncio.Event) -> None:
        self._database = database
        self._draining = draining
        self._watchers: set[asyncio.Queue[Sequence[Revocation]]] = set()
        self._behind: set[asyncio.Queue[Sequence[Revocation]]] = set()
        """The watchers that were too slow."""
        self._told: frozenset[uuid.UUID] = frozenset()
        """The sessions that were read last."""
        self._read_at: float | None = None
        """When that was, on the clock of `time.monotonic`."""

    def task(self) -> BackgroundTask:
        """Make the task that follows the sessions."""
        return BackgroundTask("follow_revocations", self._follow, 0.0)

    async def watch(self) -> AsyncGenerator[Sequence[Revocation], None]:
        """Yield the sessions that ended within WINDOW, perhaps none, and then more as they end.

        A session may come twice. Something comes every POLL_SECONDS, by which a watcher knows that
        it is not cut off.

        Raises:
            errors.Unavailable: the server is stopping, the database is down, or the watcher is too
                slow.
        """
        with self._watching() as queue:
            last: Revocation | None = None
            found = await self._read(WINDOW, None)
            yield found
            while len(found) == MAX_REVOCATIONS:
                last = found[-1]
                found = await self._read(WINDOW, last)
                yield found
            while True:
                yield await self._next(queue)

    async def _read(self, age: dt.timedelta, after: Revocation | None) -> Sequence[Revocation]:
        async with self._database.connection() as connection:
            return await session_repository.list_revocations(
                connection, age, after, MAX_REVOCATIONS
            )

    async def _next(self, queue: asyncio.Queue[Sequence[Revocation]]) -> Sequence[Revocation]:
        if self._draining.is_set() or queue in self._behind:
            message = "Watch again, with another server if this one is stopping."
            raise errors.Unavailable("WATCH_AGAIN", message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                return await queue.get()
        return ()

    @contextlib.contextmanager
    def _watching(self) -> Iterator[asyncio.Queue[Sequence[Revocation]]]:
        queue: asyncio.Queue[Sequence[Revocation]] = asyncio.Queue(MAX_QUEUED)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.remove(queue)
            self._behind.discard(queue)

    async def _follow(self) -> None:
        notifications = self._database.listen(session_repository.CHANNEL)
        async with contextlib.aclosing(notifications):
            async for _ in notifications:
                await self._read_new()

    async def _read_new(self) -> None:
        """Read what has ended since the last time, and tell watchers what they were not told."""
        now = time.monotonic()
        since = WINDOW if self._read_at is None else dt.timedelta(seconds=now - self._read_at)
        told: set[uuid.UUID] = set()
        last: Revocation | None = None
        found: Sequence[Revocation] | None = None
        while found is None or len(found) == MAX_REVOCATIONS:
            found = await self._read(min(since + OVERLAP, WINDOW), last)
            if found:
                last = found[-1]
                self._tell([each for each in found if each.session_id not in self._told])
            told.update(each.session_id for each in found)
        self._told, self._read_at = frozenset(told), now

    def _tell(self, revocations: Sequence[Revocation]) -> None:
        if not revocations:
            return
        for queue in self._watchers:
            try:
                queue.put_nowait(revocations)
            except asyncio.QueueFull:
                self._behind.add(queue)
