"""A load of requests over many connections: as much as a server takes, or at a fixed rate.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import urlsplit

_TICK_SECONDS = 0.005
_HEAD = re.compile(rb"HTTP/1\.1 ([0-9]{3}) .*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)


@dataclass
class Outcome:
    """What became of the requests of some time."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    """How many responses had each status; 0 stands for a connection that was lost."""
    seconds_by_status: dict[int, list[float]] = field(default_factory=dict)
    sent: int = 0
    unsent: int = 0
    """How many requests found all connections in use, and were not sent."""

    def __add__(self, other: "Outcome") -> "Outcome":
        total = Outcome(self.seconds + other.seconds, self.statuses + other.statuses)
        total.sent = self.sent + other.sent
        total.unsent = self.unsent + other.unsent
        for status in total.statuses:
            of_both = (each.seconds_by_status.get(status, []) for each in (self, other))
            total.seconds_by_status[status] = [*chain.from_iterable(of_both)]
        return total

    def note(self, status: int, seconds: float) -> None:
        """Count a response."""
        self.statuses[status] += 1
        self.seconds_by_status.setdefault(status, []).append(seconds)

    def rate(self, status: int) -> float:
        """Return how many responses with a status came per second."""
        return self.statuses[status] / self.seconds

    def quantile(self, status: int, share: float) -> float:
        """Return how long responses with a status took, in seconds; 0.5 for the median."""
        found = sorted(self.seconds_by_status.get(status, [0.0]))
        return found[min(len(found) - 1, int(share * len(found)))]


class Load:
    """Connections to a server, each of which has one request at a time."""

    def __init__(self, url: str, request: bytes) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or 0)
        self._request = request
        self._idle: deque[_Connection] = deque()
        self._connections: set[_Connection] = set()
        self._closed = False
        self._outcome = Outcome(1)
        self._repeats = False

    async def open(self, connections: int) -> None:
        """Open connections."""
        await asyncio.gather(*(self._connect() for _ in range(connections)))

    async def saturate(self, seconds: float) -> Outcome:
        """Send a request on each connection whenever the response to the one before is there."""
        self._outcome, self._repeats = Outcome(seconds), True
        for connection in list(self._idle):
            connection.send(self._request)
        self._idle.clear()
        await asyncio.sleep(seconds)
        self._repeats = False
        return await self._finish()

    async def offer(self, rate: float, seconds: float) -> Outcome:
        """Send requests at a rate per second, whatever becomes of those before."""
        self._outcome = Outcome(seconds)
        begin, due, passed = time.perf_counter(), 0, 0.0
        while passed < seconds:
            await asyncio.sleep(_TICK_SECONDS)
            passed = min(seconds, time.perf_counter() - begin)
            self._send(int(rate * passed) - due)
            due = int(rate * passed)
        return await self._finish()

    def _send(self, count: int) -> None:
        """Send requests that are due, as far as there are connections."""
        sent = min(count, len(self._idle))
        for _ in range(sent):
            self._idle.popleft().send(self._request)
        self._outcome.sent += sent
        self._outcome.unsent += count - sent

    async def _finish(self) -> Outcome:
        outcome, self._outcome = self._outcome, Outcome(1)
        await asyncio.sleep(0.5)
        return outcome

    def close(self) -> None:
        """Close the connections; nothing is sent any more."""
        self._closed = True
        for connection in self._connections:
            connection.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._take), *self._address
        )
        self._connections.add(connection)
        self._idle.append(connection)

    def _take(self, connection: "_Connection", status: int, seconds: float) -> None:
        if self._closed:
            return
        self._outcome.note(status, seconds)
        if status == 0:
            self._connections.discard(connection)
            self._reconnecting = asyncio.ensure_future(self._connect())
        elif self._repeats:
            connection.send(self._request)
        else:
            self._idle.append(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, done: Callable[["_Connection", int, float], None]) -> None:
        self._done = done
        self._transport: asyncio.Transport
        self._received = b""
        self._begin = 0.0

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        self._transport = transport

    def send(self, request: bytes) -> None:
        self._begin = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = _HEAD.match(self._received)
        if head is None:
            return
        length = _LENGTH.search(head[0])
        if len(self._received) < head.end() + (int(length[1]) if length else 0):
            return
        self._received = b""
        self._done(self, int(head[1]), time.perf_counter() - self._begin)

    def connection_lost(self, _: Exception | None) -> None:
        self._done(self, 0, time.perf_counter() - self._begin)
