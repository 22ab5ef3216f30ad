"""Revisions carry the rows of the shop over, up and down."""

from typing import Any, LiteralString

import psycopg

from migrations import schema
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)

_OLD_ORDERS: LiteralString = """
INSERT INTO orders (user_id, idempotency_key, request_hash, payment_method, state, total_minor,
                    currency_code, payment_id, next_at)
SELECT uuidv7(), lower(state), sha256('x'), 'pm_card_visa', state, 100, 'GBP',
       CASE WHEN state IN ('PAID', 'CONFIRMED') THEN uuidv7() END,
       CASE WHEN state <> 'CONFIRMED' THEN now() END
FROM unnest(ARRAY['PENDING', 'RESERVED', 'PAYING', 'PAID', 'CONFIRMED']) AS state
"""


def _read(url: str, query: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def _execute(url: str, statement: LiteralString) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement)


def test_orders_lose_the_states_that_recovery_does_not_need(databases: Databases) -> None:
    url = databases.create_empty()
    schema.upgrade("order", url, "0002")
    _execute(url, _OLD_ORDERS)
    schema.upgrade("order", url, "0003")
    query: LiteralString = (
        "SELECT idempotency_key, orders.state, payment_id IS NOT NULL, next_at IS NOT NULL,"
        " order_events.state, cause FROM orders JOIN order_events USING (order_id, version)"
        " ORDER BY order_id"
    )
    assert _read(url, query) == [
        ("pending", "PENDING", False, True, "PENDING", "MIGRATION"),
        ("reserved", "PAYING", False, True, "PAYING", "MIGRATION"),
        ("paying", "PAYING", False, True, "PAYING", "MIGRATION"),
        ("paid", "PAYING", False, True, "PAYING", "MIGRATION"),
        ("confirmed", "CONFIRMED", True, False, "CONFIRMED", "MIGRATION"),
    ]
    _execute(
        url,
        "UPDATE orders SET next_at = 'infinity', failure = 'x', failing_since = now()"
        " WHERE idempotency_key = 'paid'",
    )
    schema.downgrade("order", url, "0002")
    query = "SELECT idempotency_key, state, next_at <= now() FROM orders ORDER BY order_id"
    assert _read(url, query) == [
        ("pending", "PENDING", True),
        ("reserved", "PAYING", True),
        ("paying", "PAYING", True),
        ("paid", "PAYING", True),
        ("confirmed", "CONFIRMED", None),
    ]
    assert _read(url, "SELECT state FROM outbox") == [("CONFIRMED",)]
    databases.drop(url)


def test_pending_refunds_are_not_due_after_a_downgrade(databases: Databases) -> None:
    url = databases.create_empty()
    schema.upgrade("order", url, "0005")
    _execute(
        url,
        "INSERT INTO orders (user_id, idempotency_key, request_hash, payment_method, state,"
        " total_minor, currency_code, payment_id, refunded_minor, pending_refunds)"
        " VALUES (uuidv7(), 'k', sha256('x'), 'pm', 'CONFIRMED', 100, 'GBP', uuidv7(), 50, 1);"
        " INSERT INTO order_refunds"
        " (order_id, number, idempotency_key, request_hash, amount_minor, currency_code)"
        " SELECT order_id, 1, 'r', sha256('x'), 50, 'GBP' FROM orders",
    )
    schema.downgrade("order", url, "0004")
    assert _read(url, "SELECT state, next_at FROM orders") == [("CONFIRMED", None)]
    databases.drop(url)


def test_the_reasons_of_outages_are_forgotten_after_a_downgrade(databases: Databases) -> None:
    url = databases.create_empty()
    schema.upgrade("order", url, "0006")
    _execute(
        url,
        "INSERT INTO orders"
        " (user_id, idempotency_key, request_hash, payment_method, failure, failing_since)"
        " VALUES (uuidv7(), 'outage', sha256('x'), 'pm', 'UNAVAILABLE', NULL),"
        " (uuidv7(), 'defect', sha256('x'), 'pm', 'ValueError', now())",
    )
    schema.downgrade("order", url, "0005")
    query: LiteralString = "SELECT idempotency_key, failure FROM orders ORDER BY order_id"
    assert _read(url, query) == [("outage", None), ("defect", "ValueError")]
    databases.drop(url)


