"""The time of the fake, which a test can advance."""

import datetime as dt


class Clock:
    """The time now, and what a test has added to it."""

    def __init__(self) -> None:
        self._advanced = dt.timedelta()

    def now(self) -> dt.datetime:
        """Return the time, in UTC."""
        return dt.datetime.now(dt.UTC) + self._advanced

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._advanced += dt.timedelta(seconds=seconds)


def to_text(time: dt.datetime) -> str:
    """Return a time as RFC 3339 in UTC, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
