"""Receives the chunks of a CreateOrders stream, with checks of their order, size and delay."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from bazaar.order.v1 import order_pb2
from chassis import errors
from services.order.batches import MAX_BATCH_LINES, MAX_ORDERS

IDLE_SECONDS = 60.0
"""How long the server waits for the next chunk of a stream."""

Chunk = order_pb2.CreateOrdersRequest


async def receive(
    requests: AsyncIterator[Chunk], draining: asyncio.Event, idle_seconds: float = IDLE_SECONDS
) -> AsyncGenerator[Chunk, None]:
    """Yield chunks until the client has sent the last one. Close the generator to stop earlier.

    One chunk is read at a time, so that flow control slows down a client that sends faster than
    its orders are placed.

    Raises:
        errors.FailedPrecondition: `seq` does not increase by one.
        errors.InvalidArgument: a chunk is empty or too large.
        errors.DeadlineExceeded: no chunk was received within `idle_seconds`.
        errors.Unavailable: `draining` is set.
    """
    stopping = asyncio.create_task(draining.wait())
    expected: int | None = None
    try:
        while chunk := await _receive_one(requests, stopping, idle_seconds):
            _check(chunk, expected)
            expected = chunk.seq + 1
            yield chunk
    finally:
        stopping.cancel()


async def _receive_one(
    requests: AsyncIterator[Chunk], stopping: asyncio.Task[bool], idle_seconds: float
) -> Chunk | None:
    receiving = asyncio.ensure_future(anext(requests, None))
    try:
        await asyncio.wait(
            {receiving, stopping}, timeout=idle_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if stopping.done():
            message = (
                "The server is stopping: responses remain valid, continue with another server."
            )
            raise errors.Unavailable("SERVER_STOPPING", message)
        if not receiving.done():
            message = f"No chunk was received for {idle_seconds:g} s: responses remain valid."
            raise errors.DeadlineExceeded("STREAM_IDLE", message)
        return receiving.result()
    finally:
        receiving.cancel()


def _check(chunk: Chunk, expected: int | None) -> None:
    metadata = {"seq": str(chunk.seq)}
    if expected is not None and chunk.seq != expected:
        message = f"Expected chunk {expected}, and received {chunk.seq}."
        raise errors.FailedPrecondition("CHUNK_OUT_OF_ORDER", message, metadata=metadata)
    # A chunk may have 2,000,000 empty orders: count them before each is visited.
    if not 1 <= len(chunk.orders) <= MAX_ORDERS or _count_lines(chunk) > MAX_BATCH_LINES:
        message = f"A chunk has 1 to {MAX_ORDERS} orders with at most {MAX_BATCH_LINES} lines."
        raise errors.InvalidArgument("INVALID_CHUNK", message, metadata=metadata)


def _count_lines(chunk: Chunk) -> int:
    return sum(len(order.lines) for order in chunk.orders)
