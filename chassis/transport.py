"""The limit on the size of messages, which both ends of a connection must agree on."""

from collections.abc import Sequence
from typing import Final

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

MESSAGE_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
