"""Http rules as routes, compiled once before anything listens.

A route holds everything about its requests and responses that does not depend on one of them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from google.api import http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.http.metadata import may_be_requested
from gateway.protojson.codec import JsonCodec
from gateway.routing.bodies import (
    BodyBinding,
    ResponseBody,
    compile_request_body,
    compile_response_body,
)
from gateway.routing.cookie import Cookie, compile_cookie
from gateway.routing.location import Location, compile_location
from gateway.routing.parameters import Parameter, ParameterError, Query, resolve
from gateway.routing.preconditions import Preconditions, compile_preconditions
from gateway.routing.rate_limit import RpcLimit, compile_rate_limit
from gateway.routing.resumption import Resumption, find_resumption
from gateway.routing.templates import (
    ANY_METHOD,
    Match,
    PathTree,
    Template,
    TemplateError,
    parse_template,
)
from gateway.upstream.descriptors import DescriptorSet, DescriptorSetError, Method

VALIDATE_ONLY = "validate_only"


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One binding of an RPC: an HTTP method and a path; equal to itself only."""

    rpc: Method
    http_method: str
    template: Template
    variables: Mapping[str, Parameter]
    """By their names in the template."""
    query: Query
    body: BodyBinding | None
    response: ResponseBody
    location: Location | None
    """The path of the resource that the RPC creates, if it creates one."""
    preconditions: Preconditions
    version: Callable[[Message], str] | None
    """Reads the version of a response that has an ETag; None where responses have none."""
    resumption: Resumption | None
    """How a client resumes the event stream; None where it cannot."""
    takes_idempotency_key: bool
    """A POST request with an Idempotency-Key is performed once."""
    may_validate_only: bool
    """Requests have `validate_only`, which means that nothing is to be done (AIP-163)."""
    rate_limit: RpcLimit | None
    """How often the RPC may be called, where it has a limit of its own."""
    cookie: Cookie | None
    """What browsers may keep in a cookie, where the RPC has such a secret."""

    def only_validates(self, request: Message) -> bool:
        """Return whether a request is to be validated only."""
        return self.may_validate_only and bool(getattr(request, VALIDATE_ONLY))


def compile_routes(descriptors: DescriptorSet, own_paths: Collection[str] = ()) -> PathTree[Route]:
    """Compile every http rule of a descriptor set.

    A rule whose path is one of the gateway's `own_paths` is refused. A template with a wildcard may
    match one of them: there the gateway's own route wins, as any literal does.

    Raises:
        DescriptorSetError: a rule cannot be served; the message names the RPC and the reason.
    """
    routes: PathTree[Route] = PathTree()
    codec = JsonCodec(descriptors.pool)
    for rpc in descriptors.methods():
        _check_headers(rpc)
        try:
            for rule in _bindings(rpc.rule):
                _add(routes, _compile(rpc, rule, codec), own_paths)
        except (TemplateError, ParameterError) as error:
            raise DescriptorSetError(f"{rpc.name}: {error}") from error
    for route in routes.targets:
        _check_location(route, routes)
    _serve_head(routes)
    return routes


def _check_headers(rpc: Method) -> None:
    for name in rpc.request_headers:
        if not may_be_requested(name):
            message = f"{rpc.name}: the header {name!r} cannot be passed on as metadata"
            raise DescriptorSetError(message)


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
    """Serve HEAD as GET (RFC 9110 §9.3.2), except for streams.

    The headers of a stream are known only when its call has begun, and the response to HEAD has no
    body whose end would end the call.
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


def _compile(rpc: Method, rule: http_pb2.HttpRule, codec: JsonCodec) -> Route:
    http_method, template = _pattern(rule)
    if http_method == "HEAD" and rpc.server_streaming:
        raise TemplateError(f"HEAD {template.text}: its response has no body to stream in")
    request, response = rpc.descriptor.input_type, rpc.descriptor.output_type
    variables = {
        variable.field_path: _variable(request, variable.field_path)
        for variable in template.variables
    }
    bound = [parameter.path for parameter in variables.values()]
    body = compile_request_body(rpc, rule, http_method, bound, codec)
    if body is not None:
        # With "*" every field that the path does not bind belongs to the body.
        names = [field.name for field in request.fields]
        bound.extend(names if body.field is None else [body.field.name])
    result = compile_response_body(response, rule.response_body, codec)
    sent_field = None if body is None else body.field
    preconditions = compile_preconditions(rpc, http_method, sent_field, result.field)
    streams = rpc.client_streaming or rpc.server_streaming
    return Route(
        rpc=rpc,
        http_method=http_method,
        template=template,
        variables=variables,
        query=Query(request, bound),
        body=body,
        response=result,
        location=compile_location(response, rpc.location) if rpc.location else None,
        preconditions=preconditions,
        version=preconditions.version if _is_tagged(rpc, http_method) else None,
        resumption=find_resumption(rpc) if result.raw_type is None else None,
        takes_idempotency_key=http_method in ("POST", ANY_METHOD)
        and not (streams or rpc.not_recorded),
        may_validate_only=_is_flag(request.fields_by_name.get(VALIDATE_ONLY)),
        rate_limit=compile_rate_limit(rpc),
        cookie=compile_cookie(rpc, template, result),
    )


def _is_tagged(rpc: Method, http_method: str) -> bool:
    """Return whether responses have the ETag of what they show.

    After a PUT, RFC 9110 §9.3.4 forbids it where the service may have changed what was sent. The
    response to any other method represents its target only if it was created.
    """
    creates = bool(rpc.location) and http_method != "PUT"
    return creates or http_method in ("GET", "PATCH")


def _is_flag(field: FieldDescriptor | None) -> bool:
    return field is not None and field.type == FieldDescriptor.TYPE_BOOL and not field.is_repeated


def _check_location(route: Route, routes: PathTree[Route]) -> None:
    """Refuse a location that no GET serves, and one of a method that creates nothing."""
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
