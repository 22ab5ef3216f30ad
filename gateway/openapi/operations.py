"""One route as an OpenAPI operation."""

from collections.abc import Sequence
from typing import Any

from gateway.openapi.access import describe_callers, security
from gateway.openapi.comments import first_sentence
from gateway.openapi.contents import Contents, bound_fields
from gateway.openapi.headers import header_parameters
from gateway.openapi.parameters import Parameters
from gateway.openapi.paths import PathParameter
from gateway.openapi.responses import failures, successes
from gateway.openapi.schemas import Schemas
from gateway.routing.bodies import BodyBinding
from gateway.routing.fields import behaviors
from gateway.routing.routes import Route

Operation = dict[str, Any]


class Operations:
    """Makes the operations of one document."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._parameters = Parameters(schemas)
        self._contents = Contents(schemas)

    def make(
        self, route: Route, operation_id: str, tag: str, path: Sequence[PathParameter]
    ) -> Operation:
        """Return the operation of a route whose path has the parameters `path`."""
        operation: Operation = {"operationId": operation_id, "tags": [tag], **self._summary(route)}
        parameters = [
            *(self._parameters.in_path(at) for at in path),
            *self._parameters.in_query(route),
            *header_parameters(route),
        ]
        if parameters:
            operation["parameters"] = parameters
        if route.body is not None:
            operation["requestBody"] = self._body(route, route.body)
        operation |= security(route)
        operation["responses"] = {
            **successes(route, self._contents),
            **failures(route, self._schemas),
        }
        return operation

    def _summary(self, route: Route) -> Operation:
        """Return summary and description of an operation, and whether it is deprecated."""
        method = route.rpc.descriptor
        summary, description = first_sentence(self._schemas.comments.of(method.full_name))
        if route.rpc.callers:
            callers = describe_callers(route, self._schemas.comments)
            description = f"{description}\n\n{callers}".strip()
        texts: Operation = {"summary": summary, "description": description}
        texts["deprecated"] = method.GetOptions().deprecated
        return {name: value for name, value in texts.items() if value}

    def _body(self, route: Route, body: BodyBinding) -> Operation:
        part: Operation = {"content": self._contents.of_request(route, body)}
        if body.raw:
            return {"description": "Any bytes, with any Content-Type.", **part}
        if route.rpc.client_streaming:
            return {"description": "A line of JSON for each message.", **part}
        return {**part, "required": True} if _is_required(route, body) else part


def _is_required(route: Route, body: BodyBinding) -> bool:
    """Return whether a body must not be empty; an empty one is an empty message."""
    if body.field is not None:
        return "REQUIRED" in behaviors(body.field)
    bound = bound_fields(route)
    fields = route.rpc.descriptor.input_type.fields
    return any("REQUIRED" in behaviors(field) for field in fields if field.name not in bound)
