"""The SQL of products: the use of indices, and constraints of the database."""

import datetime as dt
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from chassis.database import Connection
from chassis.money import Amount
from services.product import repository
from services.product.domain import Details
from services.product.listing import parse_key, parse_listing
from services.product.repository import NewProduct
from services.product.reservation import State
from tools.postgres.testing import read_choices

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "product"
DETAILS = Details("SKU", "Name", "", (), Amount(1, "GBP"), "", {})
COUNT = 3_000


@pytest.fixture
async def connection(clean_database_url: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(clean_database_url) as opened:
        yield opened


def test_the_schema_has_the_states_of_the_domain(database_url: str) -> None:
    assert read_choices(database_url, "reservations", "state") == set(State)


async def fill(connection: Connection) -> None:
    """Insert so many products that reading all of them costs more than using an index."""
    await repository.insert_products(
        connection,
        [
            NewProduct(
                replace(
                    DETAILS,
                    sku=f"{number:05}",
                    name=f"Thing {number % 7}",
                    description=f"word{number}",
                    categories=(f"category{number % 500}",),
                    price=Amount(number % 11, "GBP"),
                    attributes={"number": number, "size": {"cm": [number]}},
                ),
                1,
            )
            for number in range(COUNT)
        ],
    )
    await connection.execute("ANALYZE products, stock")


class Explained:
    """A connection that explains statements instead of executing them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plan = ""

    def cursor(self, **_: Any) -> "Explained":
        return self

    async def execute(self, query: str, parameters: Any) -> None:
        cursor = await self._connection.execute(f"EXPLAIN {query}", parameters)
        self.plan = "\n".join(row[0] for row in await cursor.fetchall())

    async def fetchall(self) -> list[Any]:
        return []


async def explain(connection: Connection, **query: str) -> str:
    listing = parse_listing(
        query.get("filter", ""), query.get("search", ""), query.get("order", "")
    )
    explained: Any = Explained(connection)
    await repository.list_products(explained, listing, None, 501)
    plan: str = explained.plan
    return plan


async def test_list_products_uses_an_index(connection: Connection) -> None:
    await fill(connection)
    for query, index in (
        ({"filter": "attributes.number = 7"}, "products_attributes_idx"),
        ({"filter": "attributes.size.cm : 7"}, "products_attributes_idx"),
        ({"filter": "categories:category7"}, "products_categories_idx"),
        ({"filter": "sku = '00007'"}, "products_sku_key"),
        ({"filter": "price = 0.07 AND attributes.number = 7"}, "products_attributes_idx"),
        ({"search": "word7"}, "products_search_idx"),
        ({}, "products_pkey"),
        ({"order": "name"}, "products_name_idx"),
        ({"order": "name desc"}, "products_name_idx"),
        ({"order": "sku desc"}, "products_sku_key"),
        ({"order": "price"}, "products_price_idx"),
    ):
        plan = await explain(connection, **query)
        assert index in plan
        assert "Seq Scan on products" not in plan


async def test_list_products_of_a_later_page_does_not_read_earlier_ones(
    connection: Connection,
) -> None:
    await fill(connection)
    for column in ("create_time", "name desc", "sku", "price desc"):
        listing = parse_listing("", "", column)
        (*_, last) = await repository.list_products(connection, listing, None, 10)
        key = parse_key(listing.position_of(last), listing.column)
        explained: Any = Explained(connection)
        await repository.list_products(explained, listing, key, 501)
        assert "Index Cond" in explained.plan
        assert "Sort" not in explained.plan


async def test_insert_products_returns_them_in_order(connection: Connection) -> None:
    new = [
        NewProduct(replace(DETAILS, sku=sku, categories=tuple(sku)), 3) for sku in ("CA", "B", "A")
    ]
    inserted = await repository.insert_products(connection, new)
    assert [NewProduct(product.details, product.stock.available) for product in inserted] == new
    assert inserted == await repository.list_products(
        connection, parse_listing("", "", ""), None, 10
    )


async def test_prices_compare_in_units_of_their_currencies(connection: Connection) -> None:
    prices = [Amount(999, "GBP"), Amount(500, "JPY"), Amount(9_999, "KWD")]
    new = [NewProduct(replace(DETAILS, sku=str(price.minor), price=price), 0) for price in prices]
    await repository.insert_products(connection, new)
    listing = parse_listing("price > 9.99", "", "price desc")
    found = await repository.list_products(connection, listing, None, 10)
    assert [product.details.price for product in found] == [prices[1], prices[2]]


async def test_get_products_returns_repeated_ids_once(connection: Connection) -> None:
    (product,) = await repository.insert_products(connection, [NewProduct(DETAILS, 1)])
    ids = [product.product_id, product.product_id, uuid.UUID(int=0)]
    assert await repository.get_products(connection, ids) == [product]
    assert product.create_time.tzinfo is not None
    assert dt.datetime.now(dt.UTC) - product.create_time < dt.timedelta(minutes=1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stock SET available = available - 2, stocked = stocked - 2",
        "UPDATE stock SET available = available + 1",
        "UPDATE stock SET reserved = -1, available = 2",
        "UPDATE stock_adjustments SET delta = 2",
        "DELETE FROM stock_adjustments",
        "INSERT INTO reservations (order_id, state) VALUES (uuidv7(), 'RESERVED')",
        "INSERT INTO reservations (order_id, state) VALUES (uuidv7(), 'REJECTED')",
    ],
)
async def test_the_database_rejects_inconsistent_stock(
    connection: Connection, statement: str
) -> None:
    await repository.insert_products(connection, [NewProduct(DETAILS, 1)])
    with pytest.raises(psycopg.errors.IntegrityError):
        await connection.execute(statement)
