"""The OpenAPI document of a descriptor set, made once from its routes and comments.

Routes that OpenAPI cannot describe correctly are left out, and listed with the reason.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.openapi.access import SCHEME
from gateway.openapi.comments import Comments
from gateway.openapi.info import make_info
from gateway.openapi.operations import Operations
from gateway.openapi.paths import REST, path_parameters, shape_of, write_path
from gateway.openapi.problems import (
    COMMON_RESPONSE,
    LIMITED_RESPONSE,
    common_response,
    limited_response,
)
from gateway.openapi.schemas import Schemas
from gateway.routing.names import shortest_names
from gateway.routing.routes import Route
from gateway.routing.templates import ANY_METHOD, PathTree
from gateway.upstream.descriptors import DescriptorSet

VERSION = "3.1.0"
UNLISTED = "x-unlisted-routes"

_METHODS = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
"""The methods that a path item of OpenAPI 3.1 can have."""

_AUTHORIZATION_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token, which is forwarded to the service; the service may require it.",
}

Part = dict[str, Any]
"""A part of the document."""


def make_document(descriptors: DescriptorSet, tree: PathTree[Route]) -> Part:
    """Return the OpenAPI 3.1 document of the routes; the same for the same descriptor set."""
    routes = tree.targets
    comments = Comments(descriptors.files)
    methods = [route.rpc.descriptor for route in routes]
    schemas = Schemas(
        comments,
        requests=[method.input_type for method in methods],
        responses=[method.output_type for method in methods],
    )
    tags = shortest_names(route.rpc.service for route in routes)
    reasons = _reasons(routes)
    return {
        "openapi": VERSION,
        "info": make_info(descriptors, tags, comments),
        "servers": [{"url": "/"}],
        "security": [{}, {SCHEME: []}],
        "tags": [_tag(tag, comments.of(service)) for service, tag in tags.items()],
        "paths": _paths(routes, reasons, tags, Operations(schemas)),
        "components": {
            "responses": {
                COMMON_RESPONSE: common_response(schemas),
                LIMITED_RESPONSE: limited_response(schemas),
            },
            "schemas": schemas.components(),
            "securitySchemes": {SCHEME: _AUTHORIZATION_SCHEME},
        },
        UNLISTED: [_unlisted(route, why) for route, why in reasons.items()],
    }


def _tag(name: str, comment: str) -> dict[str, str]:
    return {"name": name, "description": comment} if comment else {"name": name}


def _paths(
    routes: Iterable[Route],
    unlisted: Container[Route],
    tags: Mapping[str, str],
    operations: Operations,
) -> dict[str, Part]:
    """Return the operations by path and HTTP method, in the order of the descriptors."""
    paths: dict[str, Part] = {}
    names: dict[str, list[str]] = {}
    for route, operation_id in _numbered(routes, tags):
        if route in unlisted:
            continue
        parameters = path_parameters(route)
        # To OpenAPI, paths that differ only in the names of their parameters are equal.
        shared = names.setdefault(shape_of(route.template), [at.name for at in parameters])
        renamed = [replace(at, name=name) for at, name in zip(parameters, shared, strict=True)]
        item = paths.setdefault(write_path(route.template, shared), {})
        tag = tags[route.rpc.service]
        item[route.http_method.lower()] = operations.make(route, operation_id, tag, renamed)
    return paths


def _numbered(routes: Iterable[Route], tags: Mapping[str, str]) -> Iterator[tuple[Route, str]]:
    """Yield each route with its operationId: Service_Method, numbered from a second binding on."""
    bindings: Counter[str] = Counter()
    for route in routes:
        bindings[route.rpc.name] += 1
        number = bindings[route.rpc.name]
        service = tags[route.rpc.service].replace(".", "_")
        name = f"{service}_{route.rpc.descriptor.name}"
        yield route, name if number == 1 else f"{name}_{number}"


def _reasons(routes: Sequence[Route]) -> dict[Route, str]:
    """Return the routes that the document cannot describe, each with the reason."""
    plain = {_key(route) for route in routes if REST not in route.template.segments}
    reasons = {}
    for route in routes:
        if route.http_method == ANY_METHOD:
            reasons[route] = "It takes any HTTP method, and OpenAPI names each."
        elif route.http_method not in _METHODS:
            reasons[route] = "OpenAPI 3.1 has no such HTTP method."
        elif REST in route.template.segments and _key(route) in plain:
            reasons[route] = "OpenAPI writes it like another path, which takes single segments."
    return reasons


def _key(route: Route) -> tuple[str, str]:
    return route.http_method, shape_of(route.template)


def _unlisted(route: Route, reason: str) -> dict[str, str]:
    return {
        "method": route.http_method,
        "path": route.template.text,
        "rpc": route.rpc.name,
        "reason": reason,
    }
