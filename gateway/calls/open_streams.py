"""The streams that one process has open: how many there may be, for how long, and how they end."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from gateway.http.client_address import network_of
from gateway.http.exchange import Account
from gateway.http.problems import Problem, unavailable

HEARTBEAT_SECONDS = 15.0
"""The interval of heartbeats on a silent event stream (HTML Living Standard §9.2.7)."""


class Stream(Protocol):
    """A stream as far as it is ended from outside."""

    def stop_upload(self) -> None:
        """Take no more of the upload; requests that were taken still get their responses."""

    def end(self, problem: Problem) -> None:
        """End with a problem."""


@dataclass(slots=True, eq=False)
class OpenStreams:
    """The streams that are open, and whether more may be opened."""

    max_streams: int
    """How many may be open at once."""
    max_client_streams: int
    """How many of them may be of one client address, or of one account."""
    idle_seconds: float
    """How long there may be no activity: no response arrives or leaves, no request is passed on.

    In NDJSON and in a JSON array, clients and proxies cannot distinguish a service that has nothing
    to send from one that is stuck. An event stream has heartbeats, and each that the client takes
    is activity: a watch may be silent for days. A client that takes nothing loses a stream of any
    format.
    """
    drain_seconds: float
    """How long a stream may continue after the server begins to stop."""
    _streams: dict[Stream, list[str]] = field(default_factory=dict, init=False)
    """Whose they are."""
    _streams_of: Counter[str] = field(default_factory=Counter, init=False)
    _draining: bool = field(default=False, init=False)

    @property
    def heartbeat_seconds(self) -> float:
        """The interval of heartbeats, which is less than `idle_seconds`."""
        return min(HEARTBEAT_SECONDS, self.idle_seconds / 2)

    def add(self, stream: Stream, client: str, account: Account | None) -> None:
        """Count a stream of a client address, and of an account that is verified, as open.

        Raises:
            Problem: the server is stopping, or the limit of open streams is reached.
        """
        if self._draining:
            raise stopping()
        if len(self._streams) >= self.max_streams:
            detail = "The server has reached its limit of open streams."
            raise unavailable(detail, "TOO_MANY_STREAMS", retry_seconds=5)
        owners = [network_of(client)]
        if account is not None and account.is_verified:
            owners.append(account.name)
        if any(self._streams_of[owner] >= self.max_client_streams for owner in owners):
            detail = "The client has reached its limit of open streams."
            raise unavailable(detail, "TOO_MANY_STREAMS", retry_seconds=5)
        self._streams[stream] = owners
        self._streams_of.update(owners)

    def remove(self, stream: Stream) -> None:
        """Count a stream as closed."""
        for owner in self._streams.pop(stream, ()):
            self._streams_of[owner] -= 1
            if not self._streams_of[owner]:
                del self._streams_of[owner]

    def drain(self) -> None:
        """Open no more streams, take no more of any upload, and end what is left after a while."""
        self._draining = True
        for stream in list(self._streams):
            stream.stop_upload()
        asyncio.get_running_loop().call_later(self.drain_seconds, self._end_all)

    def _end_all(self) -> None:
        for stream in list(self._streams):
            stream.end(stopping())


def stopping() -> Problem:
    """Return the problem of a stream that ends because the server does."""
    detail = "The server is stopping. Requests with a response took effect; send the others again."
    return unavailable(detail, "SERVER_STOPPING", retry_seconds=1)
