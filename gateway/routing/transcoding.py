"""What an HTTP request means as a gRPC request: path, query and body put together.

Nothing here waits: bodies come whole or line by line from the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.http.problems import Problem, invalid_argument, invalid_field
from gateway.protojson.codec import JsonCodec, parse_json
from gateway.routing.parameters import assign
from gateway.routing.routes import Body, Route

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
        if self.query:
            self.route.query.assign(message, self.query)
        for name, text in self.variables.items():
            assign(name, self.route.variables[name], message, [text])
        if binding is not None and binding.update_mask is not None:
            binding.update_mask.complete(message, value if isinstance(value, dict) else {})
        if not message.IsInitialized():
            raise _incomplete(message)
        return message

    def _merge(self, value: Any, message: Message, binding: Body) -> None:
        if binding.field is None:
            self.codec.merge(value, message)
        elif value is None:
            raise invalid_argument("The body must not be null.", "INVALID_FIELD")
        else:
            self.codec.merge_field(value, message, binding.field)


def _incomplete(message: Any) -> Problem:
    """Return the problem of a message of proto2 that cannot be sent without a field."""
    missing: list[str] = message.FindInitializationErrors()
    return invalid_field(missing[0], "must be given", "MISSING_FIELD")


def _put_raw(
    message: Message, field: FieldDescriptor | None, body: bytes, content_type: str
) -> None:
    target: Any = message if field is None else getattr(message, field.name)
    target.content_type = content_type
    target.data = body
