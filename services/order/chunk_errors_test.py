"""CreateOrders with services that are down, orders that fail, and a server that stops."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import psycopg
import pytest

from bazaar.order.v1 import order_pb2
from chassis import errors, status
from chassis.testing import refusal
from services.order import chunks
from services.order.chunk_testing import new_chunk, reasons, send
from services.order.testing import Shop, Urls, audit, lose, new_order, read

pytest_plugins = ("tools.postgres.testing", "services.order.testing")


async def test_create_orders_ends_when_the_user_service_is_down(shop: Shop, urls: Urls) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    shop.hooks["before find_users"] = lose
    refused = await refusal(send(shop, new_chunk(1, request)))
    assert refused.code == grpc.StatusCode.UNAVAILABLE
    assert read(urls["order"], "SELECT * FROM orders") == []


async def test_create_orders_returns_errors_for_unfinished_orders_only(
    shop: Shop, urls: Urls
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    done = new_order(user_id, (product, 1), key="done")
    order = await shop.orders.CreateOrder(done)
    chunk = new_chunk(1, done, new_order(user_id, (product, 1), key="not done"))
    shop.hooks["after reserve_stock"] = lose
    (response,) = await send(shop, chunk)
    assert response.results[0].order == order
    assert reasons(response) == ["", "PEER_UNAVAILABLE"]
    shop.hooks.clear()
    (response,) = await send(shop, chunk)
    assert reasons(response) == ["", ""]
    assert audit(urls) == []


async def test_create_orders_finishes_the_current_chunk_when_the_server_stops(
    shop: Shop, urls: Urls
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    sent = [new_chunk(n, new_order(user_id, (product, 1), key=f"key {n}")) for n in range(3)]

    async def drain() -> None:
        shop.draining.set()

    shop.hooks["before charge"] = drain
    stream = shop.orders.CreateOrders(iter(sent))
    response = await anext(aiter(stream))
    assert response.seq == 0
    assert response.results[0].order.state == order_pb2.ORDER_STATE_CONFIRMED
    refused = await refusal(anext(aiter(stream)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")
    assert [row[0] for row in read(urls["order"], "SELECT idempotency_key FROM orders")] == [
        "key 0"
    ]
    assert audit(urls) == []


async def test_create_orders_ends_an_idle_stream_when_the_server_stops(shop: Shop) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    stream = shop.orders.CreateOrders()
    await stream.write(new_chunk(1, request))
    assert isinstance(await stream.read(), order_pb2.CreateOrdersResponse)
    shop.draining.set()
    refused = await refusal(stream.read())
    assert refused.reason == "SERVER_STOPPING"


async def test_receive_times_out_without_a_chunk() -> None:
    async def send_nothing() -> AsyncIterator[chunks.Chunk]:
        await asyncio.Event().wait()
        yield chunks.Chunk()

    received = chunks.receive(send_nothing(), asyncio.Event(), idle_seconds=0.01)
    async with asyncio.timeout(10):
        with pytest.raises(errors.DeadlineExceeded, match="No chunk was received"):
            await anext(received)


async def test_create_orders_returns_an_error_for_an_order_that_makes_its_batch_fail(
    shop: Shop, urls: Urls
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=20)
    orders = [new_order(user_id, (product, 1), key=f"key {number}") for number in range(9)]
    charged_batches = 0

    async def poison() -> None:
        nonlocal charged_batches
        charged_batches += 1
        ((order_id,),) = read(
            urls["order"], "SELECT order_id FROM orders WHERE idempotency_key = 'key 5'"
        )
        with psycopg.connect(urls["payment"]) as connection:
            connection.execute(
                "INSERT INTO payments"
                " (order_id, state, amount_minor, currency_code, provider, provider_reference)"
                " VALUES (%s, 'PROCESSING', 1, 'GBP', 'sandbox', 'pi_1') ON CONFLICT DO NOTHING",
                (order_id,),
            )

    shop.hooks["before charge"] = poison
    first, second = await send(shop, new_chunk(1, *orders[:8]), new_chunk(2, *orders[8:]))
    assert reasons(first) == [""] * 5 + ["ORDER_FAILED"] + [""] * 2
    assert first.results[5].error.code == grpc.StatusCode.INTERNAL.value[0]
    assert reasons(second) == [""]
    # Batches of 8, 4, 4, 2, 1, 1 and 2 orders, and the second chunk.
    assert charged_batches == 8
    with psycopg.connect(urls["payment"]) as connection:
        connection.execute("DELETE FROM payments WHERE amount_minor = 1")
    shop.hooks.clear()
    order = await shop.orders.CreateOrder(orders[5])
    assert order.order_id == status.error_info(first.results[5].error).metadata["order_id"]
    assert audit(urls) == []


async def test_create_orders_accepts_the_other_orders_if_one_cannot_be_accepted(
    shop: Shop, urls: Urls
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    orders = [new_order(user_id, (product, 1), key=f"key {number}") for number in range(4)]
    with psycopg.connect(urls["order"]) as connection:
        connection.execute(
            "ALTER TABLE orders ADD CONSTRAINT poison CHECK (idempotency_key <> 'key 2')"
        )
    try:
        (response,) = await send(shop, new_chunk(1, *orders))
    finally:
        with psycopg.connect(urls["order"]) as connection:
            connection.execute("ALTER TABLE orders DROP CONSTRAINT poison")
    assert reasons(response) == ["", "", "ORDER_NOT_ACCEPTED", ""]
    assert reasons((await send(shop, new_chunk(1, *orders)))[0]) == [""] * 4
    assert audit(urls) == []


async def test_create_orders_calls_a_service_that_is_down_once_per_batch(shop: Shop) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    orders = [new_order(user_id, (product, 1), key=f"key {number}") for number in range(4)]
    asked = 0

    async def count_and_lose() -> None:
        nonlocal asked
        asked += 1
        await lose()

    shop.hooks["before charge"] = count_and_lose
    (response,) = await send(shop, new_chunk(1, *orders))
    assert reasons(response) == ["PEER_UNAVAILABLE"] * 4
    assert asked == 1
