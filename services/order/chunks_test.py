"""CreateOrders through a channel, with the other three services running."""

import asyncio
import uuid
from collections.abc import Sequence

import grpc
import pytest

from bazaar.order.v1 import order_pb2
from bazaar.user.v1 import user_pb2
from chassis.testing import refusal
from chassis.transport import MAX_MESSAGE_BYTES
from services.order.chunk_testing import new_chunk, reasons, send
from services.order.testing import DECLINED_CARD, Shop, Urls, audit, new_order

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"
INVALID_ORDER = order_pb2.CreateOrderRequest(user_id="Ada", idempotency_key="no ids")


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
