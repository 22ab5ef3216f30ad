"""Http options as routes: what an HTTP request means as a gRPC request, and an answer as a body.

Routes are compiled once, before anything listens. Nothing here waits: bodies come whole or line by
line from the caller, and the calls are made elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.api import http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.descriptors import (
    DescriptorSet,
    DescriptorSetError,
    Method,
    find_field,
    is_output_only,
)
from gateway.errors import invalid_argument
from gateway.json_codec import JsonCodec, given_paths, parse_json
from gateway.parameters import Parameter, ParameterError, Query, assign, resolve
from gateway.templates import PathTree, Template, TemplateError, parse_template

HTTP_BODY = "google.api.HttpBody"
EMPTY = "google.protobuf.Empty"
UPDATE_MASK = "update_mask"
ETAG = "etag"

QueryPairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Body:
    """What the body of a request becomes: the whole message, or one field of it."""

    field: FieldDescriptor | None
    raw: bool
    """It is a google.api.HttpBody: bytes as they come, of any content type."""
    masked: bool
    """An `update_mask` that is not given is filled with the fields of the body (AIP-134)."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One binding of an RPC: an HTTP method and a path; equal to itself only."""

    rpc: Method
    http_method: str
    template: Template
    variables: Mapping[str, Parameter]
    query: Query
    body: Body | None
    response_field: FieldDescriptor | None

    @property
    def returns_raw(self) -> bool:
        """Whether answers are bytes with a content type of their own."""
        return _result_type(self).full_name == HTTP_BODY

    @property
    def returns_nothing(self) -> bool:
        """Whether the answer has no content."""
        return self.response_field is None and self.rpc.descriptor.output_type.full_name == EMPTY


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


def compile_routes(descriptors: DescriptorSet) -> PathTree[Route]:
    """Compile every http rule of a descriptor set.

    Raises:
        DescriptorSetError: a rule cannot be served; the message names the RPC and says why.
    """
    routes: PathTree[Route] = PathTree()
    for rpc in descriptors.methods():
        try:
            for rule in _bindings(rpc.rule):
                route = _compile(rpc, rule)
                routes.add(route.http_method, route.template, route)
        except (TemplateError, ParameterError) as error:
            raise DescriptorSetError(f"{rpc.name}: {error}") from error
    return routes


def _bindings(rule: http_pb2.HttpRule) -> Iterator[http_pb2.HttpRule]:
    yield rule
    for additional in rule.additional_bindings:
        if additional.additional_bindings:
            raise TemplateError("additional_bindings must not nest")
        yield additional


def _compile(rpc: Method, rule: http_pb2.HttpRule) -> Route:
    http_method, template = _pattern(rule)
    request = rpc.descriptor.input_type
    variables = {
        variable.field_path: _variable(request, variable.field_path)
        for variable in template.variables
    }
    body = _body(rpc, rule, http_method)
    bound = [parameter.path for parameter in variables.values()]
    if body is not None:
        # With "*" every field that the path does not bind belongs to the body.
        names = [field.name for field in request.fields]
        bound.extend(names if body.field is None else [body.field.name])
    return Route(
        rpc=rpc,
        http_method=http_method,
        template=template,
        variables=variables,
        query=Query(request, bound),
        body=body,
        response_field=_named_field(rpc.descriptor.output_type, rule.response_body),
    )


def _pattern(rule: http_pb2.HttpRule) -> tuple[str, Template]:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise TemplateError("a binding has no pattern")
    if kind == "custom":
        return rule.custom.kind, parse_template(rule.custom.path)
    return kind.upper(), parse_template(getattr(rule, kind))


def _variable(request: Descriptor, path: str) -> Parameter:
    try:
        parameter = resolve(request, path)
    except ParameterError as error:
        raise ParameterError(f"the path variable {path} {error}") from error
    if parameter.repeated:
        raise ParameterError(f"the path variable {path} is repeated")
    return parameter


def _body(rpc: Method, rule: http_pb2.HttpRule, http_method: str) -> Body | None:
    request = rpc.descriptor.input_type
    if not rule.body:
        if rpc.client_streaming:
            raise TemplateError("a stream of requests needs a body")
        return None
    field = None if rule.body == "*" else _named_field(request, rule.body)
    kind = request if field is None else field.message_type
    masked = (
        http_method == "PATCH"
        and field is not None
        and field.message_type is not None
        and not field.is_repeated
        and UPDATE_MASK in request.fields_by_name
    )
    raw = kind is not None and kind.full_name == HTTP_BODY
    return Body(field=field, raw=raw, masked=masked)


def _named_field(message: Descriptor, name: str) -> FieldDescriptor | None:
    if not name:
        return None
    field = find_field(message, name)
    if field is None:
        raise TemplateError(f"{message.full_name} has no field {name}")
    return field


def _result_type(route: Route) -> Descriptor:
    field = route.response_field
    if field is None or field.message_type is None or field.is_repeated:
        return route.rpc.descriptor.output_type
    return field.message_type


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
