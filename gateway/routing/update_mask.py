"""The update_mask of a PATCH: made of the fields in its body, or checked (AIP-134, AIP-161).

No service receives an empty mask with a body that has fields: it might replace all fields.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from gateway.http.problems import Problem, invalid_argument, invalid_field
from gateway.protojson.codec import given_paths
from gateway.protojson.errors import shown
from gateway.routing.preconditions import ETAG
from gateway.upstream.descriptors import behaviors

UPDATE_MASK = "update_mask"

_PARAMETER = "updateMask"
"""Its name in the query, as the OpenAPI document has it."""

EVERY_FIELD = "*"
"""The path that stands for all fields (AIP-134)."""

_NOT_TO_CHANGE = frozenset({"OUTPUT_ONLY", "IDENTIFIER", "IMMUTABLE"})


class UpdateMask:
    """Completes the masks of one route, whose body is a resource."""

    def __init__(self, resource: Descriptor, bound: Iterable[str]) -> None:
        """Take the type of the resource, and the paths in it that the URL gives."""
        self._resource = resource
        self._kept = frozenset({ETAG, *bound})
        self._may_change = lru_cache(maxsize=1024)(self._find_whether_to_change)

    def complete(self, request: Message, value: dict[str, Any]) -> None:
        """Name the fields that a body gives, unless the client has given the mask.

        A client may send back what it read: what only the service sets, what names the resource and
        what cannot be changed (AIP-203) is passed over, and so is the etag, which is a condition
        (AIP-154). An empty body changes nothing (RFC 7396).

        Raises:
            Problem: the client's mask has no path, or one that is not a field; or the body has no
                field that can be changed.
        """
        if request.HasField(UPDATE_MASK):
            self._check(getattr(request, UPDATE_MASK).paths)
        elif value:
            paths = [path for path in given_paths(value, self._resource) if self._may_change(path)]
            if not paths:
                detail = "The body gives no field that can be changed."
                raise invalid_argument(detail, "NOTHING_TO_CHANGE")
            getattr(request, UPDATE_MASK).paths.extend(paths)

    def _check(self, paths: Sequence[str]) -> None:
        if not paths:
            raise _invalid("must name a field")
        for path in paths:
            if path != EVERY_FIELD and not _leads_to_a_field(path, self._resource):
                raise _invalid(f"{shown(path)} is no field of what is to be changed")

    def _find_whether_to_change(self, path: str) -> bool:
        at = self._resource
        for name in path.split("."):
            field = at.fields_by_name[name]
            if behaviors(field) & _NOT_TO_CHANGE:
                return False
            at = cast("Descriptor", field.message_type)
        return path not in self._kept


def _leads_to_a_field(path: str, message: Descriptor) -> bool:
    """Say whether a path is that of a field; any path is within a map, list or well-known type."""
    *parents, last = path.split(".")
    for name in parents:
        field = message.fields_by_name.get(name)
        if field is None or field.message_type is None:
            return field is not None and field.is_repeated
        if field.is_repeated or field.message_type.file.package == "google.protobuf":
            return True
        message = field.message_type
    return last in message.fields_by_name


def _invalid(rule: str) -> Problem:
    return invalid_field(_PARAMETER, rule, "INVALID_UPDATE_MASK")
