"""AddProduct that is sent again with its idempotency key, on a real database."""

import asyncio
from typing import Any

import grpc
import psycopg
import pytest

from bazaar.product.v1 import product_pb2
from chassis.testing import held_back, refusal
from services.product.testing import Products, lamp, listed

pytest_plugins = ("tools.postgres.testing", "services.product.testing")
DATABASE = "product"


def add(products: Products, item: product_pb2.Product, key: str) -> Any:
    request = product_pb2.AddProductRequest(product=item)
    return products.AddProduct(request, metadata=(("idempotency-key", key),))


def count_rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute(f"SELECT FROM {table}".encode()).rowcount


async def test_repeated_request_returns_the_product_that_it_added(
    products: Products, clean_database_url: str
) -> None:
    added = await add(products, lamp(), "delivery-31")
    assert await add(products, lamp(), "delivery-31") == added
    for table in ("products", "stock_adjustments", "audit_events"):
        assert count_rows(clean_database_url, table) == 1, table


async def test_repeated_request_returns_the_product_as_it_is_now(products: Products) -> None:
    added = await add(products, lamp(), "delivery-31")
    changed = await products.UpdateProduct(
        product_pb2.UpdateProductRequest(
            product_id=added.product_id, product=product_pb2.Product(sku="OTHER")
        )
    )
    assert await add(products, lamp(), "delivery-31") == changed


async def test_concurrent_requests_with_one_key_add_one_product(products: Products) -> None:
    added = await asyncio.gather(*(add(products, lamp(), "delivery-31") for _ in range(10)))
    assert len({product.product_id for product in added}) == 1
    assert [product.sku for product in await listed(products)] == ["LAMP"]


async def test_request_adds_its_product_again_once_that_is_deleted(
    products: Products, clean_database_url: str
) -> None:
    await add(products, lamp(), "delivery-31")
    async with held_back(clean_database_url, "DELETE FROM products"):
        adding = asyncio.ensure_future(add(products, lamp(), "delivery-31"))
    await adding
    assert [product.sku for product in await listed(products)] == ["LAMP"]


async def test_another_product_with_the_key_is_refused(products: Products) -> None:
    await add(products, lamp(), "delivery-31")
    for other in (lamp(name="Other"), lamp("CUP")):
        refused = await refusal(add(products, other, "delivery-31"))
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert (refused.reason, refused.metadata["http_status"]) == (
            "IDEMPOTENCY_KEY_REUSED",
            "422",
        )
    assert [product.sku for product in await listed(products)] == ["LAMP"]


async def test_product_of_another_key_or_of_none_is_not_returned(products: Products) -> None:
    await products.AddProduct(product_pb2.AddProductRequest(product=lamp("CUP")))
    await add(products, lamp(), "delivery-31")
    for sku, key in (("LAMP", "delivery-32"), ("CUP", "delivery-33")):
        refused = await refusal(add(products, lamp(sku), key))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SKU_TAKEN")


@pytest.mark.parametrize("key", ["", "4242 4242 4242 4242"])
async def test_invalid_key_is_refused(products: Products, key: str) -> None:
    refused = await refusal(add(products, lamp(), key))
    assert (refused.reason, refused.fields) == ("INVALID_IDEMPOTENCY_KEY", ["idempotency_key"])
    assert await listed(products) == []
