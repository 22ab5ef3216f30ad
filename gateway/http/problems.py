"""Failures as clients see them: RFC 9457 problems.

Failures of the gateway itself are raised as a `Problem`, and failed calls become one (`statuses`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson

PROBLEM_JSON = "application/problem+json"

HTTP_STATUSES: Mapping[str, int] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
"""The HTTP status of each gRPC status code but OK (google/rpc/code.proto)."""

CLIENT_CLOSED_REQUEST = 499

_TITLES = {CLIENT_CLOSED_REQUEST: "Client Closed Request"} | {
    int(status): status.phrase for status in HTTPStatus
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """A field of the request and the rule that it breaks."""

    field: str
    """The path of the field, or the name of the parameter."""
    description: str


@dataclass(eq=False)
class Problem(Exception):
    """A failure as a client sees it.

    `code` is the name of a gRPC status code; `reason` is UPPER_SNAKE and stable, for programs;
    `detail` is for people and holds nothing internal.
    """

    status: int
    code: str
    detail: str
    reason: str = ""
    errors: Sequence[FieldError] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_object(self) -> dict[str, object]:
        """Return the problem as a JSON object without its empty members."""
        whole: dict[str, object] = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "reason": self.reason,
            "errors": [{"field": at.field, "description": at.description} for at in self.errors],
            "metadata": dict(self.metadata),
        }
        return {name: value for name, value in whole.items() if value not in ("", [], {})}

    def as_json(self) -> bytes:
        """Return the body of a problem response."""
        return orjson.dumps(self.as_object())


def invalid_argument(detail: str, reason: str, *, status: int = 400) -> Problem:
    """Return the problem of a request that is not valid."""
    return Problem(status, "INVALID_ARGUMENT", detail, reason)


def invalid_field(field: str, rule: str, reason: str, *, status: int = 400) -> Problem:
    """Return the problem of a field or parameter that breaks a rule ("must ...").

    `field` is its path, or empty for a whole body and for a parameter without a name.
    """
    if not field:
        return invalid_argument(f"The request {rule}.", reason, status=status)
    errors = (FieldError(field, rule),)
    return Problem(status, "INVALID_ARGUMENT", f"{field}: {rule}", reason, errors)


def unavailable(detail: str, reason: str, *, retry_seconds: int) -> Problem:
    """Return the problem of a request that the gateway cannot serve for now."""
    headers = {"Retry-After": str(retry_seconds)}
    return Problem(503, "UNAVAILABLE", detail, reason, headers=headers)


def internal() -> Problem:
    """Return the problem of a defect, without details."""
    return Problem(500, "INTERNAL", "Something went wrong.")
