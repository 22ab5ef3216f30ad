"""An HTTP request as a gRPC request: its path, query and body in one message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import Message

from gateway.http.problems import invalid_argument, invalid_field
from gateway.protojson.errors import InvalidJsonError, Violation
from gateway.protojson.text import parse_json
from gateway.routing.bodies import BodyBinding
from gateway.routing.parameters import assign, problem_of
from gateway.routing.routes import Route

QueryPairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class RequestParts:
    """The route of a request, and what each message of it takes from path and query."""

    route: Route
    variables: Mapping[str, str]
    query: QueryPairs

    def message(self, body: bytes, content_type: str) -> Message:
        """Return the gRPC request for a body, or for one record of a stream.

        An empty body is an empty message.

        Raises:
            Problem: path, query or body do not fit the message; the problem names the field.
        """
        message = self.route.rpc.request_class()
        binding = self.route.body
        value = None
        if binding is not None and binding.raw:
            target: Any = message if binding.field is None else getattr(message, binding.field.name)
            target.content_type, target.data = content_type, body
        elif binding is not None and body:
            value = _merge(body, message, binding)
        if self.query:
            self.route.query.assign(message, self.query)
        for name, text in self.variables.items():
            assign(name, self.route.variables[name], message, [text])
        if binding is not None and binding.update_mask is not None:
            binding.update_mask.complete(message, value if isinstance(value, dict) else {})
        if not message.IsInitialized():
            # Required fields are of proto2 and editions.
            missing: list[str] = cast("Any", message).FindInitializationErrors()
            raise invalid_field(missing[0], "must be given", "MISSING_FIELD")
        return message


def _merge(body: bytes, message: Message, binding: BodyBinding) -> Any:
    """Put a body of JSON into a message, and return its value."""
    try:
        value = parse_json(body)
        if value is None and binding.field is not None:
            raise invalid_argument("The body must not be null.", "INVALID_FIELD")
        binding.merge(value, message)
    except InvalidJsonError as error:
        raise invalid_argument(str(error), "INVALID_JSON") from error
    except Violation as violation:
        raise problem_of(violation) from violation
    return value
