"""Failed gRPC calls as problems, by the canonical table of google/rpc/code.proto."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from chassis import status
from gateway.http.metadata import retry_headers
from gateway.http.problems import CLIENT_CLOSED_REQUEST, HTTP_STATUSES, FieldError, Problem

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
    message = error.details() or ""
    if _LARGER_THAN_MAX.search(message) is not None:
        # The call succeeded, and its response could not be sent.
        detail = (
            "The response is larger than the gateway relays. The request took effect;"
            " repeating the request gives the same result."
        )
        return Problem(500, "INTERNAL", detail, RESPONSE_TOO_LARGE)
    problem = from_status(error.code(), message, _sent_status(error))
    sent = retry_headers(error.initial_metadata() or (), error.trailing_metadata() or ())
    problem.headers = {**problem.headers, **sent}
    return problem


def from_status(code: grpc.StatusCode, message: str, sent: status_pb2.Status) -> Problem:
    """Return the problem of a status that is not OK, of which a service `sent` the details.

    The message of a server error is shown only if the service vouches for it with an ErrorInfo:
    the messages of gRPC itself contain addresses, and those of frameworks contain code.
    """
    info = _detail(sent, error_details_pb2.ErrorInfo())
    metadata = dict(info.metadata)
    requested = _requested_status(metadata.pop(status.HTTP_STATUS, ""))
    http_status = requested or HTTP_STATUSES[code.name]
    vouched = info.reason or (http_status < 500 and http_status != CLIENT_CLOSED_REQUEST)
    vague = _VAGUE_DETAILS.get(code.name, "Something went wrong.")
    return Problem(
        status=http_status,
        code=code.name,
        detail=message if vouched and message else vague,
        reason=info.reason,
        errors=tuple(
            FieldError(violation.field, violation.description)
            for violation in _detail(sent, error_details_pb2.BadRequest()).field_violations
        ),
        metadata=metadata,
        headers=_headers(http_status, _detail(sent, error_details_pb2.RetryInfo())),
    )


def _requested_status(text: str) -> int | None:
    """Return the HTTP status that a service requests, if it is a client error."""
    return int(text) if re.fullmatch("4[0-9]{2}", text) else None


def _sent_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    try:
        return status.from_rpc_error(error)
    except DecodeError:
        # The code and message of a status are worth showing even if its details are malformed.
        return status_pb2.Status()


def _detail(sent: status_pb2.Status, message: Any) -> Any:
    """Return the detail of a message's type; the message itself, empty, if there is none."""
    for detail in sent.details:
        try:
            detail.Unpack(message)
        except DecodeError:
            message.Clear()
    return message


def _headers(http_status: int, retry: error_details_pb2.RetryInfo) -> dict[str, str]:
    headers = {}
    if http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if retry.HasField("retry_delay"):
        seconds = retry.retry_delay.seconds + (retry.retry_delay.nanos > 0)
        headers["Retry-After"] = str(max(0, seconds))
    return headers
