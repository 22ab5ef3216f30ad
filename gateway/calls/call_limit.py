"""A limit on the unary calls that one process has in flight.

A call counts from before its body is read until its response is written.
"""

from gateway.http.problems import unavailable


class CallLimit:
    """A context manager around each call, which refuses calls beyond the limit at once."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._calls = 0

    def __enter__(self) -> None:
        """Count a call.

        Raises:
            Problem: the limit is reached.
        """
        if self._calls >= self._max_calls:
            detail = "The server has reached its limit of calls in flight."
            raise unavailable(detail, "TOO_MANY_CALLS", retry_seconds=1)
        self._calls += 1

    def __exit__(self, *_: object) -> None:
        """Stop counting the call."""
        self._calls -= 1