_CHARGED: LiteralString = """
INSERT INTO sandbox.intents (reference, idempotency_key, amount_minor, currency_code)
VALUES ('pi_1', 'pi:o', 9, 'GBP');
INSERT INTO payments (order_id, state, amount_minor, currency_code, provider, provider_reference)
VALUES (uuidv7(), 'SUCCEEDED', 9, 'GBP', 'sandbox', 'pi_1');
INSERT INTO sandbox.movements (intent_reference, type, amount_minor) VALUES ('pi_1', 'CAPTURE', 9)
"""
_REFUND: LiteralString = """
UPDATE payments SET refunded_minor = refunded_minor + 1;
INSERT INTO transactions
    (payment_id, order_id, type, amount_minor, currency_code, provider_reference)
SELECT payment_id, order_id, 'REFUND', 1, 'GBP', 'mv' FROM payments;
"""


def _read_refunds(url: str) -> tuple[list[int], list[str]]:
    """Return the numbers of refunds, and the idempotency keys of the sandbox."""
    refunds = _read(url, "SELECT number FROM refunds ORDER BY number")
    movements = _read(
        url, "SELECT idempotency_key FROM sandbox.movements WHERE type = 'REFUND' ORDER BY 1"
    )
    return [number for (number,) in refunds], [key for (key,) in movements]


def test_old_refunds_make_way_for_the_numbers_of_the_order_service(databases: Databases) -> None:
    url = databases.create_empty()
    schema.upgrade("payment", url, "0004")
    _execute(url, _CHARGED)
    _execute(
        url,
        _REFUND + "INSERT INTO refunds"
        " (payment_id, number, idempotency_key, amount_minor, currency_code, state)"
        " SELECT payment_id, number, key, 1, 'GBP', old.state FROM payments,"
        " (VALUES (1, 'a', 'SUCCEEDED'), (2, NULL, 'PENDING')) AS old (number, key, state);"
        " INSERT INTO sandbox.movements (intent_reference, type, amount_minor, idempotency_key)"
        " VALUES ('pi_1', 'REFUND', 1, 'refund:o:1')",
    )
    schema.upgrade("payment", url, "0005")
    assert _read_refunds(url) == ([1_000_001, 1_000_002], ["refund:o:1000001"])
    query: LiteralString = "SELECT number FROM sandbox.movements WHERE number > 0 ORDER BY number"
    assert _read(url, query) == [(1_000_001,)]
    # A refund of the order service, whose number does not change any more.
    _execute(
        url,
        _REFUND + "INSERT INTO refunds (payment_id, number, amount_minor, currency_code, state)"
        " SELECT payment_id, 1, 1, 'GBP', 'SUCCEEDED' FROM payments;"
        " INSERT INTO sandbox.movements"
        " (intent_reference, type, amount_minor, number, idempotency_key)"
        " VALUES ('pi_1', 'REFUND', 1, 1, 'refund:o:1')",
    )
    found = [1, 1_000_001, 1_000_002], ["refund:o:1", "refund:o:1000001"]
    schema.downgrade("payment", url, "0004")
    assert _read_refunds(url) == found
    schema.upgrade("payment", url, "0005")
    assert _read_refunds(url) == found
    assert _read(url, query) == [(1,), (1_000_001,)]
    databases.drop(url)


def test_payments_without_an_intent_are_deleted(databases: Databases) -> None:
    url = databases.create_empty()
    schema.upgrade("payment", url, "0002")
    _execute(
        url,
        "INSERT INTO payments (order_id, state, amount_minor, currency_code, provider_reference)"
        " VALUES (uuidv7(), 'NEW', 1, 'GBP', ''), (uuidv7(), 'PROCESSING', 1, 'GBP', 'pi_1')",
    )
    schema.upgrade("payment", url, "0003")
    assert _read(url, "SELECT state FROM payments") == [("PROCESSING",)]
    schema.downgrade("payment", url, "0002")
    assert _read(url, "SELECT state FROM payments") == [("PROCESSING",)]
    databases.drop(url)


def test_returned_units_are_adjustments_after_a_downgrade(databases: Databases) -> None:
    url = databases.create_empty()
    schema.upgrade("product", url, "0003")
    _execute(
        url,
        "INSERT INTO products (sku, name, description, categories, price_minor, currency_code,"
        " currency_digits, image_uri, attributes)"
        " VALUES ('A', 'A', '', '{}', 1, 'GBP', 2, '', '{}');"
        " INSERT INTO stock (product_id, available, sold, stocked)"
        " SELECT product_id, 4, 1, 5 FROM products;"
        " INSERT INTO reservations (order_id, state) VALUES (uuidv7(), 'COMMITTED');"
        " INSERT INTO stock_returns (order_id, number, product_id, quantity)"
        " SELECT order_id, number, product_id, 1"
        " FROM products, reservations, generate_series(1, 2) AS number",
    )
    schema.downgrade("product", url, "0002")
    assert _read(url, "SELECT available, sold, stocked FROM stock") == [(4, 3, 7)]
    assert _read(url, "SELECT delta FROM stock_adjustments") == [(2,)]
    databases.drop(url)
