"""ListProducts through a channel, on a real database."""

import contextlib
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bazaar.product.v1 import product_pb2
from chassis import paging
from chassis.database import Database
from chassis.testing import bytes_kept, refusal
from services.product.servicer import ProductServicer
from services.product.testing import Products, add, lamp, listed
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing", "services.product.testing")
DATABASE = "product"

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


async def skus(products: Products, **query: Any) -> list[str]:
    return [product.sku for product in await listed(products, **query)]


async def list_refusal(products: Products, **query: Any) -> Any:
    return await refusal(products.ListProducts(product_pb2.ListProductsRequest(**query)).read())


async def test_list_products_of_an_empty_catalogue_is_one_empty_page(products: Products) -> None:
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
@pytest.mark.parametrize("page_size", [0, 1, 2, 5])
async def test_list_products_pages_in_every_order(
    products: Products, order_by: str, expected: str, page_size: int
) -> None:
    await add(products, *CATALOGUE)
    found: list[str] = []
    token = ""
    requests = -(-len(expected) // page_size) if page_size else 1
    for _ in range(requests):
        request = product_pb2.ListProductsRequest(
            order_by=order_by, page_size=page_size, page_token=token
        )
        pages = [page async for page in products.ListProducts(request)]
        found += [product.sku for page in pages for product in page.products]
        token = pages[-1].next_page_token
    assert ("".join(found), token) == (expected, "")


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
        ({"page_token": "W1tb" * 700}, "INVALID_PAGE_TOKEN"),
        ({"filter": "price = 1e99999999999999999999"}, "INVALID_FILTER"),
        ({"filter": "price = 0e2000000000"}, "INVALID_FILTER"),
        ({"filter": "colour = red"}, "INVALID_FILTER"),
        ({"order_by": "colour"}, "INVALID_ORDER_BY"),
        ({"order_by": "name sideways"}, "INVALID_ORDER_BY"),
        ({"order_by": "name desc, sku"}, "INVALID_ORDER_BY"),
        ({"search": "x" * 501}, "INVALID_FIELD"),
        ({"search": "\x00"}, "INVALID_FIELD"),
    ],
)
async def test_list_products_rejects_invalid_queries(
    products: Products, query: dict[str, Any], reason: str
) -> None:
    refused = await list_refusal(products, **query)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


LARGEST: dict[str, Any] = {
    "description": "\u6f22" * 10_000,
    "attributes": {"a": "x" * 16_000},
}


async def test_list_products_splits_pages_that_exceed_a_message(
    products: Products,
) -> None:
    await add(products, *(lamp(f"{number:03}", **LARGEST) for number in range(120)))
    request = product_pb2.ListProductsRequest(page_size=1_000)
    pages = [page async for page in products.ListProducts(request)]
    assert len(pages) > 1
    assert all(page.ByteSize() < paging.FULL_BYTES + 100_000 for page in pages)
    found = [product.sku for page in pages for product in page.products]
    assert found == [f"{number:03}" for number in range(120)]
    rest = await skus(products, page_size=1_000, page_token=pages[0].next_page_token)
    assert rest == found[len(pages[0].products) :]


async def test_list_products_retains_nothing_while_the_client_does_not_read(
    products: Products, clean_database_url: str
) -> None:
    await add(products, *(lamp(f"{number:03}", **LARGEST) for number in range(60)))
    database = Database(app_url(clean_database_url))
    await database.open()
    servicer = ProductServicer(database)
    kept = await bytes_kept(servicer.ListProducts, product_pb2.ListProductsRequest())
    await database.close()
    assert kept < 30_000, "less than the description of a single one"


async def test_list_products_survives_a_client_that_cancels(products: Products) -> None:
    await add(products, *(lamp(f"{number:03}", **LARGEST) for number in range(60)))
    for _ in range(20):
        call = products.ListProducts(product_pb2.ListProductsRequest())
        await call.read()
        call.cancel()
    assert len(await listed(products)) == 60


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.builds(
    "{}{}e{}".format,
    st.integers(-(10**20), 10**20) | st.just(0),
    st.sampled_from(["", ".0", ".123456789012"]),
    st.sampled_from([0, 15, -9, 131_073, 2 * 10**9, 10**20]),
)
COMPARISONS = st.builds(
    "{} {} {}".format,
    st.sampled_from(["price", "available", "attributes.a"]),
    st.sampled_from(["=", "!="]),
    NUMBERS,
) | st.builds(
    "{} {} '{}'".format,
    st.sampled_from(["sku", "name", "categories", 'attributes."a b".c']),
    st.sampled_from(["=", "!=", ":"]),
    TEXTS,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.lists(COMPARISONS, max_size=2).map(" AND ".join),
    search=TEXTS,
    order_by=st.sampled_from(["create_time", "name", "sku desc", "price"]),
    position=st.none() | st.lists(TEXTS | NUMBERS | st.uuids().map(str), max_size=3),
)
async def test_list_products_processes_or_rejects_every_query(
    products: Products, text: str, search: str, order_by: str, position: list[str] | None
) -> None:
    progress = paging.Progress((text, search, order_by), "", 0)
    progress.position = position
    query: dict[str, Any] = {"filter": text, "search": search}
    query |= {"order_by": order_by, "page_token": progress.next_page_token}
    call = products.ListProducts(product_pb2.ListProductsRequest(**query))
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    assert await call.code() in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
