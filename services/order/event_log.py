"""Follows the log of events, as it grows, for all watchers of a process.

One connection listens for all of them. What has changed is read from the log: a notification may
be lost, or may come before what it announces can be read.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

from chassis import errors
from chassis.database import Database
from chassis.supervision import BackgroundTask
from services.order import event_repository
from services.order.event import Event, Position

ANNOUNCEMENT_SECONDS = 0.02
"""How often a process announces changes at most: a NOTIFY per commit would serialize commits."""
MAX_WAIT_SECONDS = 60.0
"""How long a watcher waits before it reads again without having been woken."""
MAX_EVENTS = 500
"""How many events are read at once."""

_CHANNEL = "order_events"


class EventLog:
    """Wakes the watchers of orders when events may have been added."""

    def __init__(self, database: Database, draining: asyncio.Event) -> None:
        self._database = database
        self._draining = draining
        self._changed = asyncio.Event()
        self._watchers: dict[uuid.UUID | None, set[asyncio.Event]] = {}
        """What wakes the watchers of each order; None has those of all orders."""
        self._end: Position | None = None
        """How far the log was read; None while nobody watches."""
        self._page: tuple[Position, Sequence[Event]] | None = None
        """The newest events, and the position before them, for all watchers that are there."""

    def tasks(self) -> list[BackgroundTask]:
        """Make the tasks that announce changes to all processes, and that wake watchers."""
        return [
            BackgroundTask("announce_events", self._announce, ANNOUNCEMENT_SECONDS),
            BackgroundTask("follow_events", self._follow, 0.0),
        ]

    def note_change(self) -> None:
        """Have watchers look for new events, which have been committed; returns at once."""
        self._changed.set()

    async def watch_order(
        self, order_id: uuid.UUID, after_version: int
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the events of an order that follow a version, now and whenever there are more.

        Raises:
            errors.Unavailable: the server is stopping, or the database is down.
        """
        with self._watching(order_id) as wake:
            while True:
                wake.clear()
                async with self._database.connection() as connection:
                    events = await event_repository.list_of_order(
                        connection, order_id, after_version, MAX_EVENTS
                    )
                if events:
                    after_version = events[-1].version
                    yield events
                if len(events) < MAX_EVENTS:
                    await self._wait(wake)

    async def watch_all(self, after: Position) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the events of all orders that follow a position, now and whenever there are more.

        They are in commit order.

        Raises:
            errors.Unavailable: the server is stopping, or the database is down.
        """
        with self._watching(None) as wake:
            while True:
                wake.clear()
                events = await self._read_all(after)
                if events:
                    after = events[-1].position
                    yield events
                if len(events) < MAX_EVENTS:
                    await self._wait(wake)

    async def _read_all(self, after: Position) -> Sequence[Event]:
        if self._page is not None and self._page[0] == after:
            return self._page[1]
        if self._end == after:
            return ()
        async with self._database.connection() as connection:
            return await event_repository.list_all(connection, after, MAX_EVENTS)

    @contextlib.contextmanager
    def _watching(self, key: uuid.UUID | None) -> Iterator[asyncio.Event]:
        wake = asyncio.Event()
        watchers = self._watchers.setdefault(key, set())
        watchers.add(wake)
        try:
            yield wake
        finally:
            watchers.remove(wake)
            if not watchers:
                del self._watchers[key]

    async def _wait(self, wake: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await wake.wait()
        if self._draining.is_set():
            message = "The server is stopping: continue with another server."
            raise errors.Unavailable("SERVER_STOPPING", message)

    async def _announce(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        async with self._database.connection() as connection:
            await connection.execute(f"NOTIFY {_CHANNEL}")

    async def _follow(self) -> None:
        try:
            async with contextlib.aclosing(self._database.listen(_CHANNEL)) as notifications:
                async for _ in notifications:
                    await self._read_new()
        finally:
            self._wake(self._watchers)

    async def _read_new(self) -> None:
        """Read the log to its end, and wake the watchers of the orders in it."""
        if not self._watchers:
            self._end = self._page = None
            return
        async with self._database.connection() as connection:
            if self._end is None:
                self._end = await event_repository.find_end(connection)
                self._wake(self._watchers)
                return
            events: Sequence[Event] | None = None
            while events is None or len(events) == MAX_EVENTS:
                events = await event_repository.list_all(connection, self._end, MAX_EVENTS)
                if events:
                    self._page = self._end, events
                    self._end = events[-1].position
                    self._wake([None, *{event.order_id for event in events}])
            # The watchers of an order need not wait for transactions of others.
            self._wake(await event_repository.find_early(connection, self._end, MAX_EVENTS))

    def _wake(self, keys: Iterable[uuid.UUID | None]) -> None:
        for key in keys:
            for wake in self._watchers.get(key, ()):
                wake.set()
