"""The catalogue through a real channel, on a real database. For the stock see stock_test.py."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import psycopg
import pytest
from google.protobuf import field_mask_pb2, json_format
from google.type import money_pb2

from bazaar.product.v1 import product_pb2, product_pb2_grpc
from chassis.database import Database
from chassis.server import Server
from chassis.testing import refusal, serving
from services.product.servicer import FULL_BYTES, ProductServicer

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "product"
Products: TypeAlias = "product_pb2_grpc.ProductServiceAsyncStub"
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"


@pytest.fixture
async def products(clean_database_url: str) -> AsyncIterator[Products]:
    database = Database(clean_database_url)
    servicer = ProductServicer(database)
    server = Server(
        "bazaar.product.v1.ProductService",
        lambda grpc_server: product_pb2_grpc.add_ProductServiceServicer_to_server(
            servicer, grpc_server
        ),
        database,
        "127.0.0.1:0",
    )
    async with serving(server) as channel:
        yield product_pb2_grpc.ProductServiceStub(channel)


def lamp(sku: str = "LAMP", price: str = "9.99 GBP", **fields: Any) -> product_pb2.Product:
    """Make a lamp; fields are given as in JSON."""
    units, _, code = price.partition(" ")
    whole, _, fraction = units.partition(".")
    money = {"currencyCode": code, "units": whole, "nanos": int(fraction.ljust(9, "0"))}
    base = {"sku": sku, "name": f"Lamp {sku}", "price": money, "stock": {"available": 5}}
    return json_format.ParseDict({**base, **fields}, product_pb2.Product())


async def add(products: Products, *items: product_pb2.Product) -> list[product_pb2.Product]:
    return [
        await products.AddProduct(product_pb2.AddProductRequest(product=item)) for item in items
    ]


async def listed(products: Products, **query: Any) -> list[product_pb2.Product]:
    call = products.ListProducts(product_pb2.ListProductsRequest(**query))
    return [product async for page in call for product in page.products]


async def skus(products: Products, **query: Any) -> list[str]:
    return [product.sku for product in await listed(products, **query)]


async def list_refusal(products: Products, **query: Any) -> Any:
    return await refusal(products.ListProducts(product_pb2.ListProductsRequest(**query)).read())


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
        (lamp(price="1.0 XXX"), "price.currency_code"),
        (lamp(name=""), "name"),
        (lamp(imageUri="ftp://a"), "image_uri"),
        (lamp(stock={"available": -1}), "stock.available"),
        (lamp(attributes={"a": "x" * 16_384}), "attributes"),
        (lamp(attributes={"a": ["\x00"]}), "attributes"),
        (lamp(attributes={"a\x00": 1}), "attributes"),
    ],
)
async def test_add_product_names_the_bad_field(
    products: Products, new: product_pb2.Product, field: str
) -> None:
    refused = await refusal(products.AddProduct(product_pb2.AddProductRequest(product=new)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.metadata["http_status"] == "422"
    assert refused.fields == [field]
    assert await skus(products) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_add_product_rejects_numbers_that_json_has_not(
    products: Products, number: float
) -> None:
    new = lamp()
    new.attributes["number"] = number
    refused = await refusal(products.AddProduct(product_pb2.AddProductRequest(product=new)))
    assert refused.fields == ["attributes"]


async def test_get_product_tells_unknown_from_unreadable(products: Products) -> None:
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


@pytest.mark.parametrize("path", ["stock", "etag", "product_id", "price.units", ""])
async def test_update_product_rejects_a_mask_over_other_fields(
    products: Products, path: str
) -> None:
    (created,) = await add(products, lamp())
    refused = await refusal(products.UpdateProduct(update(created, lamp("NEW"), path)))
    assert refused.reason == "INVALID_UPDATE_MASK"


async def test_update_product_rejects_what_it_should(products: Products) -> None:
    created, _ = await add(products, lamp(), lamp("TAKEN"))
    stale = product_pb2.Product(name="New", etag=created.etag)
    await products.UpdateProduct(update(created, stale, "name"))
    refused = await refusal(products.UpdateProduct(update(created, stale, "name")))
    assert refused.code == grpc.StatusCode.ABORTED
    refused = await refusal(products.UpdateProduct(update(created, lamp("TAKEN"), "sku")))
    assert refused.reason == "SKU_TAKEN"
    gone = product_pb2.Product(product_id=UNKNOWN_ID)
    refused = await refusal(products.UpdateProduct(update(gone, lamp(), "name")))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_concurrent_updates_with_one_etag_let_one_through(products: Products) -> None:
    (created,) = await add(products, lamp())
    changes = product_pb2.Product(name="New", etag=created.etag)
    calls = [products.UpdateProduct(update(created, changes, "name")) for _ in range(8)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, product_pb2.Product) for answer in answers) == 1


async def test_delete_product_deletes_once(products: Products) -> None:
    (created,) = await add(products, lamp())
    request = product_pb2.DeleteProductRequest(product_id=created.product_id)
    await products.DeleteProduct(request)
    refused = await refusal(products.DeleteProduct(request))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_batch_get_products_leaves_out_the_unknown(products: Products) -> None:
    first, second = await add(products, lamp("A"), lamp("B"))
    ids = [second.product_id, UNKNOWN_ID, first.product_id, first.product_id]
    answer = await products.BatchGetProducts(product_pb2.BatchGetProductsRequest(product_ids=ids))
    assert sorted(answer.products, key=lambda product: product.sku) == [first, second]


async def test_batch_get_products_bounds_the_batch(products: Products) -> None:
    request = product_pb2.BatchGetProductsRequest(product_ids=[UNKNOWN_ID] * 1_001)
    refused = await refusal(products.BatchGetProducts(request))
    assert refused.reason == "BATCH_TOO_LARGE"


async def test_list_products_of_an_empty_shop_is_one_empty_page(products: Products) -> None:
    call = products.ListProducts(product_pb2.ListProductsRequest())
    assert [page async for page in call] == [product_pb2.ListProductsResponse()]


CATALOGUE = [
    lamp("D", "9.99 GBP", name="Same", categories=["lamps", "home"], attributes=ATTRIBUTES),
    lamp("B", "10 GBP", name="Same", description="red lamps shine", attributes={"watts": 40}),
    lamp("A", "500 JPY", name="Zebra", categories=["home"], stock={"available": 0}),
    lamp("C", "9.999 KWD", name="Red kettle", attributes={"colour": "blue", "tags": ["new"]}),
    lamp("E", "9.99 EUR", name="Äpfel"),
]


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("", "DBACE"),
        ("create_time", "DBACE"),
        ("create_time desc", "ECABD"),
        ("sku", "ABCDE"),
        ("sku desc", "EDCBA"),
        ("name", "CDBAE"),
        ("name  desc", "EABDC"),
        ("price asc", "DECBA"),
        ("price desc", "ABCED"),
    ],
)
@pytest.mark.parametrize("page_size", [0, 2, 5])
async def test_list_products_pages_in_every_order(
    products: Products, order_by: str, expected: str, page_size: int
) -> None:
    await add(products, *CATALOGUE)
    found: list[str] = []
    token = ""
    for _ in expected:
        request = product_pb2.ListProductsRequest(
            order_by=order_by, page_size=page_size, page_token=token
        )
        pages = [page async for page in products.ListProducts(request)]
        found += [product.sku for page in pages for product in page.products]
        token = pages[-1].next_page_token
        if not token:
            break
    assert "".join(found) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('sku = "A"', "A"),
        ("sku != A", "BCDE"),
        ("name = Same", "BD"),
        ('name != "Same"', "ACE"),
        ("currency_code = GBP", "BD"),
        ("currency_code != GBP", "ACE"),
        ('categories:"lamps"', "D"),
        ("categories:home", "AD"),
        ("categories:hom", ""),
        ("price <= 9.99", "DE"),
        ("price < 9.99", ""),
        ("price = 9.99", "DE"),
        ("price != 9.99", "ABC"),
        ("price > 9.99", "ABC"),
        ("price >= 500", "A"),
        ("price > 9.9985 AND price < 10", "C"),
        ("available >= 1", "BCDE"),
        ("available = 0", "A"),
        ("available < 1", "A"),
        ('attributes.colour = "red"', "D"),
        ("attributes.colour != red", "ABCE"),
        ("attributes.watts = 60", "D"),
        ("attributes.watts = 60.0", "D"),
        ('attributes.watts = "60"', ""),
        ("attributes.weight = 0.35", "D"),
        ("attributes.dimmable = true", "D"),
        ("attributes.dimmable = false", ""),
        ("attributes.bulb = null", "D"),
        ("attributes.size.cm.height = 40", "D"),
        ('attributes."size".cm.height = 41', ""),
        ("attributes.tags : new", "CD"),
        ("attributes.tags : 7", "D"),
        ("attributes.tags = new", ""),
        ("categories:home AND price < 100 AND attributes.colour = red", "D"),
        ("name = \"x' OR 'a' = 'a\"", ""),
        ('attributes."x\' OR TRUE --" = 1', ""),
        ('name = "%s %(a)s"', ""),
    ],
)
async def test_list_products_filters(products: Products, text: str, expected: str) -> None:
    await add(products, *CATALOGUE)
    assert "".join(sorted(await skus(products, filter=text))) == expected


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("kettle", "C"),
        ("RED", "BC"),
        ("red lamp", "B"),
        ("red -kettle", "B"),
        ('"lamps shine"', "B"),
        ("zebra or kettle", "AC"),
        ("nothing like it", ""),
        ("'; DROP TABLE products; --", ""),
        ("((", ""),
        ("  ", "ABCDE"),
    ],
)
async def test_list_products_searches(products: Products, search: str, expected: str) -> None:
    await add(products, *CATALOGUE)
    assert "".join(sorted(await skus(products, search=search))) == expected


async def test_list_products_pages_through_a_filter(products: Products) -> None:
    await add(products, *CATALOGUE)
    query = {"filter": "currency_code = GBP", "search": "same", "order_by": "sku"}
    request = product_pb2.ListProductsRequest(page_size=1, **query)
    (page,) = [page async for page in products.ListProducts(request)]
    assert [product.sku for product in page.products] == ["B"]
    assert await skus(products, page_token=page.next_page_token, **query) == ["D"]
    refused = await list_refusal(products, page_token=page.next_page_token)
    assert refused.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"page_size": -1}, "INVALID_PAGE_SIZE"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN"),
        ({"filter": "colour = red"}, "INVALID_FILTER"),
        ({"order_by": "colour"}, "INVALID_ORDER_BY"),
        ({"order_by": "name sideways"}, "INVALID_ORDER_BY"),
        ({"order_by": "name desc, sku"}, "INVALID_ORDER_BY"),
        ({"search": "x" * 501}, "INVALID_FIELD"),
        ({"search": "\x00"}, "INVALID_FIELD"),
    ],
)
async def test_list_products_refuses_what_it_does_not_understand(
    products: Products, query: dict[str, Any], reason: str
) -> None:
    refused = await list_refusal(products, **query)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


LARGEST: dict[str, Any] = {
    "description": "\u6f22" * 10_000,
    "attributes": {"a": "x" * 16_000},
}


async def test_list_products_splits_pages_that_are_too_large_for_a_message(
    products: Products,
) -> None:
    await add(products, *(lamp(f"{number:03}", **LARGEST) for number in range(120)))
    pages = [page async for page in products.ListProducts(product_pb2.ListProductsRequest())]
    assert len(pages) > 1
    assert all(page.ByteSize() < FULL_BYTES + 100_000 for page in pages)
    found = [product.sku for page in pages for product in page.products]
    assert found == [f"{number:03}" for number in range(120)]
    rest = await skus(products, page_token=pages[0].next_page_token)
    assert rest == found[len(pages[0].products) :]


async def test_list_products_does_not_mind_a_reader_that_leaves(products: Products) -> None:
    await add(products, *(lamp(f"{number:03}", **LARGEST) for number in range(60)))
    for _ in range(20):
        call = products.ListProducts(product_pb2.ListProductsRequest())
        await call.read()
        call.cancel()
    assert len(await listed(products)) == 60
