"""ProductService through a channel, on a real database. For lists see `listing_test`, for stock
`stock_test`."""

import asyncio

import grpc
import psycopg
import pytest
from google.protobuf import field_mask_pb2
from google.type import money_pb2

from bazaar.product.v1 import product_pb2
from chassis.testing import held_back, refusal
from services.product.testing import Products, add, lamp, listed

pytest_plugins = ("tools.postgres.testing", "services.product.testing")
DATABASE = "product"
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"


ATTRIBUTES = {
    "colour": "red",
    "watts": 60,
    "weight": 0.35,
    "dimmable": True,
    "bulb": None,
    "size": {"cm": {"height": 40}},
    "tags": ["new", 7, {"nested": []}],
    "empty": {},
}


async def test_add_product_returns_what_get_product_finds(products: Products) -> None:
    new = lamp(
        description="It shines.",
        categories=["lamps", "home"],
        imageUri="https://example.com/lamp.jpg",
        attributes=ATTRIBUTES,
    )
    (created,) = await add(products, new)
    found = await products.GetProduct(product_pb2.GetProductRequest(product_id=created.product_id))
    assert found == created
    assert found.stock == product_pb2.Stock(available=5, stocked=5)
    assert found.create_time == found.update_time
    for field in ("sku", "name", "description", "categories", "price", "image_uri", "attributes"):
        assert getattr(found, field) == getattr(new, field)


async def test_add_product_records_its_opening_stock(
    products: Products, clean_database_url: str
) -> None:
    await add(products, lamp("A"), lamp("B", stock={}))
    with psycopg.connect(clean_database_url) as connection:
        rows = connection.execute("SELECT delta, reason FROM stock_adjustments").fetchall()
    assert rows == [(5, "opening stock")]


async def test_add_product_keeps_whole_numbers_readable(
    products: Products, clean_database_url: str
) -> None:
    await add(products, lamp(attributes={"whole": 3, "double": 0.5, "large": 1e300}))
    with psycopg.connect(clean_database_url) as connection:
        row = connection.execute(
            "SELECT attributes ->> 'whole', attributes ->> 'double' FROM products"
        ).fetchone()
    assert row == ("3", "0.5")


