"""Failed gRPC calls as problems, by the canonical table of google/rpc/code.proto."""

import re
from collections.abc import Mapping
from http import HTTPStatus

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from chassis.status import HTTP_STATUS
from gateway.http.metadata import failure_headers
from gateway.http.problems import CLIENT_CLOSED_REQUEST, HTTP_STATUSES, FieldError, Problem

STATUS_DETAILS_KEY = "grpc-status-details-bin"

RESPONSE_TOO_LARGE = "RESPONSE_TOO_LARGE"
"""The reason of a problem whose request took effect, but whose response cannot be relayed."""

_LARGER_THAN_MAX = re.compile(r"(?:CLIENT: Received|SERVER: Sent) message larger than max \(\d+ vs")
"""gRPC's message for a response that exceeds the limit of the channel or of the server. Its code,
RESOURCE_EXHAUSTED, is ambiguous: services use it for quotas."""
_VAGUE_DETAILS: Mapping[str, str] = {
    "UNAVAILABLE": "The service cannot be reached. The same request may succeed later.",
    "DEADLINE_EXCEEDED": "There was not enough time. Whether the request took effect is unknown.",
    "CANCELLED": "The request was cancelled.",
}


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

    The message of a server error is shown only if the service vouches for it with an ErrorInfo:
    the messages of gRPC itself contain addresses, and those of frameworks contain code.
    """
    details = _Details(trailing)
    info = details.info
    metadata = dict(info.metadata)
    status = _requested_status(metadata.pop(HTTP_STATUS, "")) or HTTP_STATUSES[code.name]
    vouched = info.reason or (status < 500 and status != CLIENT_CLOSED_REQUEST)
    vague = _VAGUE_DETAILS.get(code.name, "Something went wrong.")
    return Problem(
        status=status,
        code=code.name,
        detail=message if vouched and message else vague,
        reason=info.reason,
        errors=tuple(
            FieldError(violation.field, violation.description)
            for violation in details.bad_request.field_violations
        ),
        metadata=metadata,
        headers=_headers(status, details.retry),
    )


def _requested_status(text: str) -> int | None:
    """Return the HTTP status that a service requests, if it is a client error."""
    status = int(text) if text.isascii() and text.isdecimal() and len(text) == 3 else 0
    return status if 400 <= status <= 499 else None


class _Details:
    """The standard error details of a status; those that it does not have are empty."""

    def __init__(self, trailing: grpc.aio.Metadata | None) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.retry = error_details_pb2.RetryInfo()
        known: tuple[Message, ...] = (self.info, self.bad_request, self.retry)
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
        # The code and message of a status are worth showing even if its details are malformed.
        message.Clear()


def _headers(status: int, retry: error_details_pb2.RetryInfo) -> dict[str, str]:
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if retry.HasField("retry_delay"):
        seconds = retry.retry_delay.seconds + (retry.retry_delay.nanos > 0)
        headers["Retry-After"] = str(max(0, seconds))
    return headers


def _response_too_large() -> Problem:
    """Return the problem of a call that succeeded, but whose response could not be sent."""
    detail = (
        "The response is larger than the gateway relays. The request took effect;"
        " repeating the request gives the same result."
    )
    return Problem(500, "INTERNAL", detail, RESPONSE_TOO_LARGE)
