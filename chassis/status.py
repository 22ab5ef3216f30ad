"""Errors as clients see them: google.rpc.Status with ErrorInfo and BadRequest (AIP-193).

The details carry no traceback, no SQL and no exception text of ours.
"""

from typing import NoReturn

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from chassis import errors

DOMAIN = "bazaar"
_DETAILS_KEY = "grpc-status-details-bin"
HTTP_STATUS = "http_status"
"""The key in ErrorInfo.metadata of a more precise HTTP status than that of the code."""

MAX_MESSAGE_CHARACTERS = 500
MAX_VIOLATIONS = 20
"""Bounds on an error, which is sent in headers: clients accept 8 KiB of them."""


def to_status(error: errors.Error) -> status_pb2.Status:
    """Convert an error, cutting a long message and leaving out violations beyond the bound."""
    message = error.message[:MAX_MESSAGE_CHARACTERS]
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    if error.http_status is not None:
        info.metadata[HTTP_STATUS] = str(error.http_status)
    status.details.add().Pack(info)
    if error.violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations[:MAX_VIOLATIONS]:
            bad_request.field_violations.add(field=violation.field, description=violation.rule)
        status.details.add().Pack(bad_request)
    return status


async def abort(context: grpc.aio.ServicerContext[object, object], error: errors.Error) -> NoReturn:
    """End the call with an error."""
    status = to_status(error)
    trailing_metadata = ((_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(grpc.StatusCode[error.code], status.message, trailing_metadata)
    raise AssertionError("abort returned")


def from_rpc_error(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """Return the status that a server sent with an error; an empty one if it sent none.

    Raises:
        google.protobuf.message.DecodeError: what it sent is no status.
    """
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status.ParseFromString(value)
    return status


def error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Return the ErrorInfo of a status; an empty one if it has none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            break
    return info