async def test_add_product_rejects_a_taken_sku(products: Products) -> None:
    await add(products, lamp())
    refused = await refusal(
        products.AddProduct(product_pb2.AddProductRequest(product=lamp(name="Other")))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SKU_TAKEN")


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (product_pb2.Product(sku="A", name="A"), "price.currency_code"),
        (lamp(price="1.999 GBP"), "price.nanos"),
        (lamp(price="1.5 JPY"), "price.nanos"),
        (lamp(price="-1.0 GBP"), "price.units"),
        (lamp(price="1.0 ABC"), "price.currency_code"),
        (lamp(name=""), "name"),
        (lamp(imageUri="ftp://a"), "image_uri"),
        (lamp(sku="s" * 65), "sku"),
        (lamp(categories=["c"] * 21), "categories"),
        (lamp(categories=["c", "c" * 101]), "categories[1]"),
        (lamp(stock={"available": -1}), "stock.available"),
        (lamp(stock={"available": 2_000_000_001}), "stock.available"),
        (lamp(attributes={"a": "x" * 16_384}), "attributes"),
        (lamp(attributes={"a": ["\x00"]}), "attributes"),
        (lamp(attributes={"a\x00": 1}), "attributes"),
    ],
)
async def test_add_product_names_the_invalid_field(
    products: Products, new: product_pb2.Product, field: str
) -> None:
    refused = await refusal(products.AddProduct(product_pb2.AddProductRequest(product=new)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.metadata["http_status"] == "422"
    assert refused.fields == [field]
    assert await listed(products) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_add_product_rejects_nan_and_infinities(products: Products, number: float) -> None:
    new = lamp()
    new.attributes["number"] = number
    refused = await refusal(products.AddProduct(product_pb2.AddProductRequest(product=new)))
    assert refused.fields == ["attributes"]


async def test_get_product_distinguishes_missing_and_invalid_ids(products: Products) -> None:
    refused = await refusal(
        products.GetProduct(product_pb2.GetProductRequest(product_id=UNKNOWN_ID))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PRODUCT_NOT_FOUND")
    assert refused.metadata["product_id"] == UNKNOWN_ID
    refused = await refusal(products.GetProduct(product_pb2.GetProductRequest(product_id="7")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


def update(
    product: product_pb2.Product, changes: product_pb2.Product, *paths: str
) -> product_pb2.UpdateProductRequest:
    return product_pb2.UpdateProductRequest(
        product_id=product.product_id,
        product=changes,
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )


async def test_update_product_changes_only_what_the_mask_names(products: Products) -> None:
    (created,) = await add(products, lamp(attributes=ATTRIBUTES))
    changes = lamp(price="5.00 EUR", name="New", attributes={"colour": "blue"})
    updated = await products.UpdateProduct(update(created, changes, "price", "attributes"))
    assert updated.price == money_pb2.Money(currency_code="EUR", units=5)
    assert updated.attributes == changes.attributes
    assert updated.name == created.name
    assert updated.stock == created.stock
    assert updated.etag != created.etag
    assert updated.create_time == created.create_time
    found = await products.GetProduct(product_pb2.GetProductRequest(product_id=created.product_id))
    assert found == updated


async def test_update_product_without_a_mask_changes_what_is_set(products: Products) -> None:
    (created,) = await add(products, lamp())
    updated = await products.UpdateProduct(update(created, product_pb2.Product(name="New")))
    assert (updated.name, updated.sku, updated.price) == ("New", created.sku, created.price)


async def test_update_product_with_a_star_replaces_everything(products: Products) -> None:
    (created,) = await add(products, lamp(description="old", attributes=ATTRIBUTES))
    updated = await products.UpdateProduct(update(created, lamp("NEW"), "*"))
    assert (updated.sku, updated.description) == ("NEW", "")
    assert not updated.attributes.fields


async def test_update_product_replaces_the_whole_price_for_a_path_within_it(
    products: Products,
) -> None:
    (created,) = await add(products, lamp(price="9.99 GBP"))
    changes = product_pb2.Product(price=money_pb2.Money(currency_code="GBP", units=7))
    updated = await products.UpdateProduct(
        update(created, changes, "price.currency_code", "price.units")
    )
    assert updated.price == changes.price
    changes.price.ClearField("currency_code")
    refused = await refusal(products.UpdateProduct(update(created, changes, "price.units")))
    assert refused.fields == ["price.currency_code"], "it is not taken from the old price"


@pytest.mark.parametrize(
    "path",
    ["stock", "stock.available", "etag", "product_id", "price.pence", "attributes.colour", ""],
)
async def test_update_product_rejects_a_mask_over_other_fields(
    products: Products, path: str
) -> None:
    (created,) = await add(products, lamp())
    refused = await refusal(products.UpdateProduct(update(created, lamp("NEW"), path)))
    assert refused.reason == "INVALID_UPDATE_MASK"


async def test_update_product_rejects_invalid_updates(products: Products) -> None:
    created, _ = await add(products, lamp(), lamp("TAKEN"))
    stale = product_pb2.Product(name="New", etag=created.etag)
    await products.UpdateProduct(update(created, stale, "name"))
    refused = await refusal(products.UpdateProduct(update(created, stale, "name")))
    assert refused.code == grpc.StatusCode.ABORTED
    refused = await refusal(products.UpdateProduct(update(created, lamp("TAKEN"), "sku")))
    assert refused.reason == "SKU_TAKEN"
    crowded = product_pb2.Product(categories=["c"] * 21)
    refused = await refusal(products.UpdateProduct(update(created, crowded, "sku", "categories")))
    assert refused.fields == ["sku", "categories"]
    gone = product_pb2.Product(product_id=UNKNOWN_ID)
    refused = await refusal(products.UpdateProduct(update(gone, lamp(), "name")))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_update_product_sees_a_concurrent_change(
    products: Products, clean_database_url: str
) -> None:
    (created,) = await add(products, lamp())
    changes = product_pb2.Product(name="New", etag=created.etag)
    async with held_back(clean_database_url, "UPDATE products SET version = version + 1"):
        updating = asyncio.ensure_future(
            refusal(products.UpdateProduct(update(created, changes, "name")))
        )
    assert (await updating).code == grpc.StatusCode.ABORTED


async def test_delete_product_deletes_once(products: Products) -> None:
    (created,) = await add(products, lamp())
    request = product_pb2.DeleteProductRequest(product_id=created.product_id)
    await products.DeleteProduct(request)
    refused = await refusal(products.DeleteProduct(request))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_delete_product_sees_a_concurrent_reservation(
    products: Products, clean_database_url: str
) -> None:
    (created,) = await add(products, lamp())
    change = "UPDATE stock SET available = available - 1, reserved = reserved + 1"
    request = product_pb2.DeleteProductRequest(product_id=created.product_id)
    async with held_back(clean_database_url, change):
        deleting = asyncio.ensure_future(refusal(products.DeleteProduct(request)))
    assert (await deleting).reason == "PRODUCT_RESERVED"


async def test_batch_get_products_omits_missing_ones(products: Products) -> None:
    first, second = await add(products, lamp("A"), lamp("B"))
    ids = [second.product_id, UNKNOWN_ID, first.product_id, first.product_id]
    response = await products.BatchGetProducts(product_pb2.BatchGetProductsRequest(product_ids=ids))
    assert sorted(response.products, key=lambda product: product.sku) == [first, second]


async def test_batch_get_products_bounds_the_batch(products: Products) -> None:
    request = product_pb2.BatchGetProductsRequest(product_ids=[UNKNOWN_ID] * 1_001)
    refused = await refusal(products.BatchGetProducts(request))
    assert refused.reason == "BATCH_TOO_LARGE"


async def test_batch_get_products_rejects_what_exceeds_a_message(
    products: Products, clean_database_url: str
) -> None:
    (product,) = await add(products, lamp(description="\u6f22" * 10_000))
    with psycopg.connect(clean_database_url) as connection:
        rows = connection.execute(
            "WITH copied AS (INSERT INTO products (sku, name, description, categories, price_minor,"
            "  currency_code, currency_digits, image_uri, attributes)"
            " SELECT number, name, description, categories, price_minor, currency_code,"
            "  currency_digits, image_uri, attributes FROM products, generate_series(1, 150) number"
            " RETURNING product_id)"
            " INSERT INTO stock (product_id, available, stocked)"
            " SELECT product_id, 0, 0 FROM copied RETURNING product_id::text"
        ).fetchall()
    ids = [row[0] for row in rows]
    refused = await refusal(
        products.BatchGetProducts(product_pb2.BatchGetProductsRequest(product_ids=ids))
    )
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "RESPONSE_TOO_LARGE",
    )
    request = product_pb2.BatchGetProductsRequest(product_ids=ids[:139])
    response = await products.BatchGetProducts(request)
    assert len(response.products) == 139
    assert response.products[0].description == product.description


@pytest.mark.parametrize("paths", [(), ("name", "attributes"), ("*",)])
async def test_update_product_that_changes_no_value_changes_nothing(
    products: Products, paths: tuple[str, ...]
) -> None:
    (created,) = await add(products, lamp(attributes={**ATTRIBUTES, "large": 2.0**60}))
    changes = created if paths else product_pb2.Product()
    assert await products.UpdateProduct(update(created, changes, *paths)) == created
    found = await products.GetProduct(product_pb2.GetProductRequest(product_id=created.product_id))
    assert found == created


async def test_update_product_distinguishes_true_and_1(products: Products) -> None:
    (created,) = await add(products, lamp(attributes={"bulbs": [{"lit": True}]}))
    changes = lamp(attributes={"bulbs": [{"lit": 1}]})
    updated = await products.UpdateProduct(update(created, changes, "attributes"))
    assert updated.attributes == changes.attributes
    assert updated.etag != created.etag


async def test_update_product_that_changes_nothing_returns_the_current_stock(
    products: Products, clean_database_url: str
) -> None:
    (created,) = await add(products, lamp())
    change = (
        "UPDATE products SET version = version;"
        " UPDATE stock SET available = available + 1, stocked = stocked + 1"
    )
    async with held_back(clean_database_url, change):
        updating = asyncio.ensure_future(
            products.UpdateProduct(update(created, product_pb2.Product()))
        )
    assert (await updating).stock.available == created.stock.available + 1
