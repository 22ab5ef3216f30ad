"""Server-sent events (HTML Living Standard §9.2), with ids where a stream can be resumed."""

from google.protobuf.message import Message

from gateway.calls.formats import StreamFormat, Write
from gateway.http.problems import Problem, invalid_argument
from gateway.routing.resumption import Resumption

RETRY_SECONDS = 3
"""How long a client waits before it reconnects, without a Retry-After."""

END_ID = "$end"
"""The id of the end of a stream; there is nothing to resume."""

MAX_ID_LENGTH = 4096
"""The longest id that is sent; it has to fit into the head of the next request."""

_RETRIABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED"})
"""Failures that may be over at the next attempt."""

_END_LINE = b"id: %b\n" % END_ID.encode()


class EventStream(StreamFormat):
    """Writes events; each has the token as its id from which the stream resumes.

    A page without a token is the last one of a list if the stream ends after it. It is held until
    the end, or until the next heartbeat, so that it can have the id of the end: otherwise a client
    whose connection breaks right after it would read it again.
    """

    headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
    has_heartbeat = True

    def __init__(
        self, write: Write, resumption: Resumption | None = None, last_id: str = ""
    ) -> None:
        """Resume after the event `last_id`, or begin without one."""
        super().__init__(write)
        self._resumption = resumption
        self._last_id = last_id
        self._held = b""

    def begin(self) -> bytes:
        """Repeat the id, because by §9.2.6 a client forgets it when it reconnects."""
        return _id_line(self._last_id) if self._resumption is not None else b""

    def write(self, message: Message) -> bytes:
        """Write an event without a name, which goes to `EventSource.onmessage`."""
        event = b"data: %b\n\n" % self._write_one(message)
        if self._resumption is None:
            return event
        token = self._resumption.token_of(message)
        if not token and self._resumption.ends_without_token:
            held, self._held = self._held, event
            return held
        return b"".join((self._take_held(), _id_line(token), event))

    def heartbeat(self) -> bytes:
        """Write a comment."""
        return self._take_held() + b":\n"

    def end(self) -> bytes:
        """Write the event `end`, whose id makes the next request of the client its last."""
        last_line = _END_LINE if self._held else b""
        return b"%b%bevent: end\n%bdata: {}\n\n" % (last_line, self._take_held(), _END_LINE)

    def problem(self, problem: Problem) -> bytes:
        """Write the event `problem`, because EventSource has an event `error` of its own."""
        seconds = _retry_seconds(problem)
        then = _END_LINE if seconds is None else b"retry: %d\n" % (seconds * 1000)
        data = problem.as_json()
        return b"%bevent: problem\n%bdata: %b\n\n" % (self._take_held(), then, data)

    def _take_held(self) -> bytes:
        held, self._held = self._held, b""
        return held


def write_id(token: str) -> bytes:
    """Return a token as the id of an event, or nothing if it would not come back unchanged.

    An id is one line (HTML Living Standard §9.2.6), and comes back in a header (§9.2.4), which
    loses leading and trailing spaces.
    """
    unchanged = token.isprintable() and token.strip() == token and token != END_ID
    return token.encode() if unchanged and len(token) <= MAX_ID_LENGTH else b""


def read_id(header: str) -> str:
    """Return the id in a Last-Event-ID header, whose bytes are UTF-8; empty without one.

    Raises:
        Problem: the bytes are not UTF-8.
    """
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_argument("Last-Event-ID must be UTF-8.", "INVALID_HEADER") from error


def _id_line(token: str) -> bytes:
    event_id = write_id(token)
    return b"id: %b\n" % event_id if event_id else b""


def _retry_seconds(problem: Problem) -> int | None:
    """Return when a client may reconnect after a failure, or None if that would not help."""
    given = problem.headers.get("Retry-After", "")
    if given.isdecimal():
        return int(given)
    return RETRY_SECONDS if given or problem.code in _RETRIABLE else None
