"""AdjustStock through a channel, on a real database."""

import asyncio
from typing import Any

import grpc
import psycopg

from bazaar.product.v1 import product_pb2
from chassis.testing import held_back, refusal
from services.product.testing import Products, stock_of, stocked

pytest_plugins = ("tools.postgres.testing", "services.product.testing")
DATABASE = "product"
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"


def adjust(product_id: str, delta: int, idempotency_key: str = "", reason: str = "") -> Any:
    return product_pb2.AdjustStockRequest(
        product_id=product_id, delta=delta, idempotency_key=idempotency_key, reason=reason
    )


async def test_adjust_stock_adds_and_removes(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    added = await products.AdjustStock(adjust(lamp, 3))
    assert added.stock == product_pb2.Stock(available=8, stocked=8)
    taken = await products.AdjustStock(adjust(lamp, -8))
    assert taken.stock == product_pb2.Stock()
    assert taken.etag != added.etag


async def test_adjust_stock_is_idempotent_with_an_idempotency_key(
    products: Products, clean_database_url: str
) -> None:
    lamp, cup = await stocked(products, "LAMP", 5), await stocked(products, "CUP", 5)
    for _ in range(2):
        await products.AdjustStock(adjust(lamp, -5, "return 7", "broken"))
    await products.AdjustStock(adjust(cup, -5, "return 7", "broken"))
    assert await stock_of(products, lamp) == (0, 0, 0, 0)
    assert await stock_of(products, cup) == (0, 0, 0, 0)
    refused = await refusal(products.AdjustStock(adjust(lamp, 4, "return 7", "broken")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.reason, refused.metadata["http_status"]) == ("IDEMPOTENCY_KEY_REUSED", "422")
    with psycopg.connect(clean_database_url) as connection:
        row = connection.execute("SELECT count(*) FROM stock_adjustments").fetchone()
    assert row == (4,)


async def test_adjust_stock_takes_its_idempotency_key_from_the_metadata(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    metadata = (("idempotency-key", "return 7"),)
    for _ in range(2):
        await products.AdjustStock(adjust(lamp, -2), metadata=metadata)
    assert await stock_of(products, lamp) == (3, 0, 0, 3)
    await products.AdjustStock(adjust(lamp, -2, "return 8"), metadata=metadata)
    assert await stock_of(products, lamp) == (1, 0, 0, 1)


async def test_adjust_stock_sees_a_concurrent_change(
    products: Products, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    change = "UPDATE stock SET available = available + 10, stocked = stocked + 10"
    async with held_back(clean_database_url, change):
        adjusting = asyncio.ensure_future(products.AdjustStock(adjust(lamp, -7)))
    await adjusting
    assert await stock_of(products, lamp) == (8, 0, 0, 8)


async def test_concurrent_adjustments_with_one_idempotency_key_are_one(products: Products) -> None:
    lamp = await stocked(products, "LAMP", 5)
    await asyncio.gather(*(products.AdjustStock(adjust(lamp, -2, "same")) for _ in range(10)))
    assert await stock_of(products, lamp) == (3, 0, 0, 3)


async def test_adjust_stock_rejects_invalid_adjustments(
    products: Products, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    with psycopg.connect(clean_database_url) as connection:
        connection.execute("UPDATE stock SET available = 3, reserved = 2")
    refused = await refusal(products.AdjustStock(adjust(lamp, -4)))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert (refused.reason, refused.metadata["http_status"]) == ("OUT_OF_STOCK", "409")
    refused = await refusal(products.AdjustStock(adjust(lamp, 2_000_000_000)))
    assert refused.reason == "STOCK_LIMIT"
    refused = await refusal(products.AdjustStock(adjust(lamp, 0, reason="r" * 201)))
    assert refused.fields == ["delta", "reason"]
    refused = await refusal(products.AdjustStock(adjust(lamp, 1, idempotency_key="k" * 256)))
    assert refused.fields == ["idempotency_key"]
    refused = await refusal(products.AdjustStock(adjust(lamp, 1, idempotency_key="\x00")))
    assert refused.fields == ["idempotency_key"]
    refused = await refusal(products.AdjustStock(adjust(lamp, 1, "4242 4242 4242 4242")))
    assert (refused.reason, refused.fields) == ("INVALID_IDEMPOTENCY_KEY", ["idempotency_key"])
    refused = await refusal(products.AdjustStock(adjust(UNKNOWN_ID, 1)))
    assert refused.reason == "PRODUCT_NOT_FOUND"
    assert await stock_of(products, lamp) == (3, 2, 0, 5)
