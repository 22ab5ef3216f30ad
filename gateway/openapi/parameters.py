"""The parameters of an operation in path and query."""

from collections.abc import Iterator
from typing import Any

from gateway.openapi.examples import of_requests
from gateway.openapi.paths import PathParameter
from gateway.openapi.schemas import Schemas, exclusion
from gateway.openapi.values import Schema
from gateway.routing.fields import behaviors
from gateway.routing.query_fields import FieldPath, query_fields
from gateway.routing.routes import Route
from gateway.routing.update_mask import UPDATE_MASK

Parameter = dict[str, Any]


class Parameters:
    """Makes the parameters of the operations of one document."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._comments = schemas.comments
        self._examples = of_requests(schemas.comments)

    def in_path(self, at: PathParameter) -> Parameter:
        """Return a parameter for a segment of the path."""
        parameter: Parameter = {"name": at.name, "in": "path", "required": True}
        if description := self._path_description(at):
            parameter["description"] = description
        schema: Schema = {"type": "string"}
        if at.field is not None and at.variable is None:
            schema = self._schemas.field(at.field)
            parameter["example"] = self._examples.field(at.field)
        if schema.get("type") == "string" and schema.get("format", "uuid") == "uuid":
            schema.setdefault("minLength", 1)
        parameter["schema"] = schema
        return parameter

    def in_query(self, route: Route) -> Iterator[Parameter]:
        """Yield the query parameters; fields of nested messages are named with dots."""
        return (self._query_parameter(route, path) for path in query_fields(route))

    def _query_parameter(self, route: Route, path: FieldPath) -> Parameter:
        field = path[-1]
        name = ".".join(at.json_name for at in path)
        parameter: Parameter = {"name": name, "in": "query"}
        if description := self._query_description(route, path):
            parameter["description"] = description
        if all("REQUIRED" in behaviors(at) for at in path):
            parameter["required"] = True
            parameter["example"] = self._examples.field(field)
        if any(at.GetOptions().deprecated for at in path):
            parameter["deprecated"] = True
        if field.is_repeated:
            parameter.update({"style": "form", "explode": True})
        return {**parameter, "schema": self._schemas.field(field)}

    def _path_description(self, at: PathParameter) -> str:
        parts = []
        if at.field is not None:
            parts.append(self._comments.of(at.field.full_name))
        if at.variable is not None:
            parts.append(f"A part of `{at.variable.field_path}`.")
        if at.takes_rest:
            parts.append(
                "One segment; the gateway takes more, but OpenAPI has no value with slashes."
            )
        return " ".join(filter(None, parts))

    def _query_description(self, route: Route, path: FieldPath) -> str:
        parts = [self._comments.of(path[-1].full_name)]
        if len(path) == 1 and path[0].name == UPDATE_MASK and route.body and route.body.update_mask:
            parts.append("Without it, the fields in the body are changed.")
        parts.extend(exclusion(field) for field in path)
        return " ".join(filter(None, parts))
