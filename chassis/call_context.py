"""The context of the call that is being served: its method, request id, deadline and caller.

The server sets them. The client passes the request id and the deadline on to other services, and
the database bounds its waits by the deadline. Outside of a call there is no deadline, and each wait
has a limit of its own.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chassis.caller import Caller

request_id: ContextVar[str] = ContextVar("request_id", default="")
method: ContextVar[str] = ContextVar("method", default="")
"""The path of the RPC, such as "/bazaar.user.v1.UserService/Login"."""
client: ContextVar[str] = ContextVar("client", default="")
"""The address of the client: as the gateway says, or else of who has connected, as gRPC says.

Whoever connects has the certificate of a service or of the gateway, and is believed.
"""
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""In seconds on the clock of `time.monotonic`; None where the caller set no deadline."""
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""None for a call without a token, and outside of a call."""


def set_caller(caller: Caller | None) -> None:
    """Set the user whose token came with the call."""
    _caller.set(caller)


def get_caller() -> Caller:
    """Return the user who calls.

    Raises:
        LookupError: nobody does; the RPC is also for callers without a token.
    """
    caller = _caller.get()
    if caller is None:
        raise LookupError("no user calls")
    return caller


def find_caller() -> Caller | None:
    """Return the user who calls, if any does."""
    return _caller.get()


def remaining_seconds(at_most: float) -> float:
    """Return the time until the deadline, between 0 and `at_most`; without one, `at_most`."""
    limit = deadline.get()
    if limit is None:
        return at_most
    return max(0.0, min(at_most, limit - time.monotonic()))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Within the block, replace the deadline with one that is `seconds` from now."""
    token = deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline.reset(token)
