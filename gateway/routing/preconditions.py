"""Versions of resources: ETag, If-Match and If-None-Match (RFC 9110 §8.8.3 and §13).

The version is the string field `etag` of a resource (AIP-154). What is to be changed is compared by
the service, within its own transaction; what is read is compared here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter
from typing import Any
from urllib.parse import quote, unquote

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.http.exchange import Exchange
from gateway.http.metadata import ENTITY_TAG
from gateway.http.problems import Problem, invalid_argument
from gateway.upstream.descriptors import Method

ETAG = "etag"

_OPAQUE = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What may stand in a tag as it is, besides letters and digits; `%` is how all else is written."""

_PLAIN = re.compile(rf"[A-Za-z0-9{re.escape(_OPAQUE)}]+")
_TAGS = re.compile(rf"[ \t,]*(?:{ENTITY_TAG.pattern}[ \t]*(?:,[ \t,]*|$))+")


def entity_tag(version: str) -> str:
    """Return the entity tag of a version, which can be read back from it whatever it holds.

    A version that is written as a weak tag, as AIP-154 has it, stays one.
    """
    if version.startswith("W/") and ENTITY_TAG.fullmatch(version) is not None:
        return version
    return f'"{version if _PLAIN.fullmatch(version) else quote(version, safe=_OPAQUE)}"'


@dataclass(frozen=True, slots=True)
class EntityTags:
    """What If-Match or If-None-Match names: some tags, or None for `*`, which is any."""

    tags: frozenset[str] | None

    def match_strongly(self, tag: str) -> bool:
        """Compare a tag by every byte: a weak one is equal to none (RFC 9110 §8.8.3.2)."""
        return self.tags is None or (tag in self.tags and not tag.startswith("W/"))

    def match_weakly(self, tag: str) -> bool:
        """Compare a tag without regard to weakness (RFC 9110 §8.8.3.2)."""
        bare = tag.removeprefix("W/")
        return self.tags is None or any(bare == other.removeprefix("W/") for other in self.tags)


def parse_entity_tags(name: str, value: str) -> EntityTags:
    """Read the value of the header `name`, several of the same name joined by commas.

    Raises:
        Problem: it is malformed.
    """
    if value.strip() == "*":
        return EntityTags(None)
    if _TAGS.fullmatch(value) is None:
        raise invalid_argument(f'{name} must be * or a list such as "a", "b".', "INVALID_HEADER")
    return EntityTags(frozenset(ENTITY_TAG.findall(value)))


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one request demands of the version; None where it has no such header."""

    if_match: EntityTags | None
    if_none_match: EntityTags | None

    def explain(self, problem: Problem) -> None:
        """Give a refusal of the service the status of what it means to this request.

        ABORTED is what AIP-154 has a service answer to a version that is no longer current.
        """
        if self.if_match is not None and self.if_match.tags and problem.code == "ABORTED":
            problem.status = HTTPStatus.PRECONDITION_FAILED


def read_conditions(exchange: Exchange) -> Conditions | None:
    """Return the conditions of a request, or None, as nearly always.

    Raises:
        Problem: a header is malformed.
    """
    if_match = exchange.list_header(b"if-match")
    if_none_match = exchange.list_header(b"if-none-match")
    if if_match is None and if_none_match is None:
        return None
    return Conditions(
        None if if_match is None else parse_entity_tags("If-Match", if_match),
        None if if_none_match is None else parse_entity_tags("If-None-Match", if_none_match),
    )


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What one route can make of conditions. None that it cannot heed is passed over."""

    reads: bool
    """It is a GET, whose answer has the version that the conditions are about."""
    version: Callable[[Message], str] | None
    """Reads the version of what an answer shows."""
    holder: Callable[[Message], Any] | None
    """Finds the message in a request that takes the version which is to be changed."""

    def admit(self, conditions: Conditions, request: Message | None) -> None:
        """Put what a request demands into its message, before the call is made.

        Raises:
            Problem: this route cannot heed a condition (400), or none can meet it (412).
        """
        if conditions.if_none_match is not None and not self.reads:
            raise _unsupported("If-None-Match")
        if conditions.if_match is None or conditions.if_match.tags is None:
            return  # What there is may have any version; what is not there is not found.
        if self.reads and self.version is not None:
            return
        if self.holder is None or request is None:
            raise _unsupported("If-Match")
        version = _only_version(conditions.if_match.tags)
        holder = self.holder(request)
        if holder.etag not in ("", version):
            detail = "The etag of the request is another than that of If-Match."
            raise invalid_argument(detail, "INVALID_HEADER")
        holder.etag = version

    def is_unmodified(self, conditions: Conditions, tag: str) -> bool:
        """Say whether a client that reads has what the answer would show.

        Raises:
            Problem: it is not what If-Match names (412).
        """
        if not self.reads:
            return False
        if conditions.if_match is not None and not conditions.if_match.match_strongly(tag):
            raise _mismatch("The resource has another version than If-Match names.")
        known = conditions.if_none_match
        return known is not None and known.match_weakly(tag)


def compile_preconditions(
    rpc: Method, http_method: str, body: FieldDescriptor | None, result: FieldDescriptor | None
) -> Preconditions:
    """Compile what a route can heed, from the fields that its body and its answer's body are.

    Each is None for the whole message. A stream has no version, and nor has what is yet to be
    created.
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
    """Find where AIP-154 has the version: in the request, or in the resource of an update."""
    if _etag_path(rpc.descriptor.input_type, None):
        return lambda request: request
    updates = http_method in ("PATCH", "PUT")
    if updates and body is not None and _etag_path(rpc.descriptor.input_type, body):
        return attrgetter(body.name)
    return None


def _etag_path(message: Descriptor, field: FieldDescriptor | None) -> str:
    """Return the path of the version in a message or in one of its fields, or an empty text."""
    kind = message if field is None else field.message_type
    etag = None if kind is None else kind.fields_by_name.get(ETAG)
    if etag is None or etag.type != FieldDescriptor.TYPE_STRING or etag.is_repeated:
        return ""
    if field is None:
        return ETAG
    return "" if field.is_repeated else f"{field.name}.{ETAG}"


def _only_version(tags: frozenset[str]) -> str:
    """Return the one version that a service is to compare; it takes no more than one."""
    strong = [tag for tag in tags if not tag.startswith("W/") and tag != '""']
    if not strong:
        raise _mismatch("If-Match compares strongly: no resource has such a version.")
    if len(strong) > 1:
        raise invalid_argument("If-Match can name only one version here.", "INVALID_HEADER")
    return unquote(strong[0][1:-1])


def _mismatch(detail: str) -> Problem:
    return Problem(HTTPStatus.PRECONDITION_FAILED, "ABORTED", detail, "ETAG_MISMATCH")


def _unsupported(name: str) -> Problem:
    detail = f"This request cannot be made conditional by {name}."
    return invalid_argument(detail, "UNSUPPORTED_CONDITION")
