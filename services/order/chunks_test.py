"""CreateOrders through a channel, with the other three services running."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import grpc
import psycopg
import pytest

from bazaar.order.v1 import order_pb2
from bazaar.user.v1 import user_pb2
from chassis import errors, status
from chassis.testing import refusal
from chassis.transport import MAX_MESSAGE_BYTES
from services.order import chunks
from services.order.testing import DECLINED_CARD, Shop, Urls, audit, lose, new_order, read

pytest_plugins = ("tools.postgres.testing", "services.order.testing")
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"
INVALID_ORDER = order_pb2.CreateOrderRequest(idempotency_key="no ids")


def new_chunk(seq: int, *orders: order_pb2.CreateOrderRequest) -> order_pb2.CreateOrdersRequest:
    return order_pb2.CreateOrdersRequest(seq=seq, orders=orders)


async def send(
    shop: Shop, *requests: order_pb2.CreateOrdersRequest
) -> list[order_pb2.CreateOrdersResponse]:
    return [response async for response in shop.orders.CreateOrders(iter(requests))]


def reasons(response: order_pb2.CreateOrdersResponse) -> list[str]:
    return [status.error_info(result.error).reason for result in response.results]


async def test_create_orders_responds_to_each_chunk_in_order(shop: Shop, urls: Urls) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=100)
    orders = [new_order(user_id, (product, 1), key=f"key {number}") for number in range(6)]
    responses = await send(shop, new_chunk(7, *orders[:4]), new_chunk(8, *orders[4:]))
    assert [response.seq for response in responses] == [7, 8]
    results = [result for response in responses for result in response.results]
    assert [result.idempotency_key for result in results] == [
        order.idempotency_key for order in orders
    ]
    assert {result.order.state for result in results} == {order_pb2.ORDER_STATE_CONFIRMED}
    assert await shop.stock(product) == (94, 0, 6)
    assert audit(urls) == []


async def test_create_orders_places_1000_orders_in_a_chunk(shop: Shop, urls: Urls) -> None:
    user_id = await shop.new_user()
    products = [await shop.new_product(f"P{number}", units=600) for number in range(6)]
    orders = [
        new_order(user_id, *((products[(n + i) % 6], 1) for i in range(3)), key=f"key {n}")
        for n in range(1_000)
    ]
    (response,) = await send(shop, new_chunk(1, *orders))
    assert {result.order.state for result in response.results} == {order_pb2.ORDER_STATE_CONFIRMED}
    assert len({result.order.order_id for result in response.results}) == 1_000
    assert audit(urls) == []


async def test_orders_of_a_chunk_are_listed_in_request_order_whatever_their_keys(
    shop: Shop,
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    keys = ["b", "c", "a"]
    (response,) = await send(
        shop, new_chunk(1, *(new_order(user_id, (product, 1), key=key) for key in keys))
    )
    request = order_pb2.ListOrdersRequest(user_id=user_id)
    (page,) = [page async for page in shop.orders.ListOrders(request)]
    assert [order.idempotency_key for order in page.orders] == keys[::-1]
    assert list(page.orders) == [result.order for result in reversed(response.results)]


async def test_create_orders_returns_an_error_per_invalid_order_and_continues(
    shop: Shop, urls: Urls
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=5)
    first, second = await send(
        shop,
        new_chunk(
            1,
            new_order(user_id, (product, 1), key="good"),
            INVALID_ORDER,
            new_order(user_id, (product, 0), key="bad quantity"),
            new_order(user_id, (product, 1), key=""),
            new_order(UNKNOWN_ID, (product, 1), key="no user"),
            new_order(user_id, (UNKNOWN_ID, 1), key="no product"),
            new_order(user_id, (product, 9), key="no stock"),
            new_order(user_id, (product, 1), key="no money", payment_method=DECLINED_CARD),
            new_order(user_id, (product, 2), key="good too"),
        ),
        new_chunk(2, INVALID_ORDER),
    )
    assert reasons(first) == [
        "",
        "INVALID_ID",
        "INVALID_FIELD",
        "INVALID_IDEMPOTENCY_KEY",
        "USER_NOT_FOUND",
        "PRODUCT_NOT_FOUND",
        "OUT_OF_STOCK",
        "PAYMENT_DECLINED",
        "",
    ]
    assert reasons(second) == ["INVALID_ID"]
    assert await shop.stock(product) == (2, 0, 3)
    assert audit(urls) == []


async def test_results_fit_into_a_message_whatever_the_orders_and_their_keys(shop: Shop) -> None:
    lines = [(str(uuid.UUID(int=number)), 0) for number in range(30)]
    order = new_order(UNKNOWN_ID, *lines, key="x" * 2_300)
    (response,) = await send(shop, new_chunk(1, *[order] * 1_000))
    assert set(reasons(response)) == {"INVALID_IDEMPOTENCY_KEY"}


async def test_create_orders_finds_orders_of_deleted_users_among_new_orders(
    shop: Shop, urls: Urls
) -> None:
    gone, user_id = await shop.new_user(), await shop.new_user("grace@example.com")
    product = await shop.new_product()
    repeated = new_order(gone, (product, 1), key="before")
    placed = await shop.orders.CreateOrder(repeated)
    await shop.users.DeleteUser(user_pb2.DeleteUserRequest(user_id=gone))
    (response,) = await send(
        shop,
        new_chunk(
            1,
            new_order(user_id, (product, 2), key="new"),
            repeated,
            new_order(gone, (product, 3), key="too late"),
        ),
    )
    assert reasons(response) == ["", "", "USER_NOT_FOUND"]
    assert response.results[0].order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert response.results[1].order == placed
    assert await shop.stock(product) == (7, 0, 3)
    assert audit(urls) == []


async def test_create_orders_places_one_order_per_key_in_a_chunk(shop: Shop, urls: Urls) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    (response,) = await send(
        shop,
        new_chunk(
            1,
            new_order(user_id, (product, 1), key="again"),
            new_order(user_id, (product, 1), key="again"),
            new_order(user_id, (product, 2), key="again"),
        ),
    )
    assert reasons(response) == ["", "", "IDEMPOTENCY_KEY_REUSED"]
    assert response.results[0].order == response.results[1].order
    assert await shop.stock(product) == (9, 0, 1)
    assert audit(urls) == []


async def test_create_orders_is_idempotent_for_a_repeated_chunk(shop: Shop, urls: Urls) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=3)
    orders = [new_order(user_id, (product, 1), key=f"key {number}") for number in range(5)]
    (first,) = await send(shop, new_chunk(1, *orders))
    assert reasons(first) == ["", "", "", "OUT_OF_STOCK", "OUT_OF_STOCK"]
    again, more = await send(shop, new_chunk(1, *orders), new_chunk(2, *orders[3:], *orders[:1]))
    assert again == first
    assert list(more.results) == [*first.results[3:], first.results[0]]
    assert audit(urls) == []


@pytest.mark.parametrize("seq", [0, 1, 3])
async def test_create_orders_rejects_a_gap_and_keeps_earlier_chunks(
    shop: Shop, urls: Urls, seq: int
) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    stream = shop.orders.CreateOrders(iter([new_chunk(1, request), new_chunk(seq, request)]))
    response = await anext(aiter(stream))
    refused = await refusal(anext(aiter(stream)))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CHUNK_OUT_OF_ORDER",
    )
    assert await shop.orders.CreateOrder(request) == response.results[0].order
    assert audit(urls) == []


@pytest.mark.parametrize(
    "orders",
    [
        [],
        [INVALID_ORDER] * 1_001,
        [new_order(UNKNOWN_ID, *[(UNKNOWN_ID, 1)] * 1_000)] * 30 + [new_order("", ("", 1))],
    ],
    ids=["empty", "too many orders", "too many lines"],
)
async def test_create_orders_bounds_a_chunk(
    shop: Shop, orders: Sequence[order_pb2.CreateOrderRequest]
) -> None:
    refused = await refusal(send(shop, new_chunk(1, *orders)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CHUNK")


async def test_the_response_to_the_largest_chunk_fits_into_a_message(shop: Shop) -> None:
    user_id = await shop.new_user()
    products = await asyncio.gather(
        *(shop.new_product(f"P{n}", units=10**9, price=1) for n in range(30))
    )
    lines = [(product, 1_000_000) for product in products]
    keys = [f"{number:04}" + "\N{COLLISION SYMBOL}" * 251 for number in range(1_000)]
    (response,) = await send(
        shop, new_chunk(1, *(new_order(user_id, *lines, key=key) for key in keys))
    )
    assert {result.order.state for result in response.results} == {order_pb2.ORDER_STATE_CONFIRMED}
    nanos_bytes = 30_000 * 8  # What nanos, which these prices do not have, would add.
    assert response.ByteSize() + nanos_bytes < MAX_MESSAGE_BYTES


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
