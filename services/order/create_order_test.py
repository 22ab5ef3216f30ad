"""CreateOrder through a channel, with the other three services running."""

import asyncio

import grpc
import pytest
from google.type import money_pb2

from bazaar.order.v1 import order_pb2
from bazaar.product.v1 import product_pb2
from bazaar.user.v1 import user_pb2
from chassis.testing import refusal
from services.order.testing import DECLINED_CARD, Shop, Urls, audit, new_order, read

pytest_plugins = ("tools.postgres.testing", "services.order.testing")
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"


async def test_create_order_reserves_charges_and_confirms(shop: Shop, urls: Urls) -> None:
    user_id = await shop.new_user()
    lamp, bulb = await shop.new_product("L", price=3), await shop.new_product("B", price=2)
    order = await shop.orders.CreateOrder(new_order(user_id, (lamp, 2), (bulb, 5)))
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert order.total == money_pb2.Money(currency_code="GBP", units=16)
    assert [(line.product_id, line.quantity, line.unit_price.units) for line in order.lines] == [
        (lamp, 2, 3),
        (bulb, 5, 2),
    ]
    assert await shop.stock(lamp) == (8, 0, 2)
    assert await shop.get_order(order.order_id) == order
    assert audit(urls) == []


async def test_create_order_accepts_a_total_of_0(shop: Shop, urls: Urls) -> None:
    gift = await shop.new_product(price=0)
    order = await shop.orders.CreateOrder(new_order(await shop.new_user(), (gift, 1)))
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert order.total == money_pb2.Money(currency_code="GBP")
    assert audit(urls) == []


async def test_create_order_accepts_1000_lines(shop: Shop, urls: Urls) -> None:
    products: list[str] = []
    for first in range(0, 1_000, 50):
        numbers = range(first, first + 50)
        products += await asyncio.gather(*(shop.new_product(f"P{n}") for n in numbers))
    request = new_order(await shop.new_user(), *((product, 1) for product in products))
    order = await shop.orders.CreateOrder(request)
    assert order.total.units == 3_000
    assert [line.product_id for line in (await shop.get_order(order.order_id)).lines] == products
    assert audit(urls) == []


async def test_create_order_is_idempotent(shop: Shop, urls: Urls) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    first = await shop.orders.CreateOrder(request)
    assert await shop.orders.CreateOrder(request) == first
    assert audit(urls) == []


async def test_idempotency_keys_are_per_user(shop: Shop, urls: Urls) -> None:
    product = await shop.new_product()
    ada, bob = await shop.new_user("ada@example.com"), await shop.new_user("bob@example.com")
    first = await shop.orders.CreateOrder(new_order(ada, (product, 1)))
    second = await shop.orders.CreateOrder(new_order(bob, (product, 1)))
    assert first.order_id != second.order_id
    assert audit(urls) == []


async def test_create_order_rejects_a_key_that_was_used_for_another_order(
    shop: Shop, urls: Urls
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    order = await shop.orders.CreateOrder(new_order(user_id, (product, 1)))
    refused = await refusal(shop.orders.CreateOrder(new_order(user_id, (product, 2))))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "IDEMPOTENCY_KEY_REUSED",
    )
    assert refused.metadata == {"http_status": "422", "order_id": order.order_id}
    assert audit(urls) == []


async def test_create_order_takes_the_key_from_the_metadata(shop: Shop) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1), key="")
    metadata = (("idempotency-key", "from-metadata"),)
    order = await shop.orders.CreateOrder(request, metadata=metadata)
    assert order.idempotency_key == "from-metadata"
    assert await shop.orders.CreateOrder(request, metadata=metadata) == order


async def test_create_order_without_a_key_is_not_idempotent(shop: Shop) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1), key="")
    first, second = await shop.orders.CreateOrder(request), await shop.orders.CreateOrder(request)
    assert first.order_id != second.order_id


@pytest.mark.parametrize(("field", "metadata"), [("x" * 256, "k"), ("", ""), ("", "x" * 256)])
async def test_create_order_rejects_an_invalid_key(shop: Shop, field: str, metadata: str) -> None:
    request = new_order(UNKNOWN_ID, (UNKNOWN_ID, 1), key=field)
    call = shop.orders.CreateOrder(request, metadata=(("idempotency-key", metadata),))
    refused = await refusal(call)
    assert (refused.reason, refused.fields) == ("INVALID_IDEMPOTENCY_KEY", ["idempotency_key"])
    assert "http_status" not in refused.metadata


