"""What a client of the gateway is told when something fails: RFC 9457 problems.

A gRPC status becomes a problem by the canonical table of google/rpc/code.proto. Whatever goes wrong
in the gateway itself is raised as a `Problem` too, so that both look alike.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import grpc
import orjson
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from chassis.status import HTTP_STATUS
from gateway.http.metadata import failure_headers

PROBLEM_JSON = "application/problem+json"
STATUS_DETAILS_KEY = "grpc-status-details-bin"

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
"""The canonical table (google/rpc/code.proto)."""

RESPONSE_TOO_LARGE = "RESPONSE_TOO_LARGE"
"""The reason of a problem whose request took effect, and whose response cannot be relayed."""

_CLIENT_CLOSED_REQUEST = 499
_LARGER_THAN_MAX = re.compile(r"(?:CLIENT: Received|SERVER: Sent) message larger than max \(\d+ vs")
"""gRPC's message for a response that is over the limit of the channel or of the server. The code
alone does not tell: services use RESOURCE_EXHAUSTED for quotas."""
_VAGUE_DETAILS: Mapping[str, str] = {
    "UNAVAILABLE": "The service cannot be reached. The same request may succeed later.",
    "DEADLINE_EXCEEDED": "There was not enough time. Whether the request took effect is unknown.",
    "CANCELLED": "The request was cancelled.",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """A field of the request, by its path, and what is wrong with it."""

    field: str
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
        """Return the problem as a JSON object; what is empty is left out."""
        whole: dict[str, object] = {
            "type": "about:blank",
            "title": _title(self.status),
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
    """Return the problem of a request that cannot be understood."""
    return Problem(status, "INVALID_ARGUMENT", detail, reason)


def invalid_field(field: str, rule: str, reason: str, *, status: int = 400) -> Problem:
    """Return the problem of a field or parameter that breaks a rule ("must ...").

    `field` is its path; empty is the whole of a body, or a parameter without a name.
    """
    if not field:
        return invalid_argument(f"The request {rule}.", reason, status=status)
    errors = (FieldError(field, rule),)
    return Problem(status, "INVALID_ARGUMENT", f"{field}: {rule}", reason, errors)


def from_rpc_error(error: grpc.aio.AioRpcError) -> Problem:
    """Return the problem of a call that failed."""
    if _LARGER_THAN_MAX.search(error.details() or "") is not None:
        return _response_too_large()
    trailing = error.trailing_metadata()
    problem = from_status(error.code(), error.details() or "", trailing)
    sent = failure_headers(error.initial_metadata() or (), trailing or ())
    problem.headers = {**problem.headers, **sent}
    return problem


def from_status(code: grpc.StatusCode, message: str, trailing: grpc.aio.Metadata | None) -> Problem:
    """Return the problem of a status that is not OK.

    The message of a failure on the server's side is shown only where the service vouches for it
    with an ErrorInfo: what gRPC itself says there names addresses, and what a framework says there
    names code.
    """
    details = _Details(trailing)
    info = details.info
    metadata = dict(info.metadata)
    status = _asked_status(metadata.pop(HTTP_STATUS, "")) or HTTP_STATUSES[code.name]
    vouched = info.reason or (status < 500 and status != _CLIENT_CLOSED_REQUEST)
    vague = _VAGUE_DETAILS.get(code.name, "Something went wrong.")
    return Problem(
        status=status,
        code=code.name,
        detail=message if vouched and message else vague,
        reason=info.reason,
        errors=tuple(
            FieldError(found.field, found.description) for found in details.bad.field_violations
        ),
        metadata=metadata,
        headers=_headers(status, details.retry),
    )


def _asked_status(text: str) -> int | None:
    """Return the HTTP status that a service asks for; only a client error may be asked for."""
    status = int(text) if text.isascii() and text.isdecimal() and len(text) == 3 else 0
    return status if 400 <= status <= 499 else None


class _Details:
    """The standard error details of a status, each empty where it is absent."""

    def __init__(self, trailing: grpc.aio.Metadata | None) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.bad = error_details_pb2.BadRequest()
        self.retry = error_details_pb2.RetryInfo()
        known: tuple[Message, ...] = (self.info, self.bad, self.retry)
        for detail in _status_of(trailing).details:
            for message in known:
                if detail.TypeName() == message.DESCRIPTOR.full_name:
                    _unpack(detail.value, message)


def _status_of(trailing: grpc.aio.Metadata | None) -> status_pb2.Status:
    status = status_pb2.Status()
    for key, value in trailing or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            _unpack(value, status)
    return status


def _unpack(data: bytes, message: Message) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        # The status code and message of a service with broken details are still worth showing.
        message.Clear()


def _headers(status: int, retry: error_details_pb2.RetryInfo) -> dict[str, str]:
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if retry.HasField("retry_delay"):
        seconds = retry.retry_delay.seconds + (retry.retry_delay.nanos > 0)
        headers["Retry-After"] = str(max(0, seconds))
    return headers


def _title(status: int) -> str:
    if status == _CLIENT_CLOSED_REQUEST:
        return "Client Closed Request"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _response_too_large() -> Problem:
    """Return the problem of a call that succeeded, but whose response could not be sent."""
    detail = (
        "The response is larger than the gateway relays. What was asked for has been done;"
        " repeating the request gives the same result."
    )
    return Problem(500, "INTERNAL", detail, RESPONSE_TOO_LARGE)


def internal() -> Problem:
    """Return the problem of a defect, of which a client is told nothing."""
    return Problem(500, "INTERNAL", "Something went wrong.")
