"""The steps of reservations through a channel, on a real database."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc
import psycopg
import pytest
from google.protobuf.message import Message
from google.type import money_pb2

from bazaar.product.v1 import product_pb2
from chassis import status
from chassis.database import Database
from chassis.testing import held_back, refusal
from services.product import expiry
from services.product.testing import Products, stock_of, stocked

pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.product.testing")
DATABASE = "product"
Result: TypeAlias = product_pb2.ReservationResult

RESERVED = product_pb2.RESERVATION_STATE_RESERVED
PINNED = product_pb2.RESERVATION_STATE_PINNED
COMMITTED = product_pb2.RESERVATION_STATE_COMMITTED
RELEASED = product_pb2.RESERVATION_STATE_RELEASED
REJECTED = product_pb2.RESERVATION_STATE_REJECTED


def new_order() -> str:
    return str(uuid.uuid4())


def reserve(*orders: tuple[str, dict[str, int]], pin: bool = False) -> Any:
    return product_pb2.ReserveStockRequest(
        pin=pin,
        reservations=[
            product_pb2.ReserveStockRequest.Reservation(
                order_id=order_id,
                lines=[
                    product_pb2.StockLine(product_id=product_id, quantity=quantity)
                    for product_id, quantity in lines.items()
                ],
            )
            for order_id, lines in orders
        ],
    )


async def reserve_one(products: Products, lines: dict[str, int], *, pin: bool = False) -> str:
    order = new_order()
    response = await products.ReserveStock(reserve((order, lines), pin=pin))
    assert response.results[0].state == (PINNED if pin else RESERVED)
    return order


async def take(products: Products, verb: str, *orders: str) -> Sequence[Result]:
    request: Message = getattr(product_pb2, f"{verb}StockRequest")(order_ids=orders)
    results: Sequence[Result] = (await getattr(products, f"{verb}Stock")(request)).results
    assert [result.order_id for result in results] == list(orders)
    return results


def reason(result: Result) -> str:
    return status.error_info(result.error).reason


def expire(url: str, *orders: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE reservations SET expires_at = now() - interval '1 s' WHERE order_id = ANY(%s)",
            ([uuid.UUID(order) for order in orders],),
        )


async def test_reserve_stock_reserves_and_returns_the_prices(products: Products) -> None:
    lamp, cup = await stocked(products, "LAMP", 5), await stocked(products, "CUP", 2)
    order = new_order()
    (result,) = (await products.ReserveStock(reserve((order, {lamp: 3, cup: 2})))).results
    assert (result.order_id, result.state) == (order, RESERVED)
    assert not result.HasField("error")
    assert [line.product_id for line in result.lines] == [lamp, cup]
    assert {(line.unit_price.units, line.unit_price.nanos) for line in result.lines} == {
        (2, 550_000_000)
    }
    assert await stock_of(products, lamp) == (2, 3, 0, 5)
    assert await stock_of(products, cup) == (0, 2, 0, 2)


async def test_reserve_stock_reserves_all_lines_of_an_order_or_none(products: Products) -> None:
    lamp, cup = await stocked(products, "LAMP", 5), await stocked(products, "CUP", 2)
    unknown = new_order()
    orders = [
        (new_order(), {lamp: 4, cup: 1}),
        (new_order(), {cup: 1, lamp: 2}),
        (new_order(), {cup: 1, unknown: 1}),
        (new_order(), {lamp: 1, cup: 1}),
    ]
    results = (await products.ReserveStock(reserve(*orders))).results
    assert [result.order_id for result in results] == [order for order, _ in orders]
    assert [result.state for result in results] == [RESERVED, REJECTED, REJECTED, RESERVED]
    short, missing = results[1].error, results[2].error
    assert short.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    info = status.error_info(short)
    assert info.reason == "OUT_OF_STOCK"
    assert dict(info.metadata) == {"product_id": lamp, "http_status": "409"}
    assert missing.code == grpc.StatusCode.NOT_FOUND.value[0]
    info = status.error_info(missing)
    assert (info.reason, info.metadata["product_id"]) == ("PRODUCT_NOT_FOUND", unknown)
    assert await stock_of(products, lamp) == (0, 5, 0, 5)
    assert await stock_of(products, cup) == (0, 2, 0, 2)


async def test_reserve_stock_is_idempotent(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    request = reserve((new_order(), {lamp: 4}), (new_order(), {lamp: 4}))
    first = await products.ReserveStock(request)
    changed = product_pb2.Product(price=money_pb2.Money(currency_code="EUR", units=9))
    await products.UpdateProduct(product_pb2.UpdateProductRequest(product_id=lamp, product=changed))
    await products.AdjustStock(product_pb2.AdjustStockRequest(product_id=lamp, delta=100))
    assert await products.ReserveStock(request) == first
    assert await stock_of(products, lamp) == (101, 4, 0, 105)


async def test_reserve_stock_mixes_new_and_repeated_orders(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    old = await reserve_one(products, {lamp: 2})
    new = new_order()
    response = await products.ReserveStock(reserve((new, {lamp: 3}), (old, {lamp: 2})))
    assert [(result.order_id, result.state) for result in response.results] == [
        (new, RESERVED),
        (old, RESERVED),
    ]
    assert await stock_of(products, lamp) == (0, 5, 0, 5)


async def test_reserve_stock_can_pin(products: Products, database: Database) -> None:
    lamp = await stocked(products, "LAMP", 5)
    await reserve_one(products, {lamp: 2}, pin=True)
    waiting = await reserve_one(products, {lamp: 1})
    (result,) = (await products.ReserveStock(reserve((waiting, {lamp: 1}), pin=True))).results
    assert (result.state, len(result.lines)) == (PINNED, 1)
    assert await expiry.release_expired(database) == 0


async def test_reserve_stock_rejects_other_lines_for_the_same_order(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order = await reserve_one(products, {lamp: 2})
    (result,) = (await products.ReserveStock(reserve((order, {lamp: 3})))).results
    assert reason(result) == "RESERVATION_DIFFERS"
    assert await stock_of(products, lamp) == (3, 2, 0, 5)


async def test_reserve_stock_rejects_a_repeated_order(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order = new_order()
    refused = await refusal(products.ReserveStock(reserve((order, {lamp: 1}), (order, {lamp: 1}))))
    assert refused.reason == "DUPLICATE_ORDER"
    assert await stock_of(products, lamp) == (5, 0, 0, 5)


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 2**31 - 1])
async def test_reserve_stock_rejects_invalid_quantities(products: Products, quantity: int) -> None:
    lamp = await stocked(products, "LAMP", 5)
    refused = await refusal(products.ReserveStock(reserve((new_order(), {lamp: quantity}))))
    assert refused.fields == ["reservations[0].lines[0].quantity"]


@pytest.mark.parametrize("count", [0, 1_001])
async def test_reserve_stock_bounds_the_lines_of_an_order(products: Products, count: int) -> None:
    lines = {new_order(): 1 for _ in range(count)}
    refused = await refusal(products.ReserveStock(reserve((new_order(), lines))))
    assert refused.fields == ["reservations[0].lines"]


async def test_reserve_stock_bounds_the_batch(products: Products) -> None:
    orders = [(new_order(), {new_order(): 1}) for _ in range(1_001)]
    refused = await refusal(products.ReserveStock(reserve(*orders)))
    assert refused.fields == ["reservations"]


async def test_reserve_stock_bounds_the_lines_of_a_batch(products: Products) -> None:
    lines = {str(uuid.UUID(int=number)): 1 for number in range(1_000)}
    orders = [(new_order(), lines) for _ in range(50)]
    response = await products.ReserveStock(reserve(*orders))
    assert [reason(result) for result in response.results] == ["PRODUCT_NOT_FOUND"] * 50
    refused = await refusal(
        products.ReserveStock(reserve(*orders, (new_order(), {new_order(): 1})))
    )
    assert refused.reason == "BATCH_TOO_LARGE"


async def test_a_reservation_goes_from_reserved_to_pinned_to_committed(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order = await reserve_one(products, {lamp: 2})
    for verb, state, stock in (
        ("Pin", PINNED, (3, 2, 0, 5)),
        ("Pin", PINNED, (3, 2, 0, 5)),
        ("Commit", COMMITTED, (3, 0, 2, 5)),
        ("Commit", COMMITTED, (3, 0, 2, 5)),
        ("Pin", COMMITTED, (3, 0, 2, 5)),
    ):
        (result,) = await take(products, verb, order)
        assert (result.state, result.HasField("error")) == (state, False)
        assert await stock_of(products, lamp) == stock
    (result,) = await take(products, "Release", order)
    assert (result.state, reason(result)) == (COMMITTED, "ORDER_COMMITTED")
    assert await stock_of(products, lamp) == (3, 0, 2, 5)


@pytest.mark.parametrize("pin", [False, True])
async def test_release_stock_releases_once(products: Products, pin: bool) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order = await reserve_one(products, {lamp: 2}, pin=pin)
    for _ in range(2):
        (result,) = await take(products, "Release", order)
        assert (result.state, result.HasField("error")) == (RELEASED, False)
        assert await stock_of(products, lamp) == (5, 0, 0, 5)
    for verb in ("Pin", "Commit"):
        (result,) = await take(products, verb, order)
        assert (result.state, reason(result)) == (RELEASED, "ORDER_RELEASED")
    (result,) = (await products.ReserveStock(reserve((order, {lamp: 2})))).results
    assert (result.state, reason(result)) == (RELEASED, "ORDER_RELEASED")
    assert await stock_of(products, lamp) == (5, 0, 0, 5)


async def test_release_stock_prevents_a_later_reserve(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order = new_order()
    (result,) = await take(products, "Release", order)
    assert (result.state, result.HasField("error")) == (RELEASED, False)
    (late,) = (await products.ReserveStock(reserve((order, {lamp: 2})))).results
    assert (late.state, reason(late)) == (RELEASED, "ORDER_RELEASED")
    assert await stock_of(products, lamp) == (5, 0, 0, 5)


async def test_commit_stock_requires_a_pin(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order = await reserve_one(products, {lamp: 2})
    (result,) = await take(products, "Commit", order)
    assert (result.state, reason(result)) == (RESERVED, "NOT_PINNED")
    assert await stock_of(products, lamp) == (3, 2, 0, 5)


async def test_orders_of_a_batch_have_separate_results(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 9)
    pinned = await reserve_one(products, {lamp: 1}, pin=True)
    waiting = await reserve_one(products, {lamp: 2})
    unknown = new_order()
    results = await take(products, "Commit", unknown, waiting, pinned)
    assert [reason(result) for result in results] == ["RESERVATION_NOT_FOUND", "NOT_PINNED", ""]
    assert await stock_of(products, lamp) == (6, 2, 1, 9)


@pytest.mark.parametrize("verb", ["Pin", "Commit", "Release"])
async def test_each_step_bounds_and_checks_its_batch(products: Products, verb: str) -> None:
    for orders, expected in (
        ([new_order()] * 2, "DUPLICATE_ORDER"),
        ([new_order()] * 1_001, "BATCH_TOO_LARGE"),
        (["7"], "INVALID_ID"),
    ):
        request = getattr(product_pb2, f"{verb}StockRequest")(order_ids=orders)
        refused = await refusal(getattr(products, f"{verb}Stock")(request))
        assert refused.reason == expected


async def test_pin_stock_releases_expired_reservations_for_good(
    products: Products, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    late, early = await reserve_one(products, {lamp: 2}), await reserve_one(products, {lamp: 1})
    expire(clean_database_url, late)
    for _ in range(2):
        results = await take(products, "Pin", late, early)
        assert [result.state for result in results] == [RELEASED, PINNED]
        assert reason(results[0]) == "ORDER_RELEASED"
        assert await stock_of(products, lamp) == (4, 1, 0, 5)


async def test_the_sweep_releases_only_expired_reservations(
    products: Products, database: Database, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 9)
    expired = [await reserve_one(products, {lamp: 2}), await reserve_one(products, {lamp: 1})]
    pinned = await reserve_one(products, {lamp: 3})
    await take(products, "Pin", pinned)
    await reserve_one(products, {lamp: 1})
    expire(clean_database_url, *expired)
    assert await expiry.release_expired(database) == 2
    assert await expiry.release_expired(database) == 0
    assert await stock_of(products, lamp) == (5, 4, 0, 9)
    (result,) = await take(products, "Pin", expired[0])
    assert reason(result) == "ORDER_RELEASED"


async def test_delete_product_waits_for_reservations(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order = await reserve_one(products, {lamp: 2})
    request = product_pb2.DeleteProductRequest(product_id=lamp)
    refused = await refusal(products.DeleteProduct(request))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "PRODUCT_RESERVED"
    await take(products, "Release", order)
    await products.DeleteProduct(request)
    (result,) = (await products.ReserveStock(reserve((new_order(), {lamp: 1})))).results
    assert reason(result) == "PRODUCT_NOT_FOUND"


async def test_reserve_stock_that_waits_for_a_lock_uses_the_price_afterwards(
    products: Products, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    change = (
        "UPDATE stock SET available = available + 1, stocked = stocked + 1;"
        " UPDATE products SET price_minor = 900, currency_code = 'EUR', version = version + 1"
    )
    async with held_back(clean_database_url, change):
        reserving = asyncio.ensure_future(products.ReserveStock(reserve((new_order(), {lamp: 6}))))
    (result,) = (await reserving).results
    assert [line.unit_price for line in result.lines] == [
        money_pb2.Money(currency_code="EUR", units=9)
    ]
    assert await stock_of(products, lamp) == (0, 6, 0, 6)


async def test_reserve_stock_that_waits_for_a_lock_rejects_a_deleted_product(
    products: Products, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    async with held_back(clean_database_url, "DELETE FROM products"):
        reserving = asyncio.ensure_future(products.ReserveStock(reserve((new_order(), {lamp: 1}))))
    (result,) = (await reserving).results
    assert (result.state, reason(result)) == (REJECTED, "PRODUCT_NOT_FOUND")
