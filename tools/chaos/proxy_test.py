"""The proxy between real gRPC clients and servers: each fault, and none."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import grpc
import pytest

from chassis import errors, status
from chassis.secure_channel import open_channel
from chassis.tls import Certificates, server_credentials
from tools.certs.directories import renew
from tools.chaos.proxy import CallFault, FaultProxy
from tools.chaos.spells import Spells

METHOD = "/bazaar.order.v1.OrderService/CreateOrder"
Method = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
Streaming = grpc.aio.StreamStreamMultiCallable[bytes, bytes]

STREAM = "/bazaar.order.v1.OrderService/CreateOrders"


class Shop:
    """Two replicas of a service behind a proxy, and a client of it."""

    def __init__(self, fault: CallFault | None, certificates: Mapping[str, Certificates]) -> None:
        self.proxy = FaultProxy(lambda: fault, Random(1), "order", certificates)
        self._certificates = certificates
        self.received: list[bytes] = []
        self.callers: list[bytes] = []
        self.metadata: dict[str, str | bytes] = {}
        self.changed = asyncio.Event()

    async def start(self, stack: AsyncExitStack) -> None:
        ports = [await self._serve(stack) for _ in range(2)]
        await self.proxy.start(ports)
        stack.push_async_callback(self.proxy.stop)
        self.channel = await stack.enter_async_context(self.open_channel("gateway"))

    def open_channel(self, caller: str) -> grpc.aio.Channel:
        target = f"127.0.0.1:{self.proxy.port}"
        return open_channel(target, (), self._certificates[caller], "order")

    async def call(self, request: bytes = b"order", seconds: float = 10) -> bytes:
        metadata = (("idempotency-key", "k1"),)
        method: Method = self.channel.unary_unary(METHOD)
        response: bytes = await method(request, timeout=seconds, metadata=metadata)
        return response

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.received) < count:
                await self.changed.wait()
                self.changed.clear()

    async def _serve(self, stack: AsyncExitStack) -> int:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_Handlers(self),))
        credentials = server_credentials(self._certificates["order"])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        stack.push_async_callback(server.stop, None)
        return port

    async def respond(self, request: bytes, context: Any) -> bytes:
        self.received.append(request)
        self.callers += context.auth_context()["peer_spiffe_id"]
        self.metadata = dict(context.invocation_metadata())
        self.changed.set()
        if request == b"refused":
            refusal = errors.FailedPrecondition("OUT_OF_STOCK", "No.", metadata={"order_id": "o1"})
            await status.abort(context, refusal)
        if request == b"slow":
            await asyncio.sleep(60)
        context.set_trailing_metadata((("retry-after", "1"),))
        return b"response to " + request

    async def echo(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == METHOD:
            return grpc.unary_unary_rpc_method_handler(self._shop.respond)
        return grpc.stream_stream_rpc_method_handler(self._shop.echo)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Certificates]:
    directory = tmp_path_factory.mktemp("tls")
    return {name: Certificates(directory / name, name) for name in renew(directory)}


@pytest.fixture
async def shop(
    request: pytest.FixtureRequest, certificates: Mapping[str, Certificates]
) -> AsyncIterator[Shop]:
    """A shop whose calls have the fault that is the parameter, once the proxy has begun."""
    made = Shop(getattr(request, "param", None), certificates)
    async with AsyncExitStack() as stack:
        await made.start(stack)
        made.proxy.begin()
        yield made


def with_fault(fault: CallFault) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shop", [fault], indirect=True)


async def fail(shop: Shop, request: bytes = b"order", seconds: float = 10) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await shop.call(request, seconds)
    return raised.value


async def test_a_call_passes_with_its_metadata_both_ways(shop: Shop) -> None:
    method: Method = shop.channel.unary_unary(METHOD)
    call = method(b"order", metadata=(("idempotency-key", "k1"),))
    assert await call == b"response to order"
    assert shop.metadata["idempotency-key"] == "k1"
    assert ("retry-after", "1") in tuple(await call.trailing_metadata())
    assert shop.proxy.faults.total() == 0


async def test_a_service_sees_the_certificate_of_the_caller(shop: Shop) -> None:
    await shop.call()
    channel: Any
    async with shop.open_channel("payment") as channel:
        await channel.unary_unary(METHOD)(b"order", timeout=10)
    assert shop.callers == [b"spiffe://bazaar/gateway", b"spiffe://bazaar/payment"]


async def test_a_refusal_passes_with_its_details(shop: Shop) -> None:
    error = await fail(shop, b"refused")
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert status.error_info(status.from_rpc_error(error)).metadata["order_id"] == "o1"


async def test_a_deadline_passes(shop: Shop) -> None:
    assert (await fail(shop, b"slow", seconds=0.2)).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_passes_in_both_directions(shop: Shop) -> None:
    method: Streaming = shop.channel.stream_stream(STREAM)
    stream = method(iter([b"1", b"2"]))
    assert [response async for response in stream] == [b"1", b"2"]


@with_fault(CallFault.REQUEST_LOST)
async def test_a_lost_request_is_not_delivered(shop: Shop) -> None:
    assert (await fail(shop)).code() is grpc.StatusCode.UNAVAILABLE
    await shop.proxy.end()
    assert shop.received == []


@with_fault(CallFault.RESPONSE_LOST)
async def test_a_call_whose_response_is_lost_is_delivered(shop: Shop) -> None:
    assert (await fail(shop)).code() is grpc.StatusCode.UNAVAILABLE
    assert shop.received == [b"order"]


@with_fault(CallFault.LATE)
async def test_a_late_call_is_delivered_after_it_has_failed(shop: Shop) -> None:
    assert (await fail(shop)).code() is grpc.StatusCode.UNAVAILABLE
    assert shop.received == []
    await shop.proxy.end()
    assert shop.received == [b"order"]
    assert shop.metadata["idempotency-key"] == "k1"


@with_fault(CallFault.DUPLICATED)
async def test_a_duplicated_call_is_delivered_twice_with_one_response(shop: Shop) -> None:
    assert await shop.call() == b"response to order"
    await shop.proxy.end()
    assert shop.received == [b"order", b"order"]


@with_fault(CallFault.DELAYED)
async def test_a_delayed_call_waits_before_it_is_delivered(shop: Shop) -> None:
    calling = asyncio.create_task(shop.call())
    await asyncio.sleep(0.1)
    assert shop.received == []
    await shop.proxy.end()
    assert await calling == b"response to order"


@with_fault(CallFault.REQUEST_LOST)
async def test_faults_happen_between_begin_and_end_and_are_counted(shop: Shop) -> None:
    await fail(shop)
    await shop.proxy.end()
    assert await shop.call() == b"response to order"
    assert shop.proxy.faults == {CallFault.REQUEST_LOST: 1}


def test_spells_of_one_fault_alternate_with_calm() -> None:
    seconds = itertools.count()
    spells = Spells(Random(1), lambda: next(seconds) / 10)
    chosen = [spells() for _ in range(10_000)]
    assert set(chosen) == {None, *CallFault}
    assert 0.05 < sum(fault is not None for fault in chosen) / len(chosen) < 0.3
    runs = [len(list(group)) for fault, group in itertools.groupby(chosen) if fault is not None]
    assert max(runs) > 5
