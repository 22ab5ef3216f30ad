"""The call that is being served: its request id, and when its caller gives up.

The server sets them; the client passes them on, and the database limits its waits by them. So the
three need not know each other. Outside of a call there is no deadline, and each wait has a limit of
its own.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""When the caller gives up, on the clock of `time.monotonic`; None if it never does."""


def remaining_seconds(at_most: float) -> float:
    """Return what is left of the deadline, from 0 to `at_most`, which it is without a deadline."""
    limit = deadline.get()
    if limit is None:
        return at_most
    return max(0.0, min(at_most, limit - time.monotonic()))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Give what is done in the block a deadline of its own, in place of any that was set."""
    token = deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline.reset(token)
