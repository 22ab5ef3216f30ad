"""The states of a connection."""

from enum import Enum


class State(Enum):
    """What a connection waits for or does, which decides how long it may take."""

    NEW = "new"
    """Waits for the first byte of the first request."""
    WAITING = "waiting"
    """Waits for the first byte of another request."""
    HEAD = "head"
    """Waits for the rest of the request line and the headers."""
    SERVING = "serving"
    """The application has the request, and limits all waits itself, also for the body."""
    LINGERING = "lingering"
    """Serves nothing more; what arrives is discarded until the client closes."""
    CLOSED = "closed"


IDLE = (State.WAITING, State.NEW)
"""The states in which nothing of a request has arrived."""
