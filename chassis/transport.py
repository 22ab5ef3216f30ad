"""The limits on messages and streams: options of both ends of a connection."""

from collections.abc import Sequence
from typing import Final

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

MESSAGE_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
"""The limit on the size of messages, which both ends must agree on."""

STREAM_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * 1024),
)
"""How much of a stream may wait for an end that does not read; a larger message is received whole.

By default gRPC probes the bandwidth, and a stream may run ahead by many megabytes.
"""
