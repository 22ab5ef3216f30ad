"""Limits on the calls that a server accepts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one server; the defaults are those of a service's settings."""

    max_calls: int = 1_000
    """How many calls may be in flight; those of health and reflection do not count."""
    max_send_seconds: float = 60.0
    """How long a client may take to read one message of a response."""
    grace_seconds: float = 25.0
    """How long calls may go on when the server stops."""


DEFAULT_LIMITS = Limits()
