"""All RPCs of the shop, and how anybody calls them: by gRPC, and by REST where they have a route.

Made from descriptors, so that a new RPC is among them.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import itertools
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import grpc
import httpx
from access.v1 import access_pb2
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from bazaar.order.v1 import order_pb2
from bazaar.payment.v1 import payment_pb2
from bazaar.product.v1 import product_pb2
from bazaar.user.v1 import user_pb2
from chassis.testing import read_refusal

ADMITTED = "ADMITTED"
"""The result of a call that reaches its servicer, whatever the servicer makes of it."""
REFUSALS: Mapping[str, int] = {
    "TOKEN_MISSING": 401,
    "TOKEN_INVALID": 401,
    "TOKEN_EXPIRED": 401,
    "TOKEN_REVOKED": 401,
    "ROLE_MISSING": 403,
    "CALLER_NOT_ALLOWED": 403,
}
"""The reasons for which other calls are refused, with their HTTP status."""
STREAM_SECONDS = 0.5
"""How long a stream that is admitted may be silent: a refusal comes sooner."""
CALL_SECONDS = 10.0

_FAILURES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.CANCELLED,
    }
)
_FILES = {
    "user": user_pb2.DESCRIPTOR,
    "product": product_pb2.DESCRIPTOR,
    "order": order_pb2.DESCRIPTOR,
    "payment": payment_pb2.DESCRIPTOR,
}
_METHODS = ("get", "put", "post", "delete", "patch")
_addresses = itertools.count(0x0A000000)


@dataclass(frozen=True)
class Rpc:
    """One RPC, and the name of the service that serves it."""

    service: str
    descriptor: MethodDescriptor

    @property
    def path(self) -> str:
        """The gRPC path."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def callers(self) -> frozenset[str]:
        """The names of the clients that the proto allows."""
        allow = self._option.allow
        return frozenset(access_pb2.Caller.Name(caller) for caller in allow)

    @property
    def services(self) -> frozenset[str]:
        """The names of the services that the proto allows."""
        return frozenset(self._option.services)

    @property
    def routes(self) -> list[tuple[str, str]]:
        """The HTTP methods and paths of the RPC, about a resource that does not exist."""
        options: Any = self.descriptor.GetOptions()
        rule = options.Extensions[annotations_pb2.http]
        bindings = [rule, *rule.additional_bindings]
        return [
            (method, re.sub(r"\{\w+\}", str(uuid.uuid4()), getattr(binding, method)))
            for binding in bindings
            for method in _METHODS
            if getattr(binding, method)
        ]

    @property
    def _option(self) -> access_pb2.Access:
        options: Any = self.descriptor.GetOptions()
        option: access_pb2.Access = options.Extensions[access_pb2.access]
        return option


def list_rpcs() -> Iterator[Rpc]:
    """Yield all RPCs of all services."""
    for name, file in _FILES.items():
        for service in file.services_by_name.values():
            for method in service.methods:
                yield Rpc(name, method)


@dataclass(frozen=True)
class Outcome:
    """What became of a call: ADMITTED, the reason of a refusal, or the status of another failure.

    `text` is all that the caller was told of a failure, and `code` its gRPC status.
    """

    result: str
    text: str = ""
    code: str = ""


async def call(
    channel: grpc.aio.Channel,
    rpc: Rpc,
    token: str | None,
    request: bytes = b"",
    *,
    patience_seconds: float = CALL_SECONDS,
) -> Outcome:
    """Call an RPC; a stream of requests is empty.

    A stream of responses that is silent for `patience_seconds` is admitted.
    """
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    options: dict[str, Any] = {"timeout": patience_seconds, "metadata": metadata}
    make: Any = channel  # The types of gRPC have no messages that are bytes.
    try:
        if rpc.descriptor.client_streaming:
            await make.stream_stream(rpc.path)(iter(()), **options).read()
        elif rpc.descriptor.server_streaming:
            await make.unary_stream(rpc.path)(request, **options).read()
        else:
            await make.unary_unary(rpc.path)(request, **options)
    except grpc.aio.AioRpcError as error:
        return _read_error(error)
    return Outcome(ADMITTED)


def _read_error(error: grpc.aio.AioRpcError) -> Outcome:
    code, refusal = error.code(), read_refusal(error)
    text = f"{refusal} {error.trailing_metadata()}"
    result = refusal.reason if refusal.reason in REFUSALS else ADMITTED
    return Outcome(code.name if code in _FAILURES else result, text, code.name)


async def send(
    client: httpx.AsyncClient, rpc: Rpc, token: str | None, patience_seconds: float
) -> set[Outcome]:
    """Send a request with an empty message to each route of an RPC.

    One that has no response for `patience_seconds` is admitted: it is a stream that is silent.
    """
    return {
        await _send(client, rpc, method, path, token, patience_seconds)
        for method, path in rpc.routes
    }


async def _send(
    client: httpx.AsyncClient,
    rpc: Rpc,
    method: str,
    path: str,
    token: str | None,
    patience_seconds: float,
) -> Outcome:
    # Rate limits count each request for another client.
    headers = {"X-Forwarded-For": str(IPv4Address(next(_addresses)))}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}".strip()
    content = None
    if method in {"post", "patch", "put"}:
        is_stream = rpc.descriptor.client_streaming
        headers["Content-Type"] = "application/x-ndjson" if is_stream else "application/json"
        content = b"" if is_stream else b"{}"
    timeout = httpx.Timeout(CALL_SECONDS, read=patience_seconds)
    try:
        async with client.stream(
            method, path, headers=headers, content=content, timeout=timeout
        ) as response:
            return await _read(response)
    except httpx.ReadTimeout:
        return Outcome(ADMITTED)


async def _read(response: httpx.Response) -> Outcome:
    """Return the outcome that a response tells of, without waiting for the end of a stream."""
    status = response.status_code
    if status < 400:
        return Outcome(ADMITTED)
    text = (await response.aread()).decode()
    reason = response.json().get("reason", "")
    if reason in REFUSALS:
        return Outcome(reason if status == REFUSALS[reason] else f"{reason} as {status}", text)
    return Outcome(str(status) if status >= 500 or status == 429 else ADMITTED, text)
