"""Errors as clients see them: google.rpc.Status with ErrorInfo and BadRequest (AIP-193).

The details carry no traceback, no SQL and no exception text of ours.
"""

from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from chassis import errors

DOMAIN = "bazaar"
STATUS_DETAILS_KEY = "grpc-status-details-bin"
"""The key in the trailing metadata of the google.rpc.Status of a call."""
HTTP_STATUS = "http_status"
"""The key in ErrorInfo.metadata of a more precise HTTP status than that of the code."""

MAX_MESSAGE_CHARACTERS = 500
MAX_VIOLATIONS = 20
"""Bounds on an error, which is sent in headers: clients accept 8 KiB of them."""


def to_status(error: errors.Error) -> status_pb2.Status:
    """Convert an error."""
    metadata = dict(error.metadata)
    if error.http_status is not None:
        metadata[HTTP_STATUS] = str(error.http_status)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    details: list[Message] = [info]
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field, description=violation.rule
                    )
                    for violation in error.violations[:MAX_VIOLATIONS]
                ]
            )
        )
    return status_pb2.Status(
        code=code_pb2.Code.Value(error.code),
        message=_message(error),
        details=[_pack(detail) for detail in details],
    )


async def abort(context: grpc.aio.ServicerContext[object, object], error: errors.Error) -> NoReturn:
    """End the call with an error."""
    details = to_status(error).SerializeToString()
    trailing_metadata = ((STATUS_DETAILS_KEY, details),)
    await context.abort(grpc.StatusCode[error.code], _message(error), trailing_metadata)
    raise AssertionError("abort returned")


def error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Return the ErrorInfo of a status; an empty one if it has none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            break
    return info


def _message(error: errors.Error) -> str:
    return error.message[:MAX_MESSAGE_CHARACTERS]


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
