"""Problems in a document: the schema of what every failure is answered with, and its record."""

from typing import Any

from gateway.http.problems import HTTP_STATUSES, PROBLEM_JSON, FieldError, Problem
from gateway.openapi.schemas import Schemas
from gateway.openapi.values import Schema

COMMON_RESPONSE = "Problem"
"""The name of the response that stands for any failure."""

_TEXT: Schema = {"type": "string"}
_EXAMPLE = Problem(
    status=400,
    code="INVALID_ARGUMENT",
    detail="name: must be a string",
    reason="INVALID_FIELD",
    errors=(FieldError("name", "must be a string"),),
)


def problem(schemas: Schemas) -> Schema:
    """Return a reference to the schema of a problem."""
    return schemas.own("Problem", _problem)


def failure_record(schemas: Schemas) -> Schema:
    """Return a reference to the schema of the record that ends a stream which failed."""
    return schemas.own(
        "Failure",
        lambda: {
            "type": "object",
            "description": "The last record of a stream that fails after it began.",
            "properties": {"error": problem(schemas)},
            "required": ["error"],
            "additionalProperties": False,
        },
    )


def problem_content(schemas: Schemas) -> dict[str, Any]:
    """Return the content of a response to a failure."""
    return {PROBLEM_JSON: {"schema": problem(schemas)}}


def common_response(schemas: Schemas) -> dict[str, Any]:
    """Return the response that stands for any failure."""
    return {
        "description": "What went wrong. `code` says what kind of failure it is; its status may be"
        " a more precise one than is usual for that code, if the service asks for it.",
        "content": {PROBLEM_JSON: {"schema": problem(schemas), "example": _EXAMPLE.as_object()}},
    }


def _problem() -> Schema:
    return {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {"type": "string", "description": "Always about:blank."},
            "title": {"type": "string", "description": "The HTTP status in words."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What went wrong, for people."},
            "code": {
                "type": "string",
                "description": "The gRPC status code.",
                "enum": list(HTTP_STATUSES),
            },
            "reason": {
                "type": "string",
                "description": "What went wrong, for programs: in capitals, and stable.",
            },
            "errors": {
                "type": "array",
                "description": "The fields that break a rule.",
                "items": {
                    "type": "object",
                    "properties": {"field": _TEXT, "description": _TEXT},
                    "required": ["field", "description"],
                    "additionalProperties": False,
                },
            },
            "metadata": {
                "type": "object",
                "description": "What it was about.",
                "additionalProperties": _TEXT,
            },
        },
        "required": ["type", "title", "status", "code"],
        "additionalProperties": False,
    }
