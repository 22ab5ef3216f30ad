"""What one connection may make the gateway hold, and for how long it may do so."""

from dataclasses import dataclass

from gateway.http.problems import Problem

MAX_HEAD_BYTES = 32 * 1024
"""The most that request line and headers may have, with the empty lines before them."""

MAX_FRAMING_BYTES = 16 * 1024
"""How many bytes of chunk sizes, extensions and trailers a chunked body may have, beyond those that
FRAMING_BYTES_PER_BODY_BYTE allows for."""

FRAMING_BYTES_PER_BODY_BYTE = 8
"""How many bytes of framing each byte of content allows for: a chunk of one byte has five."""

BODY_BUFFER_BYTES = 64 * 1024
"""How much of a body is held until the application asks for it."""

WRITE_BUFFER_BYTES = 16 * 1024
"""How much unsent data the process buffers before writers have to wait."""

UNSENT_BYTES = 64 * 1024
"""How much unsent data the system buffers (TCP_NOTSENT_LOWAT): by default up to megabytes."""

UNACKNOWLEDGED_SECONDS = 120
"""How long data may stay unacknowledged before the client counts as gone (TCP_USER_TIMEOUT). A few
bytes now and then, such as heartbeats, never fill a buffer, and so no other limit notices."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds on the connections of one process. Each time is a total, whatever comes meanwhile."""

    max_connections: int = 4_000
    """How many there may be; those beyond get 503."""
    max_age_seconds: float = 3_600.0
    """After this time the next response is the last, so that load moves to new processes."""
    keep_alive_seconds: float = 75.0
    """How long a client may take to begin the next request; empty lines do not begin it."""
    head_seconds: float = 15.0
    """How long request line and headers may take, the first ones from the connection's start."""
    write_seconds: float = 120.0
    """How long a client may take to read what is buffered for it."""
    linger_seconds: float = 10.0
    """How long a connection is read after its last response (RFC 9112 section 9.6)."""
    linger_bytes: int = 256 * 1024 * 1024
    """How much is read and discarded then."""


LINGER_SECONDS_WHEN_STOPPING = 0.5
"""How long a connection lingers, at most, when the server stops or has too many of them."""


def head_too_large() -> Problem:
    """Return the problem of a head that is over its bound."""
    detail = f"Request line and headers are larger than {MAX_HEAD_BYTES} bytes."
    return Problem(431, "INVALID_ARGUMENT", detail, "HEADERS_TOO_LARGE")


def too_much_framing() -> Problem:
    """Return the problem of a body with too much framing for its content."""
    detail = "The body has too much in chunk extensions or trailers."
    return Problem(431, "INVALID_ARGUMENT", detail, "FRAMING_TOO_LARGE")


def head_too_slow() -> Problem:
    """Return the problem of a head that takes too long."""
    detail = "Request line and headers did not come in time."
    return Problem(408, "DEADLINE_EXCEEDED", detail, "SLOW_HEADERS")


def too_many_connections() -> Problem:
    """Return the problem of a connection beyond the bound."""
    detail = "The server has as many connections as it may have."
    headers = {"Retry-After": "5"}
    return Problem(503, "UNAVAILABLE", detail, "TOO_MANY_CONNECTIONS", headers=headers)


def stopping() -> Problem:
    """Return the problem of a request that outlasts the graceful shutdown of the server."""
    detail = "The server is stopping. Whether the request took effect is unknown."
    return Problem(503, "UNAVAILABLE", detail, "SERVER_STOPPING", headers={"Retry-After": "1"})
