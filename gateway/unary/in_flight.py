"""How many unary calls one process has in flight, from the first byte of a body to the response."""

from gateway.errors import Problem


class CallsInFlight:
    """A bound, as a context manager around each call: beyond it there is no waiting."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._calls = 0

    def __enter__(self) -> None:
        """Count a call.

        Raises:
            Problem: there are as many as there may be.
        """
        if self._calls >= self._max_calls:
            raise _too_many()
        self._calls += 1

    def __exit__(self, *_: object) -> None:
        """Count it no longer."""
        self._calls -= 1


def _too_many() -> Problem:
    detail = "The server has as many calls in flight as it may have."
    return Problem(503, "UNAVAILABLE", detail, "TOO_MANY_CALLS", headers={"Retry-After": "1"})
