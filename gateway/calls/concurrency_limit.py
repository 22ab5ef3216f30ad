"""Limits on what one process does at once, in all and for each of those who share it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.http.problems import unavailable


class ConcurrencyLimit:
    """Counts what is in progress, and refuses at once what is beyond a limit."""

    def __init__(self, what: str, reason: str, *, max_all: int, max_of_one: int) -> None:
        """Take what is counted, and the reason of a refusal."""
        self._what = what
        self._reason = reason
        self._max_all = max_all
        self._max_of_one = max_of_one
        self._all = 0
        self._of: Counter[str] = Counter()

    @contextmanager
    def of(self, one: str) -> Iterator[None]:
        """Count something of one of those who share the limit, until it is done.

        Raises:
            Problem: a limit is reached.
        """
        if self._all >= self._max_all or self._of[one] >= self._max_of_one:
            detail = f"The server has reached its limit of {self._what}."
            raise unavailable(detail, self._reason, retry_seconds=1)
        self._all += 1
        self._of[one] += 1
        try:
            yield
        finally:
            self._all -= 1
            self._of[one] -= 1
            if not self._of[one]:
                del self._of[one]
