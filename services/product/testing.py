"""Test fixtures of products: the service through a channel, new products, and an audit.

A test module gets the fixtures with

    pytest_plugins = ("tools.postgres.testing", "services.product.testing")

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import psycopg
import pytest
from google.protobuf import json_format

from bazaar.product.v1 import product_pb2, product_pb2_grpc
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import serving_service
from services.product.main import SERVICE
from tools.postgres.testing import app_url

Products: TypeAlias = "product_pb2_grpc.ProductServiceAsyncStub"

_DISCREPANCIES = """
WITH returned AS (
    SELECT product_id, sum(quantity) AS units FROM stock_returns GROUP BY product_id
), reservation AS (
    SELECT product_id,
           coalesce(sum(quantity) FILTER (WHERE state IN ('RESERVED', 'PINNED')), 0) AS reserved,
           coalesce(sum(quantity) FILTER (WHERE state = 'COMMITTED'), 0) AS sold
      FROM reservation_lines JOIN reservations USING (order_id) GROUP BY product_id
), delivered AS (
    SELECT product_id, sum(delta) AS stocked FROM stock_adjustments GROUP BY product_id
)
SELECT format('%s: stock %s, orders %s, returns %s, adjustments %s', product_id, stock, reservation,
              returned, delivered)
  FROM stock LEFT JOIN reservation USING (product_id) LEFT JOIN delivered USING (product_id)
  LEFT JOIN returned USING (product_id)
 WHERE stock.available < 0
    OR stock.available + stock.reserved + stock.sold <> stock.stocked
    OR stock.reserved <> coalesce(reservation.reserved, 0)
    OR stock.sold <> coalesce(reservation.sold, 0) - coalesce(returned.units, 0)
    OR stock.stocked <> coalesce(delivered.stocked, 0)
"""


@pytest.fixture
async def products(clean_database_url: str) -> AsyncIterator[Products]:
    """Serve products out of the module's database, and yield a stub."""
    async with serving_service(
        SERVICE, Resources(Database(app_url(clean_database_url)))
    ) as channel:
        yield product_pb2_grpc.ProductServiceStub(channel)


def lamp(sku: str = "LAMP", price: str = "9.99 GBP", **fields: Any) -> product_pb2.Product:
    """Return a lamp with a stock of 5; `fields` are as in JSON."""
    units, _, code = price.partition(" ")
    whole, _, fraction = units.partition(".")
    money = {"currencyCode": code, "units": whole, "nanos": int(fraction.ljust(9, "0"))}
    base = {"sku": sku, "name": f"Lamp {sku}", "price": money, "stock": {"available": 5}}
    return json_format.ParseDict({**base, **fields}, product_pb2.Product())


async def add(products: Products, *items: product_pb2.Product) -> list[product_pb2.Product]:
    """Add products, in order."""
    return [
        await products.AddProduct(product_pb2.AddProductRequest(product=item)) for item in items
    ]


async def stocked(products: Products, sku: str, available: int) -> str:
    """Add a lamp with a stock, and return its id."""
    (added,) = await add(products, lamp(sku, "2.55 GBP", stock={"available": available}))
    return added.product_id


async def stock_of(products: Products, product_id: str) -> tuple[int, int, int, int]:
    """Return how many units are available, reserved, sold and stocked."""
    found = await products.GetProduct(product_pb2.GetProductRequest(product_id=product_id))
    stock = found.stock
    return stock.available, stock.reserved, stock.sold, stock.stocked


async def listed(products: Products, **query: Any) -> list[product_pb2.Product]:
    """List the products of all messages of the stream."""
    call = products.ListProducts(product_pb2.ListProductsRequest(**query))
    return [product async for page in call for product in page.products]


def find_discrepancies(url: str) -> list[str]:
    """Compare the stock with the reservations, the returns and the adjustments.

    An empty list means that no unit was oversold, lost or counted twice.
    """
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(_DISCREPANCIES).fetchall()]
