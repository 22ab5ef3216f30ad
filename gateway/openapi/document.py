"""The OpenAPI document of a descriptor set, made once from its routes and comments.

What one operation or one schema looks like is not decided here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.descriptors import DescriptorSet
from gateway.openapi.comments import Comments
from gateway.openapi.operations import PROBLEM_JSON, Operations
from gateway.openapi.paths import path_parameters, shape_of, write_path
from gateway.openapi.schemas import Schemas, shortest_names
from gateway.routes import Route
from gateway.templates import PathTree

VERSION = "3.1.0"
METHODS = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
"""What a path item of OpenAPI 3.1 has operations for."""


def make_document(descriptors: DescriptorSet, routes: PathTree[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes."""
    comments = Comments(descriptors.files)
    types = [route.rpc.descriptor for route in routes.targets]
    schemas = Schemas(
        comments,
        sent=[method.input_type for method in types],
        answered=[method.output_type for method in types],
    )
    operations = Operations(schemas, comments)
    tags = shortest_names({route.rpc.service for route in routes.targets})
    paths: dict[str, dict[str, Any]] = {}
    unlisted: list[dict[str, str]] = []
    names_by_shape: dict[str, list[str]] = {}
    for route, operation_id in _numbered(routes, tags):
        if route.http_method not in METHODS:
            unlisted.append(_unlisted(route, "OpenAPI 3.1 has no such method."))
            continue
        parameters = path_parameters(route.template, route.rpc.descriptor.input_type)
        shape = shape_of(route.template)
        names = names_by_shape.setdefault(shape, [at.name for at in parameters])
        text = write_path(route.template, names)
        item = paths.setdefault(text, {})
        operation = operations.make(route, operation_id, tags[route.rpc.service], parameters)
        item[route.http_method.lower()] = operation
    return {
        "openapi": VERSION,
        "info": {"title": "API", "version": "1"},
        "servers": [{"url": "/"}],
        "tags": [
            {"name": tag, "description": comments.of(service)} for service, tag in tags.items()
        ],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components(), "Problem": _problem()},
            "responses": {
                "Problem": {
                    "description": "What went wrong (RFC 9457).",
                    "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
        "x-unlisted-routes": unlisted,
    }


def _numbered(routes: PathTree[Route], tags: Mapping[str, str]) -> Iterator[tuple[Route, str]]:
    counts: dict[str, int] = {}
    for route in routes.targets:
        count = counts[route.rpc.name] = counts.get(route.rpc.name, 0) + 1
        name = f"{tags[route.rpc.service]}_{route.rpc.descriptor.name}"
        yield route, name if count == 1 else f"{name}_{count}"


def _unlisted(route: Route, reason: str) -> dict[str, str]:
    return {
        "method": route.http_method,
        "path": route.template.text,
        "rpc": route.rpc.name,
        "reason": reason,
    }


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "code": text,
            "reason": text,
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"field": text, "description": text},
                    "required": ["field", "description"],
                    "additionalProperties": False,
                },
            },
            "metadata": {"type": "object", "additionalProperties": text},
        },
        "required": ["type", "title", "status", "code"],
        "additionalProperties": False,
    }
