"""Sessions that ended before their access tokens expired."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from chassis import errors

LEARN_SECONDS = 3.0
"""How long a call waits until it is known which sessions have ended."""


class Revocations:
    """The sessions whose tokens are no longer valid, for as long as one may be unexpired.

    `retention_seconds` is how long that is. No token can be trusted until `known` is set.
    """

    def __init__(self, retention_seconds: float) -> None:
        self._retention_seconds = retention_seconds
        self.known = asyncio.Event()
        """Set when the sessions that ended before this process began are among them."""
        self._times: dict[uuid.UUID, float] = {}
        """When each session was revoked, oldest first, on the clock of `time.monotonic`."""
        self._streams: dict[uuid.UUID, set[asyncio.Timeout]] = {}

    async def wait_until_known(self) -> None:
        """Wait until the sessions that ended before are known.

        Raises:
            errors.Unavailable: they are not within LEARN_SECONDS (reason REVOCATIONS_UNKNOWN).
        """
        if self.known.is_set():
            return
        try:
            async with asyncio.timeout(LEARN_SECONDS):
                await self.known.wait()
        except TimeoutError as error:
            message = "Which sessions have ended is not known yet. Try again."
            raise errors.Unavailable("REVOCATIONS_UNKNOWN", message) from error

    def revoke(self, session_id: uuid.UUID) -> None:
        """Add a session, and end the streams that it has open."""
        self._forget_old()
        # Moved to the end, which keeps the order.
        self._times.pop(session_id, None)
        self._times[session_id] = time.monotonic()
        now = asyncio.get_running_loop().time()
        for stream in self._streams.get(session_id, ()):
            if not stream.expired():
                stream.reschedule(now)

    def is_revoked(self, session_id: uuid.UUID) -> bool:
        """Return whether a session was revoked."""
        return session_id in self._times

    @contextmanager
    def ending(self, stream: asyncio.Timeout, session_id: uuid.UUID) -> Iterator[None]:
        """Within the block, let `stream` time out as soon as the session is revoked."""
        streams = self._streams.setdefault(session_id, set())
        streams.add(stream)
        try:
            yield
        finally:
            streams.discard(stream)
            if not streams:
                self._streams.pop(session_id, None)

    def _forget_old(self) -> None:
        limit = time.monotonic() - self._retention_seconds
        for session_id, revoke_time in list(self._times.items()):
            if revoke_time > limit:
                break
            del self._times[session_id]
