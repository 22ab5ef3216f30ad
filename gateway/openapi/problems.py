"""Problems in a document: their schema, their response, and the last record of a failed stream."""

from typing import Any

from gateway.http.problems import HTTP_STATUSES, PROBLEM_JSON, FieldError, Problem
from gateway.openapi.schemas import Schemas
from gateway.openapi.values import Schema

COMMON_RESPONSE = "Problem"
"""The name of the response to any failure."""

LIMITED_RESPONSE = "TooManyRequests"
"""The name of the response to a client that sends too many requests."""

_STRING: Schema = {"type": "string"}
_EXAMPLE = Problem(
    status=400,
    code="INVALID_ARGUMENT",
    detail="name: must be a string",
    reason="INVALID_FIELD",
    errors=(FieldError("name", "must be a string"),),
)


def problem(schemas: Schemas) -> Schema:
    """Return a reference to the schema of a problem."""
    return schemas.refer("gateway.Problem", _problem)


def failure_record(schemas: Schemas) -> Schema:
    """Return a reference to the schema of the last record of a stream that failed."""
    return schemas.refer(
        "gateway.Failure",
        lambda: {
            "type": "object",
            "description": "The last record of a stream that fails after it began.",
            "properties": {"error": problem(schemas)},
            "required": ["error"],
            "additionalProperties": False,
        },
    )


def common_response(schemas: Schemas) -> dict[str, Any]:
    """Return the response to any failure."""
    return {
        "description": "What went wrong. `code` is the kind of failure; the status may be more"
        " precise than is usual for that code.",
        "content": {PROBLEM_JSON: {"schema": problem(schemas), "example": _EXAMPLE.as_object()}},
    }


def limited_response(schemas: Schemas) -> dict[str, Any]:
    """Return the response to a client that sends too many requests."""
    return {
        "description": "`RESOURCE_EXHAUSTED` (reason RATE_LIMITED) if the client or the account has"
        " made too many requests. The RateLimit headers are on other responses too.",
        "headers": {
            "RateLimit": _header("What is left of each quota: requests `r` for `t` seconds."),
            "RateLimit-Policy": _header("Each quota: `q` requests in a window of `w` seconds."),
            "Retry-After": _header("After how many seconds the request may succeed."),
        },
        "content": {PROBLEM_JSON: {"schema": problem(schemas)}},
    }


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": _STRING}


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
                "description": "What went wrong, for programs: UPPER_SNAKE_CASE, and stable.",
            },
            "errors": {
                "type": "array",
                "description": "The fields that break a rule.",
                "items": {
                    "type": "object",
                    "properties": {"field": _STRING, "description": _STRING},
                    "required": ["field", "description"],
                    "additionalProperties": False,
                },
            },
            "metadata": {
                "type": "object",
                "description": "Details for programs, by name.",
                "additionalProperties": _STRING,
            },
        },
        "required": ["type", "title", "status", "code"],
        "additionalProperties": False,
    }
