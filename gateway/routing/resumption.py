"""Which streams a client can resume after its connection broke, and from where."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from google.protobuf.message import Message

from gateway.routing.fields import find_string
from gateway.upstream.descriptors import Method


@dataclass(frozen=True, slots=True)
class Resumption:
    """How streams of one RPC are resumed: by a token in each response that a request gives back."""

    token_of: Callable[[Message], str]
    """Returns the token of a response; the stream resumes after it."""
    request_field: str
    """The field of the request that takes the token."""
    ends_without_token: bool
    """A response without a token is the last one (AIP-158); otherwise its lack means nothing."""


def find_resumption(rpc: Method) -> Resumption | None:
    """Return how streams of an RPC are resumed, or None if they cannot be.

    Lists have `page_token` and `next_page_token` (AIP-158); other streams `resume_token` in both.
    """
    if rpc.client_streaming or not rpc.server_streaming:
        return None
    request, response = rpc.descriptor.input_type, rpc.descriptor.output_type
    if find_string(request, "page_token") and find_string(response, "next_page_token"):
        return Resumption(attrgetter("next_page_token"), "page_token", ends_without_token=True)
    if find_string(request, "resume_token") and find_string(response, "resume_token"):
        return Resumption(attrgetter("resume_token"), "resume_token", ends_without_token=False)
    return None
