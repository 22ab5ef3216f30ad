"""What the databases of the shop must agree on, and how they are compared.

Each comparison is a pair of queries, whose rows are read side by side in the order of their keys:
memory does not grow with the number of orders.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import Any, LiteralString, TypeAlias

import psycopg

from tools.reconcile.books import Books, sorted_rows

MAX_EXAMPLES = 20
"""How many differences of a comparison are described; the others are counted."""
CONNECT_SECONDS = 5
"""How long connecting to a database may take."""
STUCK_SECONDS = 60
"""How long an order may be under way without a change, unless it waits for its customer."""

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Row = tuple[str, str]
"""A key and what is recorded for it."""


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


@dataclass(slots=True)
class Result:
    """How many records were compared, and how many keys differ, with some examples."""

    comparison: Comparison
    compared: int = 0
    differences: int = 0
    examples: list[str] = field(default_factory=list)


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
        "payments and the provider",
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
            " JOIN payments USING (payment_id) WHERE refunds.state <> 'PENDING'",
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
        "orders that are stuck",
        Records("order", "SELECT '', '' WHERE false"),
        Records(
            "order",
            "SELECT order_id::text, format('%s since %s', state, update_time) FROM orders"
            " WHERE next_at IS NOT NULL AND coalesce(action_expire_time, update_time)"
            f" < now() - interval '{STUCK_SECONDS} s'",
        ),
    ),
)


def compare(
    urls: Mapping[str, str],
    comparisons: Sequence[Comparison] = COMPARISONS,
    books: Mapping[str, Books] = MappingProxyType({}),
) -> list[Result]:
    """Compare pairs of records, on one connection per database.

    `urls` are those of the databases by their names, `books` those of the providers that are
    compared.

    Raises:
        psycopg.Error: a database cannot be read.
        httpx.HTTPError: the books of a provider cannot be read.
    """
    sources = {side.source for each in comparisons for side in (each.expected, each.found)}
    with ExitStack() as stack:
        connections = {
            name: stack.enter_context(psycopg.connect(urls[name], connect_timeout=CONNECT_SECONDS))
            for name in sources - books.keys()
        }
        for connection in connections.values():
            connection.read_only = True
        return [_compare(connections, books, comparison) for comparison in comparisons]


def _compare(
    connections: Mapping[str, Connection], books: Mapping[str, Books], comparison: Comparison
) -> Result:
    result = Result(comparison)
    with ExitStack() as stack:
        expected = _read(stack, connections, comparison.expected, "expected")
        if comparison.found.source in books:
            provider = comparison.found.source
            references = _read_references(stack, connections["payment"], provider)
            found = sorted_rows(books[provider].read(references))
        else:
            found = _read(stack, connections, comparison.found, "found")
        for key, before, after in _merge(expected, found):
            result.compared += 1
            if before == after or (after is None and comparison.partial):
                continue
            result.differences += 1
            if len(result.examples) < MAX_EXAMPLES:
                result.examples.append(f"{key}: {_describe(before)}, but {_describe(after)}")
    return result


def _read(
    stack: ExitStack, connections: Mapping[str, Connection], records: Records, name: str
) -> Iterator[Row]:
    cursor = stack.enter_context(connections[records.source].cursor(name))
    # Merging needs the order of the keys' bytes, whatever the collation of the database is.
    cursor.execute(
        f'SELECT * FROM ({records.query}) AS record (key, value) ORDER BY key COLLATE "C"'
    )
    return iter(cursor)


def _read_references(stack: ExitStack, payments: Connection, provider: str) -> Iterator[str]:
    cursor = stack.enter_context(payments.cursor("references"))
    cursor.execute(
        "SELECT provider_reference FROM payments WHERE provider = %s AND provider_reference <> ''",
        (provider,),
    )
    return (reference for (reference,) in cursor)


def _merge(
    left: Iterable[Row], right: Iterable[Row]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield every key with its values on both sides; None where a side does not have the key."""
    merged = heapq.merge(_mark(left, 0), _mark(right, 1))
    for key, rows in itertools.groupby(merged, key=itemgetter(0)):
        values: tuple[list[str], list[str]] = ([], [])
        for _, side, value in rows:
            values[side].append(value)
        expected, found = (" and ".join(each) if each else None for each in values)
        yield key, expected, found


def _mark(rows: Iterable[Row], side: int) -> Iterator[tuple[str, int, str]]:
    for key, value in rows:
        yield key, side, value


def _describe(value: str | None) -> str:
    return "nothing" if value is None else value or "one"
