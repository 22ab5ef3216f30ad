"""The streams that one process has open: how many there may be, how long, and how they end.

What a stream does is not known here.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from gateway.http.problems import Problem

HEARTBEAT_SECONDS = 15.0
"""How often an event stream without events shows that it lives (HTML Living Standard §9.2.7)."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds on the streams of one process."""

    max_streams: int
    """How many may be open at once: each holds memory that its client decides how to use."""
    idle_seconds: float
    """How long nothing may move: no answer comes, none leaves, nothing of an upload is passed on.

    In NDJSON and in an array silence looks the same whether a service has nothing to say or is
    stuck, to the client and to every proxy between, so it is bounded. An event stream has
    heartbeats instead, and each that the client takes is a move: a watch may be silent for days.
    A client that takes nothing more, not even heartbeats, loses a stream of any form.
    """
    drain_seconds: float
    """How long a stream may go on when the server is told to stop."""

    @property
    def heartbeat_seconds(self) -> float:
        """How long an event stream may be silent; less than `idle_seconds`."""
        return min(HEARTBEAT_SECONDS, self.idle_seconds / 2)


class Stream(Protocol):
    """What can be told to a stream."""

    def stop_upload(self) -> None:
        """Take no more of the upload; what was taken is still answered."""

    def end(self, problem: Problem) -> None:
        """End with a problem."""


class OpenStreams:
    """All streams that are open now."""

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self._streams: set[Stream] = set()
        self._draining = False

    def add(self, stream: Stream) -> None:
        """Count a stream as open.

        Raises:
            Problem: the server is stopping, or has as many as it may have.
        """
        if self._draining:
            raise stopping()
        if len(self._streams) >= self.limits.max_streams:
            raise _too_many()
        self._streams.add(stream)

    def remove(self, stream: Stream) -> None:
        """Count a stream as closed."""
        self._streams.discard(stream)

    def drain(self) -> None:
        """Take no more of any upload, and give what is under way some time to end."""
        self._draining = True
        for stream in list(self._streams):
            stream.stop_upload()
        asyncio.get_running_loop().call_later(self.limits.drain_seconds, self._end_all)

    def _end_all(self) -> None:
        for stream in list(self._streams):
            stream.end(stopping())


def stopping() -> Problem:
    """Return the problem of a stream that ends because the server does."""
    detail = "The server is stopping. What was answered stands; the rest may be sent again."
    return Problem(503, "UNAVAILABLE", detail, "SERVER_STOPPING", headers={"Retry-After": "1"})


def _too_many() -> Problem:
    detail = "The server has as many streams open as it may have."
    return Problem(503, "UNAVAILABLE", detail, "TOO_MANY_STREAMS", headers={"Retry-After": "5"})
