"""Streams that a client can go on with after its connection broke: which ones, and from where.

The place is a token that every answer carries and that a request may give back. How tokens travel
as the ids of server-sent events is said here too; how events are written is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.http.problems import invalid_argument
from gateway.upstream.descriptors import Method

END_ID = "$end"
"""The id of a complete stream: there is nothing to go on with."""

MAX_ID_LENGTH = 4096
"""The longest id that is sent: it has to fit into the head of the next request."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """How streams of one RPC are gone on with."""

    token_of: Callable[[Message], str]
    """Returns the token of an answer: the stream goes on after it."""
    request_field: str
    ends_without_token: bool
    """An answer without a token is the last one (AIP-158); otherwise it says nothing."""


def find_resumption(rpc: Method) -> Resumption | None:
    """Return how streams of an RPC can be gone on with, or None if they cannot.

    Lists have `page_token` and `next_page_token` (AIP-158); other streams `resume_token` in both.
    """
    if rpc.client_streaming or not rpc.server_streaming:
        return None
    asks, says = rpc.descriptor.input_type, rpc.descriptor.output_type
    if _has_text(asks, "page_token") and _has_text(says, "next_page_token"):
        return Resumption(attrgetter("next_page_token"), "page_token", ends_without_token=True)
    if _has_text(asks, "resume_token") and _has_text(says, "resume_token"):
        return Resumption(attrgetter("resume_token"), "resume_token", ends_without_token=False)
    return None


def write_id(token: str) -> bytes:
    """Return a token as the id of an event, or nothing if it would not come back as it is.

    An id is a line (HTML Living Standard §9.2.6), and comes back in a header (§9.2.4), which loses
    the space around it.
    """
    sound = token.isprintable() and token.strip() == token and token != END_ID
    return token.encode() if sound and len(token) <= MAX_ID_LENGTH else b""


def read_id(header: str) -> str:
    """Return the id in a Last-Event-ID header, whose bytes are UTF-8; empty without one.

    Raises:
        Problem: they are not.
    """
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_argument("Last-Event-ID must be UTF-8.", "INVALID_HEADER") from error


def _has_text(message: Descriptor, name: str) -> bool:
    field = message.fields_by_name.get(name)
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
