"""The update_mask of a PATCH: filled with the fields in its body, or checked (AIP-134, AIP-161).

No service receives a body with fields and an empty mask, which might replace all fields.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from gateway.http.problems import Problem, invalid_argument, invalid_field
from gateway.protojson.errors import excerpt
from gateway.routing.fields import behaviors
from gateway.routing.preconditions import ETAG

UPDATE_MASK = "update_mask"

_PARAMETER = "updateMask"
"""The name of the query parameter."""

EVERY_FIELD = "*"
"""The path that means all fields (AIP-134)."""

_UNCHANGEABLE = frozenset({"OUTPUT_ONLY", "IDENTIFIER", "IMMUTABLE"})


class UpdateMask:
    """Completes the masks of requests to one route, whose body is a resource."""

    def __init__(self, resource: Descriptor, bound: Iterable[str]) -> None:
        """Take the type of the resource, and the paths within it that the URL binds."""
        self._resource = resource
        self._skipped = frozenset({ETAG, *bound})
        self._may_change = lru_cache(maxsize=1024)(self._is_changeable)

    def complete(self, request: Message, value: dict[str, Any]) -> None:
        """Fill the mask with the fields in the body, unless the client has sent a mask.

        A client may send a resource back as it read it: fields that are output only, identifiers or
        immutable (AIP-203) are skipped, and so is the etag, which is a condition (AIP-154). An
        empty body changes nothing (RFC 7396).

        Raises:
            Problem: the client's mask is empty or names no field, or the body has no field that can
                be changed.
        """
        if request.HasField(UPDATE_MASK):
            self._check(getattr(request, UPDATE_MASK).paths)
        elif value:
            paths = [path for path in _given_paths(value, self._resource) if self._may_change(path)]
            if not paths:
                detail = "The body gives no field that can be changed."
                raise invalid_argument(detail, "NOTHING_TO_CHANGE")
            getattr(request, UPDATE_MASK).paths.extend(paths)

    def _check(self, paths: Sequence[str]) -> None:
        if not paths:
            raise _invalid("must name a field")
        for path in paths:
            if path != EVERY_FIELD and not _leads_to_a_field(path, self._resource):
                raise _invalid(f"{excerpt(path)} is no field of what is to be changed")

    def _is_changeable(self, path: str) -> bool:
        at = self._resource
        for name in path.split("."):
            field = at.fields_by_name[name]
            if behaviors(field) & _UNCHANGEABLE:
                return False
            at = cast("Descriptor", field.message_type)
        return path not in self._skipped


def _leads_to_a_field(path: str, message: Descriptor) -> bool:
    """Return whether a path leads to a field, or into a map, a list or a well-known type."""
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


def _given_paths(value: Mapping[str, Any], message: Descriptor) -> list[str]:
    """Return the paths of the fields that a JSON object gives, in proto names, leaves only.

    A map, a repeated field and a well-known type count as one leaf, and so does a null.
    """
    paths = []
    fields = _fields_by_name(message)
    for given, item in value.items():
        name, nested = fields[given]
        if nested is None or not item:
            paths.append(name)
        else:
            paths.extend(f"{name}.{path}" for path in _given_paths(item, nested))
    return paths


@lru_cache(maxsize=1024)
def _fields_by_name(message: Descriptor) -> Mapping[str, tuple[str, Descriptor | None]]:
    """Return each field, by both of its names, as its proto name and the message in it, if any."""
    fields = {}
    for field in message.fields:
        nested = field.message_type
        is_leaf = nested is None or field.is_repeated or nested.file.package == "google.protobuf"
        fields[field.name] = (field.name, None if is_leaf else nested)
    return {**fields, **{field.json_name: fields[field.name] for field in message.fields}}
