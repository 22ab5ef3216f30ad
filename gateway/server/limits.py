"""Limits on what one connection may occupy, and for how long."""

import math
from dataclasses import dataclass

from gateway.server.state import State

MAX_HEAD_BYTES = 32 * 1024
"""The limit of request line and headers, including empty lines before them."""

MAX_FRAMING_BYTES = 16 * 1024
"""How many bytes of chunk sizes, extensions and trailers a chunked body may have in addition to
those that FRAMING_BYTES_PER_BODY_BYTE allows."""

FRAMING_BYTES_PER_BODY_BYTE = 8
"""How many bytes of framing are allowed for each byte of content; a chunk of one byte has five."""

BODY_BUFFER_BYTES = 64 * 1024
"""How much of a body is buffered until the application receives it."""

WRITE_BUFFER_BYTES = 16 * 1024
"""How much unsent data the process buffers before writers have to wait."""

UNSENT_BYTES = 64 * 1024
"""How much unsent data the system buffers (TCP_NOTSENT_LOWAT), instead of up to megabytes."""

UNACKNOWLEDGED_SECONDS = 120
"""How long data may stay unacknowledged until the connection is closed (TCP_USER_TIMEOUT). No
other limit applies to a few bytes now and then, such as heartbeats, which never fill a buffer."""

BRIEF_LINGER_SECONDS = 0.5
"""What stands for `linger_seconds` under TLS, and when the server stops or has too many
connections."""

BRIEF_HANDSHAKE_SECONDS = 1.0
"""What stands for `handshake_seconds` when half of the handshakes that may be in progress are, so
that clients which do not finish theirs leave room for others."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits on the connections of one process. Each time is a total, not reset by what arrives."""

    max_connections: int = 4_000
    """How many there may be; a further one gets 503."""
    max_age_seconds: float = 3_600.0
    """After this time the next response is the last one, so that load moves to new processes."""
    keep_alive_seconds: float = 75.0
    """How long a client may take to begin the next request; empty lines do not count."""
    head_seconds: float = 15.0
    """How long request line and headers may take; at first, from the start of the connection."""
    handshake_seconds: float = 5.0
    """How long a TLS handshake may take; connections count as such when it is done."""
    max_handshakes: int = 500
    """How many TLS handshakes may be in progress; a further connection is aborted."""
    max_client_handshakes: int = 100
    """How many of them may be of one client address, unless it is a trusted proxy."""
    last_request_seconds: float = 1.0
    """How long a client may take to begin or to finish the head of a last request when the server
    stops; the response closes the connection."""
    write_seconds: float = 120.0
    """How long a client may take to read what is buffered for it."""
    linger_seconds: float = 10.0
    """How long a connection is read after its last response (RFC 9112 section 9.6)."""
    linger_bytes: int = 256 * 1024 * 1024
    """How much is read and discarded in that time."""

    def seconds(
        self, state: State, left_seconds: float, *, stopping: bool, lingers_briefly: bool
    ) -> float:
        """Return how long a connection may stay in a state.

        `left_seconds` is what is left of its age.
        """
        if state is State.SERVING:
            return math.inf
        if state is State.LINGERING:
            return BRIEF_LINGER_SECONDS if lingers_briefly else self.linger_seconds
        if stopping:
            return self.last_request_seconds
        if state in (State.NEW, State.HEAD):
            return self.head_seconds
        return max(0.0, min(self.keep_alive_seconds, left_seconds))
