"""Addresses and options of the socket of a connection."""

import socket

from gateway.server.limits import UNACKNOWLEDGED_SECONDS, UNSENT_BYTES

Address = tuple[str, int] | None
"""Host and port; None for a socket without them."""


def address_of(name: object) -> Address:
    """Return host and port of a socket's name."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def limit_unsent(connection: socket.socket) -> None:
    """Limit what the system buffers for a client that does not read, where it can (tcp(7))."""
    for name, value in (
        ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1_000),
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
