"""A limit on the unary calls that one process has in flight, in all and of each method.

A call counts from before its body is read until its response is written.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.http.problems import unavailable


class CallLimit:
    """Counts calls, and refuses those beyond a limit at once."""

    def __init__(self, max_calls: int, max_method_calls: int) -> None:
        self._max_calls = max_calls
        self._max_method_calls = max_method_calls
        self._calls = 0
        self._calls_of: Counter[str] = Counter()

    @contextmanager
    def of(self, method: str) -> Iterator[None]:
        """Count a call of a method, by its full name.

        Raises:
            Problem: a limit is reached.
        """
        if self._calls >= self._max_calls or self._calls_of[method] >= self._max_method_calls:
            detail = "The server has reached its limit of calls in flight."
            raise unavailable(detail, "TOO_MANY_CALLS", retry_seconds=1)
        self._calls += 1
        self._calls_of[method] += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._calls_of[method] -= 1
