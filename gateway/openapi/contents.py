"""The contents of requests and responses by media type, each with an example.

OpenAPI 3.1 cannot describe the items of a sequence: a stream is a string here, and its records are
described by `x-item-schema`, as OpenAPI 3.2 does it by `itemSchema`.
"""

from typing import Any

import orjson

from gateway.http.media_types import BINARY, EVENT_STREAM, JSON, NDJSON
from gateway.openapi.examples import of_requests, of_responses
from gateway.openapi.problems import failure_record, problem
from gateway.openapi.schemas import Schemas
from gateway.openapi.values import Schema
from gateway.routing.bodies import BodyBinding
from gateway.routing.routes import Route

ITEM_SCHEMA = "x-item-schema"

Content = dict[str, dict[str, Any]]
"""By media type."""

_ANY_TYPE = "*/*"
_BYTES: Schema = {"type": "string", "format": "binary"}
_STRING: Schema = {"type": "string"}


class Contents:
    """Makes the contents of one document's operations."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._sent = of_requests(schemas.comments)
        self._received = of_responses(schemas.comments)

    def of_request(self, route: Route, body: BodyBinding) -> Content:
        """Return the content of a request; raw bytes may have any media type."""
        if body.raw:
            return {BINARY: {"schema": _BYTES}}
        schema, example = self._request_value(route, body)
        if route.rpc.client_streaming:
            # Bytes, because generated clients would encode a string as JSON.
            return {NDJSON: {"schema": _BYTES, ITEM_SCHEMA: schema, "example": _line(example)}}
        return {JSON: {"schema": schema, "example": example}}

    def of_response(self, route: Route) -> Content:
        """Return the content of a response."""
        if route.response.raw_type is not None:
            # What the body of another type is, such as JSON, is not known.
            return {BINARY: {"schema": _BYTES}, _ANY_TYPE: {}}
        message, field = route.rpc.descriptor.output_type, route.response.field
        if field is None:
            schema, example = self._schemas.message(message), self._received.message(message)
        else:
            schema, example = self._schemas.field(field), self._received.field(field)
        if route.rpc.server_streaming:
            return self._stream(schema, example)
        return {JSON: {"schema": schema, "example": example}}

    def _request_value(self, route: Route, body: BodyBinding) -> tuple[Schema, Any]:
        if body.field is not None:
            return self._schemas.field(body.field), self._sent.field(body.field)
        request = route.rpc.descriptor.input_type
        bound = bound_fields(route)
        example = self._sent.message(request, bound)
        if bound:
            return self._schemas.object_of(request, bound), example
        return self._schemas.message(request), example

    def _stream(self, schema: Schema, example: Any) -> Content:
        """Return the formats of a stream, the default first."""
        record = {"anyOf": [schema, failure_record(self._schemas)]}
        line = _line(example)
        return {
            NDJSON: {"schema": _STRING, ITEM_SCHEMA: record, "example": line},
            EVENT_STREAM: {
                "schema": _STRING,
                ITEM_SCHEMA: _event(schema, problem(self._schemas)),
                "example": f"data: {line}\nevent: end\nid: $end\ndata: {{}}\n\n",
            },
            JSON: {"schema": {"type": "array", "items": record}, "example": [example]},
        }


def bound_fields(route: Route) -> frozenset[str]:
    """Return the names of the fields that the path sets, which a body of the whole may omit."""
    paths = (parameter.names for parameter in route.variables.values())
    return frozenset(names[0] for names in paths if len(names) == 1)


def _event(response: Schema, failure: Schema) -> Schema:
    """Return the schema of an event; EventSource calls an event without a name `message`."""
    document = {"type": "string", "contentMediaType": JSON}
    data_by_name = {
        "message": {**document, "contentSchema": response},
        "problem": {**document, "contentSchema": failure},
        "end": {"const": "{}"},
    }
    return {
        "type": "object",
        "description": "A `message` has a response, a `problem` the reason of a failure, and `end`"
        " marks a complete stream.",
        "properties": {
            "event": {"type": "string", "default": "message"},
            "id": {"type": "string"},
            "retry": {"type": "integer"},
        },
        "required": ["data"],
        "anyOf": [
            {"properties": {"event": {"const": name}, "data": data}}
            for name, data in data_by_name.items()
        ],
    }


def _line(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE).decode()
