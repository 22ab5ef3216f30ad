"""What the databases of the shop and the books of the providers must agree on."""

from dataclasses import dataclass
from typing import LiteralString

UNCHANGED_SECONDS = 60
"""How long an order may be under way without a change, unless it waits for its customer."""


@dataclass(frozen=True, slots=True)
class Records:
    """Rows of a key and a value, both text: from a query to one database, or a provider's books."""

    source: str
    """The name of the database or of the provider."""
    query: LiteralString = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of records that must be equal; where `partial`, `found` may have fewer."""

    name: str
    expected: Records
    found: Records
    partial: bool = False


def _compare_with_books(provider: LiteralString) -> Comparison:
    return Comparison(
        f"payments and {provider}",
        Records(
            "payment",
            "SELECT provider_reference, format('%s charged, %s refunded, 0 held', amount_minor,"
            f" refunded_minor) FROM payments WHERE state = 'SUCCEEDED' AND provider = '{provider}'",
        ),
        Records(provider),
    )


BOOK_COMPARISONS = {
    "stripe": _compare_with_books("stripe"),
    "paypal": _compare_with_books("paypal"),
}
"""Comparisons with the providers whose books are not in a database of the shop."""

_CONFIRMED: LiteralString = "state IN ('CONFIRMED', 'SHIPPED', 'DELIVERED')"

COMPARISONS = (
    Comparison(
        "confirmed orders and charges",
        Records(
            "order",
            "SELECT order_id::text, format('payment %s of %s %s', payment_id, total_minor,"
            f" currency_code) FROM orders WHERE {_CONFIRMED}",
        ),
        Records(
            "payment",
            "SELECT order_id::text, format('payment %s of %s %s', payment_id, amount_minor,"
            " currency_code) FROM payments WHERE state = 'SUCCEEDED'",
        ),
    ),
    Comparison(
        "payments and sandbox",
        Records(
            "payment",
            "SELECT provider_reference, format('%s charged, %s refunded', amount_minor,"
            " refunded_minor) FROM payments WHERE state = 'SUCCEEDED' AND provider = 'sandbox'",
        ),
        Records(
            "payment",
            "SELECT intent_reference, format('%s charged, %s refunded',"
            " string_agg(amount_minor::text, ' + ') FILTER (WHERE type = 'CAPTURE'),"
            " coalesce(sum(amount_minor) FILTER (WHERE type = 'REFUND'), 0))"
            " FROM sandbox.movements GROUP BY intent_reference",
        ),
    ),
    Comparison(
        "payments and the ledger",
        Records(
            "payment",
            "SELECT payment_id::text, format('%s charged, %s refunded', amount_minor,"
            " refunded_minor) FROM payments WHERE state = 'SUCCEEDED' AND amount_minor > 0",
        ),
        Records(
            "payment",
            "SELECT payment_id::text, format('%s charged, %s refunded',"
            " sum(amount_minor) FILTER (WHERE type = 'CHARGE'),"
            " coalesce(sum(amount_minor) FILTER (WHERE type = 'REFUND'), 0))"
            " FROM transactions GROUP BY payment_id",
        ),
    ),
    Comparison(
        "payments and refunds",
        Records(
            "payment",
            "SELECT payment_id::text, refunded_minor::text FROM payments WHERE refunded_minor > 0",
        ),
        Records(
            "payment",
            "SELECT payment_id::text, sum(amount_minor)::text FROM refunds"
            " WHERE state = 'SUCCEEDED' GROUP BY payment_id",
        ),
    ),
    Comparison(
        "orders and their refunds",
        Records(
            "order",
            "SELECT order_id::text, format('%s %s, %s pending', refunded_minor, currency_code,"
            " pending_refunds) FROM orders WHERE refunded_minor > 0",
        ),
        Records(
            "order",
            "SELECT order_id::text, format('%s %s, %s pending', sum(amount_minor), currency_code,"
            " count(*) FILTER (WHERE state = 'PENDING')) FROM order_refunds"
            " WHERE state <> 'FAILED' GROUP BY order_id, currency_code",
        ),
    ),
    Comparison(
        "refunds of orders and of payments",
        Records(
            "order",
            "SELECT format('%s %s', order_id, number), format('%s %s %s', state, amount_minor,"
            " currency_code) FROM order_refunds WHERE state <> 'PENDING'",
        ),
        Records(
            "payment",
            "SELECT format('%s %s', order_id, number), format('%s %s %s', refunds.state,"
            " refunds.amount_minor, refunds.currency_code) FROM refunds"
            " JOIN payments USING (payment_id) WHERE refunds.state <> 'PENDING'"
            # Refunds with higher numbers do not come from the order service (migration 0005 of
            # payments).
            " AND number <= 1000000",
        ),
    ),
    Comparison(
        "restocked lines and returned stock",
        Records(
            "order",
            "SELECT format('%s %s %s', order_id, number, product_id), quantity::text"
            " FROM order_refund_lines JOIN order_refunds USING (order_id, number)"
            " WHERE state = 'SUCCEEDED'",
        ),
        Records(
            "product",
            "SELECT format('%s %s %s', order_id, number, product_id), quantity::text"
            " FROM stock_returns",
        ),
    ),
    Comparison(
        "lines of confirmed orders and sold stock",
        Records(
            "order",
            "SELECT format('%s %s', order_id, product_id), format('%s at %s %s', quantity,"
            " unit_price_minor, currency_code) FROM order_lines JOIN orders USING (order_id)"
            f" WHERE {_CONFIRMED}",
        ),
        Records(
            "product",
            "SELECT format('%s %s', order_id, product_id), format('%s at %s %s', quantity,"
            " price_minor, currency_code) FROM reservation_lines JOIN reservations"
            " USING (order_id) WHERE state = 'COMMITTED'",
        ),
    ),
    Comparison(
        "active orders and reserved stock",
        Records(
            "order",
            "SELECT order_id::text, '' FROM orders"
            " WHERE state IN ('PENDING', 'PAYING', 'CANCELLING')",
        ),
        Records(
            "product",
            "SELECT order_id::text, '' FROM reservations WHERE state IN ('RESERVED', 'PINNED')",
        ),
        partial=True,
    ),
    Comparison(
        "reservations, returns and stock",
        Records(
            "product",
            "SELECT product_id::text, format('%s reserved, %s sold',"
            " coalesce(sum(quantity) FILTER (WHERE state IN ('RESERVED', 'PINNED')), 0),"
            " coalesce(sum(quantity) FILTER (WHERE state = 'COMMITTED'), 0))"
            " FROM stock LEFT JOIN ("
            " SELECT product_id, quantity, state FROM reservation_lines JOIN reservations"
            " USING (order_id)"
            " UNION ALL SELECT product_id, -quantity, 'COMMITTED' FROM stock_returns"
            ") AS line USING (product_id) GROUP BY product_id",
        ),
        Records(
            "product",
            "SELECT product_id::text, format('%s reserved, %s sold', reserved, sold) FROM stock",
        ),
    ),
    Comparison(
        "adjustments and stock",
        Records(
            "product",
            "SELECT product_id::text, sum(delta)::text FROM stock_adjustments"
            " JOIN stock USING (product_id) GROUP BY product_id HAVING sum(delta) <> 0",
        ),
        Records("product", "SELECT product_id::text, stocked::text FROM stock WHERE stocked <> 0"),
    ),
    Comparison(
        "orders and their events",
        Records("order", "SELECT order_id::text, format('%s %s', version, state) FROM orders"),
        Records(
            "order",
            "SELECT DISTINCT ON (order_id) order_id::text, format('%s %s', version, state)"
            " FROM order_events ORDER BY order_id, version DESC",
        ),
    ),
    Comparison(
        "orders without progress",
        Records("order", "SELECT '', '' WHERE false"),
        Records(
            "order",
            "SELECT order_id::text, format('%s since %s', state, update_time) FROM orders"
            " WHERE next_at IS NOT NULL AND coalesce(action_expire_time, update_time)"
            f" < now() - interval '{UNCHANGED_SECONDS} s'",
        ),
    ),
)
