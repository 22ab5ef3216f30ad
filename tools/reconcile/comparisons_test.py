"""Every comparison finds the difference that it is for, in a shop with an order and a refund."""

from typing import LiteralString

import psycopg
import pytest
from google.type import money_pb2

from bazaar.order.v1 import order_pb2
from bazaar.product.v1 import product_pb2
from services.order.testing import Shop, Urls, new_order
from tools.reconcile.compare import MAX_EXAMPLES, Result, compare
from tools.reconcile.comparisons import COMPARISONS

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

# Rows are changed with all triggers disabled, as a broken disk would change them.
DIFFERENCES: tuple[tuple[str, str, LiteralString], ...] = (
    ("confirmed orders and charges", "order", "UPDATE orders SET total_minor = total_minor + 1"),
    (
        "payments and sandbox",
        "payment",
        "INSERT INTO sandbox.movements (intent_reference, type, amount_minor)"
        " SELECT reference, 'CAPTURE', 300 FROM sandbox.intents",
    ),
    (
        "payments and the ledger",
        "payment",
        "INSERT INTO transactions"
        " (payment_id, order_id, type, amount_minor, currency_code, provider_reference)"
        " SELECT payment_id, order_id, 'REFUND', 1, 'GBP', 'x' FROM payments",
    ),
    (
        "payments and refunds",
        "payment",
        "INSERT INTO refunds (payment_id, number, amount_minor, currency_code, state)"
        " SELECT payment_id, 2, 1, 'GBP', 'SUCCEEDED' FROM payments",
    ),
    (
        "orders and their refunds",
        "order",
        "UPDATE orders SET refunded_minor = refunded_minor + 1",
    ),
    (
        "refunds of orders and of payments",
        "order",
        "UPDATE order_refunds SET state = 'FAILED'",
    ),
    (
        "restocked lines and returned stock",
        "product",
        "DELETE FROM stock_returns",
    ),
    (
        "lines of confirmed orders and sold stock",
        "order",
        "UPDATE order_lines SET unit_price_minor = 1",
    ),
    (
        "active orders and reserved stock",
        "product",
        "INSERT INTO reservations (order_id, state) VALUES (uuidv7(), 'PINNED')",
    ),
    (
        "reservations, returns and stock",
        "product",
        "UPDATE stock SET sold = sold + 1, available = available - 1",
    ),
    (
        "adjustments and stock",
        "product",
        "UPDATE stock SET available = available + 1, stocked = stocked + 1",
    ),
    (
        "orders and their events",
        "order",
        "INSERT INTO order_events (order_id, version, state, cause)"
        " SELECT order_id, version + 1, 'SHIPPED', 'CLIENT' FROM orders",
    ),
    (
        "orders without progress",
        "order",
        "INSERT INTO orders (user_id, idempotency_key, request_hash, payment_method, update_time)"
        " VALUES (uuidv7(), 'k2', sha256('x'), 'pm', now() - interval '61 s')",
    ),
)


def results(urls: Urls) -> dict[str, Result]:
    return {result.comparison.name: result for result in compare(urls)}


async def place(shop: Shop) -> None:
    product_id = await shop.new_product()
    request = new_order(await shop.new_user(), (product_id, 2))
    order = await shop.orders.CreateOrder(request)
    amount = money_pb2.Money(currency_code="GBP", units=1)
    refund = order_pb2.RefundOrderRequest(order_id=order.order_id, amount=amount)
    refund.restock.add(product_id=product_id, quantity=1)
    await shop.orders.RefundOrder(refund)


async def test_a_shop_without_faults_has_no_difference(shop: Shop, urls: Urls) -> None:
    await place(shop)
    found = results(urls)
    assert [result.examples for result in found.values()] == [[]] * len(COMPARISONS)
    assert found["confirmed orders and charges"].compared == 1
    assert found["restocked lines and returned stock"].compared == 1


async def test_adjustments_that_cancel_each_other_out_are_no_difference(
    shop: Shop, urls: Urls
) -> None:
    product_id = await shop.new_product(units=0)
    for delta in (5, -5):
        request = product_pb2.AdjustStockRequest(product_id=product_id, delta=delta)
        await shop.products.AdjustStock(request)
    assert results(urls)["adjustments and stock"].differences == 0


@pytest.mark.parametrize(("name", "database", "statement"), DIFFERENCES)
async def test_each_comparison_finds_its_difference(
    shop: Shop, urls: Urls, name: str, database: str, statement: LiteralString
) -> None:
    await place(shop)
    with psycopg.connect(urls[database]) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement)
    result = results(urls)[name]
    assert result.differences == len(result.examples) == 1
    assert "but" in result.examples[0]


def test_every_comparison_has_a_difference_in_the_test() -> None:
    assert {name for name, _, _ in DIFFERENCES} == {comparison.name for comparison in COMPARISONS}


async def test_many_differences_are_counted_and_some_described(shop: Shop, urls: Urls) -> None:
    with psycopg.connect(urls["product"]) as connection:
        connection.execute(
            "INSERT INTO reservations (order_id, state)"
            " SELECT uuidv7(), 'PINNED' FROM generate_series(1, 1000)"
        )
    result = results(urls)["active orders and reserved stock"]
    assert (result.differences, len(result.examples)) == (1_000, MAX_EXAMPLES)
