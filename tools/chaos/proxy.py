"""A gRPC proxy that loses, delays and duplicates calls on their way to the replicas of a service.

It forwards messages as bytes, of any method. Which call has which fault is decided elsewhere.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any, NoReturn

import grpc

from bazaar.order.v1 import order_pb2
from bazaar.payment.v1 import payment_pb2
from bazaar.product.v1 import product_pb2
from bazaar.user.v1 import user_pb2
from chassis.client import CONNECTION_OPTIONS
from chassis.secure_channel import open_channel
from chassis.tls import Certificates, server_credentials
from chassis.transport import MESSAGE_OPTIONS
from tools.certs.authority import spiffe_id

LATE_SECONDS = 3.0
"""How late a late call is, on average."""
MAX_LATE_CALLS = 1_000
FORWARD_SECONDS = 30.0
"""The deadline of a call that is forwarded without that of its caller."""

Context = grpc.aio.ServicerContext[bytes, bytes]
Calling = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
Streaming = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
Metadata = Sequence[tuple[str, str | bytes]]

_UNARY = frozenset(
    f"/{service.full_name}/{method.name}"
    for file in (order_pb2, payment_pb2, product_pb2, user_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not (method.client_streaming or method.server_streaming)
)
_BALANCED = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
_UPSTREAM_OPTIONS = (
    *CONNECTION_OPTIONS,
    ("grpc.enable_retries", 0),
    ("grpc.service_config", _BALANCED),
    ("grpc.use_local_subchannel_pool", 1),
)


class CallFault(StrEnum):
    """What happens to a call."""

    REQUEST_LOST = "requests lost"
    RESPONSE_LOST = "responses lost"
    DELAYED = "calls delayed"
    LATE = "calls delivered after their caller has seen them fail"
    DUPLICATED = "calls duplicated"


class FaultProxy:
    """A proxy in front of one service. Only unary calls have faults, from `begin` to `end`.

    To its callers it is the service, and to the service it is the caller of each call. Therefore it
    has the certificates of all programs, by their names.
    """

    def __init__(
        self,
        choose_fault: Callable[[], CallFault | None],
        random: Random,
        service: str,
        certificates: Mapping[str, Certificates],
    ) -> None:
        self.faults: Counter[str] = Counter()
        """How many calls had each CallFault."""
        self.port = 0
        self._choose_fault = choose_fault
        self._random = random
        self._service = service
        self._certificates = certificates
        self._upstreams: dict[str, grpc.aio.Channel] = {}
        """Channels to the replicas, by the SPIFFE id of the caller."""
        self._calm = asyncio.Event()
        self._calm.set()
        self._late: set[asyncio.Task[None]] = set()

    async def start(self, ports: Iterable[int]) -> None:
        """Listen on a free port, and call the replicas on the ports in turn."""
        options = [*MESSAGE_OPTIONS, ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Forwarding(self),))
        credentials = server_credentials(self._certificates[self._service])
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        for name, certificates in self._certificates.items():
            channel = open_channel(target, _UPSTREAM_OPTIONS, certificates, self._service)
            self._upstreams[spiffe_id(name)] = channel
        await self._server.start()

    async def stop(self) -> None:
        """End all calls."""
        await self.end()
        await self._server.stop(None)
        for channel in self._upstreams.values():
            await channel.close()

    def begin(self) -> None:
        """Let faults happen from now on."""
        self._calm.clear()

    async def end(self) -> None:
        """Let no more faults happen, and deliver at once the calls that are late or delayed."""
        self._calm.set()
        if self._late:
            await asyncio.wait(self._late)

    async def call(self, method: str, request: bytes, context: Context) -> bytes:
        """Forward a unary call, with or without a fault."""
        fault = self._begin_fault()
        metadata = _select_metadata(context.invocation_metadata() or ())
        upstream = self._find_upstream(context)
        forward = partial(_forward, upstream, method, request, metadata)
        match fault:
            case CallFault.REQUEST_LOST:
                await _lose(context)
            case CallFault.LATE:
                self._deliver_later(partial(forward, FORWARD_SECONDS))
                await _lose(context)
            case CallFault.DUPLICATED:
                self._deliver_later(partial(forward, FORWARD_SECONDS))
            case CallFault.DELAYED:
                await self._delay()
        response = await self._respond(forward, context)
        if fault is CallFault.RESPONSE_LOST:
            await _lose(context)
        return response

    async def stream(
        self, method: str, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Forward a stream as it is."""
        metadata = _select_metadata(context.invocation_metadata() or ())
        forward: Streaming = self._find_upstream(context).stream_stream(method)
        call = forward(requests, timeout=context.time_remaining(), metadata=metadata)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)

    def _begin_fault(self) -> CallFault | None:
        """Choose and count what happens to a call."""
        fault = None if self._calm.is_set() else self._choose_fault()
        if fault is CallFault.LATE and len(self._late) >= MAX_LATE_CALLS:
            fault = CallFault.REQUEST_LOST
        if fault is not None:
            self.faults[fault] += 1
        return fault

    def _deliver_later(self, forward: "partial[Any]") -> None:
        async def deliver() -> None:
            await self._delay()
            try:
                await forward()
            except grpc.aio.AioRpcError:  # Nobody waits for the response.
                return

        task = asyncio.create_task(deliver())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _delay(self) -> None:
        seconds = self._random.expovariate(1 / LATE_SECONDS)
        waiting = asyncio.ensure_future(self._calm.wait())
        await asyncio.wait([waiting], timeout=seconds)
        waiting.cancel()

    def _find_upstream(self, context: Context) -> grpc.aio.Channel:
        (caller,) = context.auth_context()["peer_spiffe_id"]
        return self._upstreams[caller.decode()]

    async def _respond(self, forward: "partial[Any]", context: Context) -> bytes:
        call = forward(context.time_remaining())
        try:
            response: bytes = await call
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        return response


def _forward(
    upstream: grpc.aio.Channel,
    method: str,
    request: bytes,
    metadata: Metadata,
    timeout_seconds: float | None,
) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
    call: Calling = upstream.unary_unary(method)
    return call(request, timeout=timeout_seconds, metadata=metadata)


class _Forwarding(grpc.GenericRpcHandler):
    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        if details.method in _UNARY:
            return grpc.unary_unary_rpc_method_handler(partial(self._proxy.call, details.method))
        return grpc.stream_stream_rpc_method_handler(partial(self._proxy.stream, details.method))


def _select_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """Return the metadata of a request that is to be forwarded: not what gRPC adds itself."""
    return [item for item in metadata if not item[0].startswith(("grpc-", "user-agent"))]


async def _lose(context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "The connection was lost.")
    raise AssertionError("abort returned")


async def _abort(context: Context, error: grpc.aio.AioRpcError) -> NoReturn:
    trailing_metadata = tuple(error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", trailing_metadata)
    raise AssertionError("abort returned")