async def test_create_order_rejects_a_missing_user_and_writes_nothing(
    shop: Shop, urls: Urls
) -> None:
    request = new_order(UNKNOWN_ID, (await shop.new_product(), 1))
    refused = await refusal(shop.orders.CreateOrder(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert refused.metadata == {"user_id": UNKNOWN_ID}
    assert read(urls["order"], "SELECT * FROM orders") == []


async def test_create_order_finds_the_order_of_a_deleted_user(shop: Shop) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    order = await shop.orders.CreateOrder(request)
    await shop.users.DeleteUser(user_pb2.DeleteUserRequest(user_id=order.user_id))
    assert await shop.orders.CreateOrder(request) == order


async def test_create_order_rejects_a_missing_product(shop: Shop, urls: Urls) -> None:
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 1), (UNKNOWN_ID, 1))
    refused = await refusal(shop.orders.CreateOrder(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PRODUCT_NOT_FOUND")
    assert refused.metadata["product_id"] == UNKNOWN_ID
    rejected = await shop.get_order(refused.metadata["order_id"])
    assert rejected.state == order_pb2.ORDER_STATE_REJECTED
    assert rejected.refusal_reason == "PRODUCT_NOT_FOUND"
    assert audit(urls) == []


async def test_create_order_rejects_more_than_is_available(shop: Shop, urls: Urls) -> None:
    plenty, scarce = await shop.new_product("P", units=9), await shop.new_product("S", units=1)
    request = new_order(await shop.new_user(), (plenty, 2), (scarce, 2))
    refused = await refusal(shop.orders.CreateOrder(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "OUT_OF_STOCK",
    )
    assert refused.metadata["http_status"] == "409"
    assert refused.metadata["product_id"] == scarce
    assert await shop.stock(plenty) == (9, 0, 0)
    assert audit(urls) == []


async def test_create_order_repeats_its_refusal(shop: Shop, urls: Urls) -> None:
    product = await shop.new_product(units=1)
    request = new_order(await shop.new_user(), (product, 2))
    first = await refusal(shop.orders.CreateOrder(request))
    await shop.products.AdjustStock(
        product_pb2.AdjustStockRequest(product_id=product, delta=5, idempotency_key="more")
    )
    assert await refusal(shop.orders.CreateOrder(request)) == first
    assert audit(urls) == []


async def test_create_order_compensates_a_declined_order(shop: Shop, urls: Urls) -> None:
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2), payment_method=DECLINED_CARD)
    refused = await refusal(shop.orders.CreateOrder(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYMENT_DECLINED",
    )
    assert refused.metadata["http_status"] == "402"
    assert refused.metadata["decline_reason"] == "card_declined"
    cancelled = await shop.get_order(refused.metadata["order_id"])
    assert cancelled.state == order_pb2.ORDER_STATE_CANCELLED
    assert cancelled.payment_id == ""
    assert await shop.stock(product) == (10, 0, 0)
    assert await refusal(shop.orders.CreateOrder(request)) == refused
    assert audit(urls) == []


async def test_create_order_rejects_two_currencies(shop: Shop, urls: Urls) -> None:
    pounds = await shop.new_product("P", currency_code="GBP")
    euros = await shop.new_product("E", currency_code="EUR")
    request = new_order(await shop.new_user(), (pounds, 1), (euros, 1))
    refused = await refusal(shop.orders.CreateOrder(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "CURRENCY_MISMATCH",
    )
    assert refused.metadata["http_status"] == "422"
    assert await shop.stock(pounds) == (10, 0, 0)
    assert await refusal(shop.orders.CreateOrder(request)) == refused
    assert audit(urls) == []


async def test_create_order_rejects_a_total_that_is_too_large(shop: Shop, urls: Urls) -> None:
    product = await shop.new_product(units=1_000_000, price=10**8)
    request = new_order(await shop.new_user(), (product, 1_000_000))
    refused = await refusal(shop.orders.CreateOrder(request))
    assert refused.reason == "TOTAL_TOO_LARGE"
    assert audit(urls) == []


async def test_create_order_names_every_invalid_field(shop: Shop, urls: Urls) -> None:
    lines = [(UNKNOWN_ID, 0), (UNKNOWN_ID, 1_000_001)]
    refused = await refusal(
        shop.orders.CreateOrder(new_order(UNKNOWN_ID, *lines, payment_method=""))
    )
    assert (refused.reason, refused.metadata["http_status"]) == ("INVALID_FIELD", "422")
    assert refused.fields == ["lines[0].quantity", "lines[1].quantity", "payment_method"]
    lines = [(UNKNOWN_ID, 1), (UNKNOWN_ID, 1_000_000)]
    request = new_order(UNKNOWN_ID, *lines, payment_method="4111 1111 1111 1111")
    refused = await refusal(shop.orders.CreateOrder(request))
    assert (refused.reason, refused.metadata["http_status"]) == ("INVALID_FIELD", "422")
    assert refused.fields == ["payment_method", "lines[1].product_id"]
    assert "4111" not in refused.message
    assert read(urls["order"], "SELECT * FROM orders") == []


async def test_create_order_can_report_1000_invalid_lines(shop: Shop) -> None:
    request = new_order(UNKNOWN_ID, *[(UNKNOWN_ID, 0)] * 1_000)
    refused = await refusal(shop.orders.CreateOrder(request))
    assert refused.reason == "INVALID_FIELD"
    assert refused.fields[0] == "lines[0].quantity"


@pytest.mark.parametrize("quantity", [-(2**31), -1, 0, 1_000_001, 2**31 - 1])
async def test_create_order_bounds_quantities(shop: Shop, quantity: int) -> None:
    lines = [(UNKNOWN_ID, 1), (UNKNOWN_ID, quantity)]
    refused = await refusal(shop.orders.CreateOrder(new_order(UNKNOWN_ID, *lines)))
    assert refused.fields == ["lines[1].quantity"]


@pytest.mark.parametrize("method", ["", "x" * 256, "a\x00b"])
async def test_create_order_wants_a_payment_method(shop: Shop, method: str) -> None:
    request = new_order(UNKNOWN_ID, (UNKNOWN_ID, 1), payment_method=method)
    assert (await refusal(shop.orders.CreateOrder(request))).fields == ["payment_method"]


@pytest.mark.parametrize("count", [0, 1_001])
async def test_create_order_bounds_the_number_of_lines(shop: Shop, count: int) -> None:
    refused = await refusal(
        shop.orders.CreateOrder(new_order(UNKNOWN_ID, *[(UNKNOWN_ID, 1)] * count))
    )
    assert refused.fields == ["lines"]


async def test_create_order_names_the_invalid_id(shop: Shop) -> None:
    request = new_order(UNKNOWN_ID, (UNKNOWN_ID, 1), ("lamp", 1))
    refused = await refusal(shop.orders.CreateOrder(request))
    assert refused.fields == ["lines[1].product_id"]
    assert "http_status" not in refused.metadata
