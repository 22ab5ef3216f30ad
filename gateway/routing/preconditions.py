"""What each route can do with If-Match and If-None-Match (RFC 9110 §13).

The version of a resource is its string field `etag` (AIP-154). Before a change the service compares
it, within its own transaction; after a read it is compared here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.http.conditions import Conditions, only_version, version_mismatch
from gateway.http.problems import Problem, invalid_argument
from gateway.routing.fields import find_string
from gateway.upstream.descriptors import Method

ETAG = "etag"


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What one route can do with conditions; it never ignores one."""

    reads: bool
    """It is a GET, whose response has the version that is compared."""
    version: Callable[[Message], str] | None
    """Reads the version of the resource in a response; None if it has none."""
    holder: Callable[[Message], Any] | None
    """Finds the message in a request that has the version to change; None if there is none."""

    def admit(self, conditions: Conditions, request: Message | None) -> None:
        """Put the version that a client demands into its request, before the call is made.

        Raises:
            Problem: the route cannot compare the version (400), or no version matches (412).
        """
        if conditions.if_none_match is not None and not self.reads:
            raise _unsupported("If-None-Match")
        if conditions.if_match is None or conditions.if_match.tags is None:
            return  # `*` matches any version; without a resource the service fails with NOT_FOUND.
        if self.reads and self.version is not None:
            return
        if self.holder is None or request is None:
            raise _unsupported("If-Match")
        version = only_version(conditions.if_match.tags)
        holder = self.holder(request)
        if holder.etag not in ("", version):
            detail = "The etag of the request differs from that of If-Match."
            raise invalid_argument(detail, "INVALID_HEADER")
        holder.etag = version

    def is_unmodified(self, conditions: Conditions, tag: str) -> bool:
        """Return whether a client has the current version already, which is a 304.

        Raises:
            Problem: the current version is not the one in If-Match (412).
        """
        if not self.reads:
            return False
        if conditions.if_match is not None and not conditions.if_match.match_strongly(tag):
            raise version_mismatch("The resource has another version than If-Match names.")
        known = conditions.if_none_match
        return known is not None and known.match_weakly(tag)


def compile_preconditions(
    rpc: Method, http_method: str, body: FieldDescriptor | None, result: FieldDescriptor | None
) -> Preconditions:
    """Compile the preconditions of a route.

    `body` and `result` are the fields that the bodies of request and response are, or None for the
    whole message. A stream has no version, and neither has a resource before it is created.
    """
    streams = rpc.client_streaming or rpc.server_streaming
    shown = "" if streams else _etag_path(rpc.descriptor.output_type, result)
    reads = http_method == "GET"
    return Preconditions(
        reads=reads,
        version=attrgetter(shown) if shown else None,
        holder=None if reads or streams or rpc.location else _holder(rpc, http_method, body),
    )


def _holder(
    rpc: Method, http_method: str, body: FieldDescriptor | None
) -> Callable[[Message], Any] | None:
    """Find the version to change (AIP-154): in the request, or in the resource of an update."""
    if _etag_path(rpc.descriptor.input_type, None):
        return lambda request: request
    updates = http_method in ("PATCH", "PUT")
    if updates and body is not None and _etag_path(rpc.descriptor.input_type, body):
        return attrgetter(body.name)
    return None


def _etag_path(message: Descriptor, field: FieldDescriptor | None) -> str:
    """Return the path of the version in a message or in one of its fields, or an empty string."""
    kind = message if field is None else field.message_type
    if kind is None or find_string(kind, ETAG) is None:
        return ""
    if field is None:
        return ETAG
    return "" if field.is_repeated else f"{field.name}.{ETAG}"


def _unsupported(name: str) -> Problem:
    detail = f"This request cannot be made conditional by {name}."
    return invalid_argument(detail, "UNSUPPORTED_CONDITION")
