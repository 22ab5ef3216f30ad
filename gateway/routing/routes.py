"""Http rules as routes, compiled once before anything listens.

A route holds whatever an answer to a request needs and the request itself does not say. How a
request is read, the call made and the answer written is decided elsewhere.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from google.api import http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.routing.location import Location, compile_location
from gateway.routing.parameters import Parameter, ParameterError, Query, resolve
from gateway.routing.preconditions import Preconditions, compile_preconditions
from gateway.routing.templates import (
    ANY_METHOD,
    Match,
    PathTree,
    Template,
    TemplateError,
    parse_template,
)
from gateway.routing.update_mask import UPDATE_MASK, UpdateMask
from gateway.upstream.descriptors import DescriptorSet, DescriptorSetError, Method, find_field

HTTP_BODY = "google.api.HttpBody"
EMPTY = "google.protobuf.Empty"
FIELD_MASK = "google.protobuf.FieldMask"
VALIDATE_ONLY = "validate_only"


@dataclass(frozen=True, slots=True)
class Body:
    """What the body of a request becomes: the whole message, or one field of it."""

    field: FieldDescriptor | None
    raw: bool
    """It is a google.api.HttpBody: bytes as they come, of any content type."""
    update_mask: UpdateMask | None
    """Fills an `update_mask` that is not given, if there is one beside the body."""

    @property
    def masked(self) -> bool:
        """Whether an `update_mask` that is not given is filled."""
        return self.update_mask is not None


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
    returns_raw: bool
    """Answers are bytes with a content type of their own."""
    returns_nothing: bool
    """Answers have no content."""
    location: Location | None
    """Where that is which the RPC creates, if it creates something."""
    may_validate_only: bool
    """A request has `validate_only`, which says that nothing is to be done (AIP-163)."""
    preconditions: Preconditions

    def only_validates(self, request: Message) -> bool:
        """Say whether a request asks only what would happen."""
        return self.may_validate_only and bool(getattr(request, VALIDATE_ONLY))


def compile_routes(descriptors: DescriptorSet, own_paths: Collection[str] = ()) -> PathTree[Route]:
    """Compile every http rule of a descriptor set.

    A rule whose path is one of the gateway's `own_paths` is refused. A template with a wildcard may
    match one too: the gateway's own route wins there, as any literal does.

    Raises:
        DescriptorSetError: a rule cannot be served; the message names the RPC and says why.
    """
    routes: PathTree[Route] = PathTree()
    for rpc in descriptors.methods():
        try:
            for rule in _bindings(rpc.rule):
                _add(routes, _compile(rpc, rule), own_paths)
        except (TemplateError, ParameterError) as error:
            raise DescriptorSetError(f"{rpc.name}: {error}") from error
    for route in routes.targets:
        _check_location(route, routes)
    _serve_head(routes)
    return routes


def _add(routes: PathTree[Route], route: Route, own_paths: Collection[str]) -> None:
    template = route.template
    path = "/" + "/".join(template.segments)
    if path in own_paths and not template.verb:
        raise TemplateError(f"{path} is the gateway's own, whatever the method")
    other = routes.add(route.http_method, template, route)
    if other is not None:
        raise TemplateError(
            f"{route.http_method} {template.text}: {other.rpc.name} takes the same requests"
            f" with {other.template.text}"
        )


def _serve_head(routes: PathTree[Route]) -> None:
    """Let HEAD do what GET does (RFC 9110 §9.3.2), but for streams.

    The headers of a stream are known only when its call has begun, and a HEAD request has no body
    whose end would end the call.
    """
    for method in ("GET", ANY_METHOD):
        for route in routes.targets:
            if route.http_method == method and not route.rpc.server_streaming:
                routes.add_fallback("HEAD", route.template, route)


def _bindings(rule: http_pb2.HttpRule) -> Iterator[http_pb2.HttpRule]:
    yield rule
    for additional in rule.additional_bindings:
        if additional.additional_bindings:
            raise TemplateError("additional_bindings must not nest")
        yield additional


def _compile(rpc: Method, rule: http_pb2.HttpRule) -> Route:
    http_method, template = _pattern(rule)
    if http_method == "HEAD" and rpc.server_streaming:
        raise TemplateError(f"HEAD {template.text}: its response has no body to stream in")
    request, answer = rpc.descriptor.input_type, rpc.descriptor.output_type
    variables = {
        variable.field_path: _variable(request, variable.field_path)
        for variable in template.variables
    }
    bound = [parameter.path for parameter in variables.values()]
    body = _body(rpc, rule, http_method, bound)
    if body is not None:
        # With "*" every field that the path does not bind belongs to the body.
        names = [field.name for field in request.fields]
        bound.extend(names if body.field is None else [body.field.name])
    result = _named_field(answer, rule.response_body)
    shown = answer if result is None or result.is_repeated else result.message_type
    return Route(
        rpc=rpc,
        http_method=http_method,
        template=template,
        variables=variables,
        query=Query(request, bound),
        body=body,
        response_field=result,
        returns_raw=shown is not None and shown.full_name == HTTP_BODY,
        returns_nothing=result is None and answer.full_name == EMPTY,
        location=compile_location(answer, rpc.location) if rpc.location else None,
        may_validate_only=_is_flag(request.fields_by_name.get(VALIDATE_ONLY)),
        preconditions=compile_preconditions(
            rpc, http_method, None if body is None else body.field, result
        ),
    )


def _is_flag(field: FieldDescriptor | None) -> bool:
    return field is not None and field.type == FieldDescriptor.TYPE_BOOL and not field.is_repeated


def _check_location(route: Route, routes: PathTree[Route]) -> None:
    """Refuse a location that leads nowhere, and one where nothing is created."""
    if route.location is None:
        return
    name, location = route.rpc.name, route.rpc.location
    if route.rpc.server_streaming or route.http_method == "GET":
        raise DescriptorSetError(f"{name}: a stream or a GET creates nothing at {location}")
    if not isinstance(routes.find("GET", route.location.sample), Match):
        raise DescriptorSetError(f"{name}: no GET is served at its location {location}")


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


def _body(
    rpc: Method, rule: http_pb2.HttpRule, http_method: str, bound: Iterable[str]
) -> Body | None:
    request = rpc.descriptor.input_type
    if not rule.body:
        if rpc.client_streaming:
            raise TemplateError("a stream of requests needs a body")
        return None
    field = None if rule.body == "*" else _named_field(request, rule.body)
    kind = request if field is None else field.message_type
    raw = kind is not None and kind.full_name == HTTP_BODY
    mask = None
    if http_method == "PATCH" and field is not None and _has_mask(request):
        mask = _update_mask(field, bound)
    return Body(field, raw, mask)


def _has_mask(request: Descriptor) -> bool:
    field = request.fields_by_name.get(UPDATE_MASK)
    kind = None if field is None else field.message_type
    return kind is not None and kind.full_name == FIELD_MASK


def _update_mask(field: FieldDescriptor, bound: Iterable[str]) -> UpdateMask | None:
    if field.message_type is None or field.is_repeated:
        return None
    prefix = f"{field.name}."
    within = [path.removeprefix(prefix) for path in bound if path.startswith(prefix)]
    return UpdateMask(field.message_type, within)


def _named_field(message: Descriptor, name: str) -> FieldDescriptor | None:
    if not name:
        return None
    field = find_field(message, name)
    if field is None:
        raise TemplateError(f"{message.full_name} has no field {name}")
    return field
