import json
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gateway.http.problems import HTTP_STATUSES
from gateway.http.statuses import RESPONSE_TOO_LARGE, from_rpc_error, from_status
from gateway.testing.serving import listening

NO_DETAILS = status_pb2.Status()


def sent(*details: Message) -> status_pb2.Status:
    return status_pb2.Status(details=[pack(detail) for detail in details])


def pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


@pytest.mark.parametrize("side", ["server", "channel"])
async def test_grpc_message_about_a_response_over_the_limit_is_recognised(side: str) -> None:
    limits = {
        "server": [("grpc.max_send_message_length", 10)],
        "channel": [("grpc.max_receive_message_length", 10)],
    }
    handlers: dict[str, Any] = {"Get": grpc.unary_unary_rpc_method_handler(give_eleven_bytes)}
    server = grpc.aio.server(options=limits["server"] if side == "server" else None)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", handlers),))
    options = limits["channel"] if side == "channel" else None
    async with (
        listening(server) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        call: Any = channel.unary_unary("/a.B/Get")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"")
    problem = from_rpc_error(raised.value)
    assert (problem.status, problem.code) == (500, "INTERNAL")
    assert problem.reason == RESPONSE_TOO_LARGE


async def give_eleven_bytes(
    _request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]
) -> bytes:
    return bytes(11)


@pytest.mark.parametrize(
    ("code", "status", "title"),
    [
        ("CANCELLED", 499, "Client Closed Request"),
        ("UNKNOWN", 500, "Internal Server Error"),
        ("INVALID_ARGUMENT", 400, "Bad Request"),
        ("DEADLINE_EXCEEDED", 504, "Gateway Timeout"),
        ("NOT_FOUND", 404, "Not Found"),
        ("ALREADY_EXISTS", 409, "Conflict"),
        ("PERMISSION_DENIED", 403, "Forbidden"),
        ("UNAUTHENTICATED", 401, "Unauthorized"),
        ("RESOURCE_EXHAUSTED", 429, "Too Many Requests"),
        ("FAILED_PRECONDITION", 400, "Bad Request"),
        ("ABORTED", 409, "Conflict"),
        ("OUT_OF_RANGE", 400, "Bad Request"),
        ("UNIMPLEMENTED", 501, "Not Implemented"),
        ("INTERNAL", 500, "Internal Server Error"),
        ("UNAVAILABLE", 503, "Service Unavailable"),
        ("DATA_LOSS", 500, "Internal Server Error"),
    ],
)
def test_statuses_are_those_of_the_canonical_table(code: str, status: int, title: str) -> None:
    problem = from_status(grpc.StatusCode[code], "what happened", NO_DETAILS).as_object()
    assert (problem["status"], problem["title"], problem["code"]) == (status, title, code)


def test_every_code_has_a_status() -> None:
    assert HTTP_STATUSES.keys() == {code.name for code in grpc.StatusCode} - {"OK"}


def test_details_are_shown() -> None:
    problem = from_status(
        grpc.StatusCode.FAILED_PRECONDITION,
        "There is too little.",
        sent(
            error_details_pb2.ErrorInfo(reason="OUT_OF_STOCK", metadata={"product_id": "7"}),
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field="a.b", description="is bad")
                ]
            ),
        ),
    )
    assert json.loads(problem.as_json()) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "There is too little.",
        "code": "FAILED_PRECONDITION",
        "reason": "OUT_OF_STOCK",
        "errors": [{"field": "a.b", "description": "is bad"}],
        "metadata": {"product_id": "7"},
    }


def test_service_can_set_a_more_precise_status() -> None:
    info = error_details_pb2.ErrorInfo(reason="R", metadata={"http_status": "402", "a": "b"})
    problem = from_status(grpc.StatusCode.FAILED_PRECONDITION, "m", sent(info))
    assert problem.status == 402
    assert problem.metadata == {"a": "b"}


@pytest.mark.parametrize("asked", ["200", "302", "500", "999", "-1", "x", "", "4e2", "٤٠٠"])
def test_service_can_set_only_a_client_error(asked: str) -> None:
    info = error_details_pb2.ErrorInfo(reason="R", metadata={"http_status": asked})
    problem = from_status(grpc.StatusCode.ABORTED, "m", sent(info))
    assert problem.status == 409
    assert problem.metadata == {}


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS"])
def test_message_of_grpc_about_a_server_is_not_shown(code: str) -> None:
    details = "failed to connect to all addresses; ipv4:10.0.0.7:50051: Connection refused"
    problem = from_status(grpc.StatusCode[code], details, NO_DETAILS)
    assert "10.0.0.7" not in problem.as_json().decode()


def test_message_with_an_error_info_is_shown() -> None:
    info = error_details_pb2.ErrorInfo(reason="DATABASE_UNAVAILABLE")
    problem = from_status(grpc.StatusCode.UNAVAILABLE, "Try again.", sent(info))
    assert (problem.detail, problem.reason) == ("Try again.", "DATABASE_UNAVAILABLE")


@pytest.mark.parametrize(("nanos", "header"), [(0, "3"), (1, "4")])
def test_retry_delay_becomes_retry_after_in_whole_seconds(nanos: int, header: str) -> None:
    delay = duration_pb2.Duration(seconds=3, nanos=nanos)
    retry = error_details_pb2.RetryInfo(retry_delay=delay)
    problem = from_status(grpc.StatusCode.UNAVAILABLE, "m", sent(retry))
    assert problem.headers == {"Retry-After": header}


def test_unauthenticated_has_a_www_authenticate_header() -> None:
    problem = from_status(grpc.StatusCode.UNAUTHENTICATED, "m", NO_DETAILS)
    assert problem.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize(
    "malformed",
    [
        b"\xff\xff",
        status_pb2.Status(
            details=[any_pb2.Any(type_url="x/google.rpc.ErrorInfo", value=b"\xff\xff")]
        ).SerializeToString(),
    ],
)
def test_malformed_details_are_ignored(malformed: bytes) -> None:
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", malformed))
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), metadata, details="m"
    )
    problem = from_rpc_error(error)
    assert (problem.detail, problem.reason) == ("m", "")
