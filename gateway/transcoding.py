"""What an HTTP request means as a gRPC request: path, query and body put together.

Nothing here waits: bodies come whole or line by line from the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.descriptors import is_output_only
from gateway.errors import invalid_argument
from gateway.json_codec import JsonCodec, given_paths, parse_json
from gateway.parameters import assign
from gateway.preconditions import ETAG
from gateway.routes import UPDATE_MASK, Body, Route

QueryPairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class RequestParts:
    """What every message of a request takes from its path and query."""

    route: Route
    codec: JsonCodec
    variables: Mapping[str, str]
    query: QueryPairs

    def message(self, body: bytes, content_type: str) -> Message:
        """Return the gRPC request; an empty body is an empty message.

        Raises:
            Problem: something does not fit; the problem names it.
        """
        message = self.route.rpc.request_class()
        binding = self.route.body
        value = None
        if binding is not None and binding.raw:
            _put_raw(message, binding.field, body, content_type)
        elif binding is not None and body:
            value = parse_json(body)
            self._merge(value, message, binding)
        self.route.query.assign(message, self.query)
        for name, text in self.variables.items():
            assign(self.route.variables[name], message, [text])
        if binding is not None and binding.masked and isinstance(value, dict):
            _fill_mask(message, binding, value)
        return message

    def _merge(self, value: Any, message: Message, binding: Body) -> None:
        if binding.field is None:
            self.codec.merge(value, message)
        elif value is None:
            raise invalid_argument("The body must not be null.", "INVALID_FIELD")
        else:
            self.codec.merge_field(value, message, binding.field)


def _put_raw(
    message: Message, field: FieldDescriptor | None, body: bytes, content_type: str
) -> None:
    target: Any = message if field is None else getattr(message, field.name)
    target.content_type = content_type
    target.data = body


def _fill_mask(message: Message, binding: Body, value: dict[str, Any]) -> None:
    """Name the fields that the body gives, unless the client has given the mask.

    Fields that only the service sets are passed over, so that a client may send back what it read,
    and so is the etag, which is a condition and nothing to change (AIP-154).
    """
    if message.HasField(UPDATE_MASK) or binding.field is None:
        return
    kind = cast("Descriptor", binding.field.message_type)
    kept = []
    for path in given_paths(value, kind):
        top = kind.fields_by_name[path.partition(".")[0]]
        if path != ETAG and not is_output_only(top):
            kept.append(path)
    getattr(message, UPDATE_MASK).paths.extend(kept)
