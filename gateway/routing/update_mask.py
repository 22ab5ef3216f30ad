"""The update_mask of a PATCH, filled with what its body gives (AIP-134)."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from gateway.descriptors import behaviors
from gateway.protojson.codec import given_paths
from gateway.routing.preconditions import ETAG

UPDATE_MASK = "update_mask"

_NOT_TO_CHANGE = frozenset({"OUTPUT_ONLY", "IDENTIFIER"})


class UpdateMask:
    """Fills the masks of one route, whose body is a resource."""

    def __init__(self, resource: Descriptor, bound: Iterable[str]) -> None:
        """Take the type of the resource, and the paths in it that the URL gives."""
        self._resource = resource
        self._kept = frozenset({ETAG, *bound})
        self._may_change = lru_cache(maxsize=1024)(self._find_whether_to_change)

    def fill(self, request: Message, value: dict[str, Any]) -> None:
        """Name the fields that a body gives, unless the client has given the mask.

        A client may send back what it read: what only the service sets, and what names the resource
        (AIP-203), is passed over, and so is the etag, which is a condition (AIP-154).
        """
        if not request.HasField(UPDATE_MASK):
            paths = [path for path in given_paths(value, self._resource) if self._may_change(path)]
            getattr(request, UPDATE_MASK).paths.extend(paths)

    def _find_whether_to_change(self, path: str) -> bool:
        at = self._resource
        for name in path.split("."):
            field = at.fields_by_name[name]
            if behaviors(field) & _NOT_TO_CHANGE:
                return False
            at = cast("Descriptor", field.message_type)
        return path not in self._kept
