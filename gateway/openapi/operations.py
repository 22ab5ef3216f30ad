"""One route as an OpenAPI operation: its parameters, body and responses."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.descriptors import behaviors, is_map
from gateway.openapi.comments import Comments, first_sentence
from gateway.openapi.paths import PathParameter
from gateway.openapi.schemas import Schema, Schemas
from gateway.parameters import ParameterError, resolve
from gateway.routes import HTTP_BODY, Body, Route

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
PROBLEM_JSON = "application/problem+json"

MAX_QUERY_NAMES = 4
"""How many names a query parameter has at most in the document; the gateway takes longer ones."""

_RAW: Schema = {"type": "string", "format": "binary"}


class Operations:
    """Makes the operations of one document."""

    def __init__(self, schemas: Schemas, comments: Comments) -> None:
        self._schemas = schemas
        self._comments = comments

    def make(
        self, route: Route, operation_id: str, tag: str, path_parameters: Sequence[PathParameter]
    ) -> dict[str, Any]:
        """Return the operation of a route."""
        method = route.rpc.descriptor
        summary, description = first_sentence(self._comments.of(method.full_name))
        operation: dict[str, Any] = {"operationId": operation_id, "tags": [tag]}
        if summary:
            operation["summary"] = summary
        if description:
            operation["description"] = description
        if method.GetOptions().deprecated:
            operation["deprecated"] = True
        parameters = [self._path_parameter(route, at) for at in path_parameters]
        parameters.extend(self._query(route))
        if parameters:
            operation["parameters"] = parameters
        if route.body is not None:
            operation["requestBody"] = self._body(route, route.body)
        operation["responses"] = self._responses(route)
        return operation

    def _path_parameter(self, route: Route, at: PathParameter) -> dict[str, Any]:
        schema: Schema = {"type": "string"}
        description = ""
        if at.variable is not None:
            field = leaf_of(route.rpc.descriptor.input_type, at.variable.field_path)
            description = self._comments.of(field.full_name)
            if at.is_whole:
                schema = self._schemas.field(field)
        if schema.get("type") == "string":
            schema["minLength"] = 1
        return {
            "name": at.name,
            "in": "path",
            "required": True,
            **({"description": description} if description else {}),
            "schema": schema,
        }

    def _query(self, route: Route) -> Iterator[dict[str, Any]]:
        request = route.rpc.descriptor.input_type
        if route.body is not None and route.body.field is None:
            return
        bound = {parameter.path for parameter in route.variables.values()}
        if route.body is not None and route.body.field is not None:
            bound.add(route.body.field.name)
        for fields in _query_fields(request, bound):
            leaf = fields[-1]
            parameter: dict[str, Any] = {
                "name": ".".join(field.json_name for field in fields),
                "in": "query",
            }
            if comment := self._comments.of(leaf.full_name):
                parameter["description"] = comment
            if all("REQUIRED" in behaviors(field) for field in fields):
                parameter["required"] = True
            if leaf.GetOptions().deprecated:
                parameter["deprecated"] = True
            if leaf.is_repeated:
                parameter.update({"style": "form", "explode": True})
            parameter["schema"] = self._schemas.field(leaf)
            yield parameter

    def _body(self, route: Route, body: Body) -> dict[str, Any]:
        request = route.rpc.descriptor.input_type
        if body.raw:
            raw = {"schema": dict(_RAW)}
            return {"content": {"application/octet-stream": raw, "*/*": raw}}
        if body.field is not None:
            required = "REQUIRED" in behaviors(body.field)
            schema = self._schemas.field(body.field)
        else:
            bound = {at.names[0] for at in route.variables.values() if len(at.names) == 1}
            fields = [field for field in request.fields if field.name not in bound]
            required = any("REQUIRED" in behaviors(field) for field in fields)
            schema = (
                self._schemas.object_of(request, bound) if bound else self._schemas.message(request)
            )
        if route.rpc.client_streaming:
            return {
                "content": {NDJSON: {"schema": {"type": "string"}, "x-item-schema": schema}},
            }
        return {"required": required, "content": {JSON: {"schema": schema}}}

    def _responses(self, route: Route) -> dict[str, Any]:
        problem = {"$ref": "#/components/responses/Problem"}
        if route.returns_nothing and not route.rpc.server_streaming:
            return {"204": {"description": "Done."}, "default": problem}
        return {"200": {"description": "OK.", "content": self._content(route)}, "default": problem}

    def _content(self, route: Route) -> dict[str, Any]:
        if route.returns_raw:
            raw = {"schema": dict(_RAW)}
            return {"application/octet-stream": raw, "*/*": raw}
        field = route.response_field
        schema = (
            self._schemas.message(route.rpc.descriptor.output_type)
            if field is None
            else self._schemas.field(field)
        )
        if not route.rpc.server_streaming:
            return {JSON: {"schema": schema}}
        text = {"schema": {"type": "string"}, "x-item-schema": schema}
        return {NDJSON: text}


def leaf_of(message: Descriptor, field_path: str) -> FieldDescriptor:
    """Return the field that a path of proto or JSON names leads to."""
    *parents, last = resolve(message, field_path).names
    for name in parents:
        message = cast("Descriptor", message.fields_by_name[name].message_type)
    return message.fields_by_name[last]


def _query_fields(
    request: Descriptor, bound: set[str], parents: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield the way to each field that a query may set; a message is not entered within itself."""
    message = cast("Descriptor", parents[-1].message_type) if parents else request
    for field in message.fields:
        way = (*parents, field)
        path = ".".join(at.name for at in way)
        if path in bound or "OUTPUT_ONLY" in behaviors(field):
            continue
        inner = field.message_type
        try:
            resolve(request, path)
        except ParameterError:
            if (
                inner is not None
                and not field.is_repeated
                and not is_map(field)
                and inner.full_name not in _entered(request, parents)
                and inner.file.package != "google.protobuf"
                and inner.full_name != HTTP_BODY
                and len(way) < MAX_QUERY_NAMES
            ):
                yield from _query_fields(request, bound, way)
        else:
            yield way


def _entered(request: Descriptor, parents: Sequence[FieldDescriptor]) -> set[str]:
    inner = (field.message_type for field in parents)
    return {request.full_name, *(kind.full_name for kind in inner if kind is not None)}
