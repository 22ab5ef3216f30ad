"""Streams of orders, placed as fast as the order service takes them."""

import asyncio
import random
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis import client
from chassis.tls import Certificates
from tools.dev.running_shop import Shop

CHUNK = 1_000
LINES = 3


def make_chunks(shop: Shop, orders: int) -> list[order_pb2.CreateOrdersRequest]:
    """Return requests with so many orders, the same in every run."""
    return [_make_chunk(shop, seq) for seq in range(orders // CHUNK)]


async def place(
    shop: Shop,
    chunks: Sequence[order_pb2.CreateOrdersRequest],
    addresses: Sequence[str],
    streams: int,
    report: Callable[[int], None] = lambda placed: None,
) -> None:
    """Place all orders, through as many streams at a time, spread over the replicas' addresses.

    `report` gets how many are placed.
    """
    placed = 0

    async def follow(responses: AsyncIterable[order_pb2.CreateOrdersResponse]) -> None:
        nonlocal placed
        async for response in responses:
            _check(response)
            placed += len(response.results)
            report(placed)

    async with AsyncExitStack() as stack:
        certificates = _find_certificates(shop)
        stubs = [
            order_pb2_grpc.OrderServiceStub(
                await stack.enter_async_context(
                    client.open_channel(address, certificates, "OrderService")
                )
            )
            for address in addresses
        ]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for number in range(streams):
            own = _renumber(chunks[number::streams])
            stub = stubs[number % len(stubs)]
            group.create_task(follow(stub.CreateOrders(own, metadata=shop.metadata)))


def _find_certificates(shop: Shop) -> Certificates:
    workspace = Path(shop.environment["BUILD_WORKSPACE_DIRECTORY"])
    return Certificates(workspace / shop.environment["APIGATEWAY_TLS_DIRECTORY"])


def _make_chunk(shop: Shop, seq: int) -> order_pb2.CreateOrdersRequest:
    choose = random.Random(seq)  # noqa: S311 - the same orders in every run.
    return order_pb2.CreateOrdersRequest(
        seq=seq,
        orders=[
            order_pb2.CreateOrderRequest(
                idempotency_key=f"{seq} {number}",
                payment_method="pm_card_visa",
                lines=[
                    order_pb2.CreateOrderRequest.Line(product_id=product_id, quantity=1)
                    for product_id in choose.sample(shop.product_ids, LINES)
                ],
            )
            for number in range(CHUNK)
        ],
    )


def _renumber(
    chunks: Iterable[order_pb2.CreateOrdersRequest],
) -> Iterator[order_pb2.CreateOrdersRequest]:
    for seq, chunk in enumerate(chunks):
        chunk.seq = seq
        yield chunk


def _check(response: order_pb2.CreateOrdersResponse) -> None:
    for result in response.results:
        if result.order.state != order_pb2.ORDER_STATE_CONFIRMED:
            raise SystemExit(f"an order was not confirmed: {result}")
