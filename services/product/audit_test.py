"""What staff change is in the audit log, with the change or not at all, and only admins read it."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import psycopg
import pytest
from audit.v1 import audit_pb2
from google.protobuf import field_mask_pb2, json_format

from bazaar.product.v1 import product_pb2, product_pb2_grpc
from chassis.audit_testing import find_changes_by_staff
from chassis.caller import Role
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import authorized, refusal, serving
from chassis.token_testing import SESSION_ID, Issuer
from services.product.main import SERVICE
from services.product.testing import Products, add, lamp
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "product"

ISSUER = Issuer()
STAFF_ID, ADMIN_ID = uuid.UUID(int=7), uuid.UUID(int=8)
METADATA = (("x-forwarded-for", "203.0.113.9"), ("x-request-id", "r-1"))


@pytest.fixture
async def channel(clean_database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    resources = Resources(Database(app_url(clean_database_url)))
    trusting = replace(SERVICE, make_verifier=lambda *_: ISSUER.verifier())
    async with serving(trusting.make_server(resources, "127.0.0.1:0")) as channel:
        yield channel


def as_user(channel: grpc.aio.Channel, user_id: uuid.UUID, role: Role) -> Products:
    token = ISSUER.token(user_id, role)
    stub: Products = product_pb2_grpc.ProductServiceStub(authorized(channel, token))
    return stub


@pytest.fixture
def staff(channel: grpc.aio.Channel) -> Products:
    return as_user(channel, STAFF_ID, Role.STAFF)


@pytest.fixture
def admin(channel: grpc.aio.Channel) -> Products:
    return as_user(channel, ADMIN_ID, Role.ADMIN)


async def list_events(
    admin: Products, page_size: int = 0, page_token: str = "", **query: str
) -> list[audit_pb2.AuditEvent]:
    """Return the events of all pages, newest first."""
    request = product_pb2.ListAuditEventsRequest(
        page_size=page_size, page_token=page_token, **query
    )
    pages = [page async for page in admin.ListAuditEvents(request)]
    events = [event for page in pages for event in page.audit_events]
    if token := pages[-1].next_page_token:
        events += await list_events(admin, page_size, token, **query)
    return events


def to_json(product: product_pb2.Product) -> dict[str, object]:
    return json_format.MessageToDict(product)


async def test_a_change_is_recorded_with_who_made_it_when_and_from_where(
    staff: Products, admin: Products
) -> None:
    request = product_pb2.AddProductRequest(product=lamp())
    added = await staff.AddProduct(request, metadata=METADATA)
    (event,) = await list_events(admin)
    assert (event.user_id, event.role) == (str(STAFF_ID), "staff")
    assert event.session_id == str(SESSION_ID)
    assert (event.client_address, event.request_id) == ("203.0.113.9", "r-1")
    assert event.method == "/bazaar.product.v1.ProductService/AddProduct"
    assert event.resource == f"products/{added.product_id}"
    assert event.create_time == added.create_time
    assert not event.HasField("before")
    assert json_format.MessageToDict(event.after) == to_json(added)


async def test_each_change_is_recorded_with_the_product_before_and_after(
    staff: Products, admin: Products
) -> None:
    (added,) = await add(staff, lamp(attributes={"watts": 60, "tags": ["new", None]}))
    product_id = added.product_id
    updated = await staff.UpdateProduct(
        product_pb2.UpdateProductRequest(
            product_id=product_id,
            product=product_pb2.Product(name="Desk lamp"),
            update_mask=field_mask_pb2.FieldMask(paths=["name"]),
        )
    )
    adjusted = await staff.AdjustStock(
        product_pb2.AdjustStockRequest(product_id=product_id, delta=-2)
    )
    await staff.DeleteProduct(product_pb2.DeleteProductRequest(product_id=product_id))
    found = [
        (
            event.method.rpartition("/")[2],
            json_format.MessageToDict(event.before),
            json_format.MessageToDict(event.after),
        )
        for event in reversed(await list_events(admin))
    ]
    assert {method for method, _, _ in found} == find_changes_by_staff(SERVICE.descriptor)
    assert found == [
        ("AddProduct", {}, to_json(added)),
        ("UpdateProduct", to_json(added), to_json(updated)),
        ("AdjustStock", to_json(updated), to_json(adjusted)),
        ("DeleteProduct", to_json(adjusted), {}),
    ]


async def test_what_changes_nothing_is_not_recorded(staff: Products, admin: Products) -> None:
    added, other = await add(staff, lamp("A"), lamp("B"))
    same = product_pb2.UpdateProductRequest(
        product_id=added.product_id, product=product_pb2.Product(name=added.name)
    )
    await staff.UpdateProduct(same)
    taken = product_pb2.UpdateProductRequest(
        product_id=added.product_id, product=product_pb2.Product(sku=other.sku)
    )
    assert (await refusal(staff.UpdateProduct(taken))).reason == "SKU_TAKEN"
    adjustment = product_pb2.AdjustStockRequest(
        product_id=added.product_id, delta=1, idempotency_key="k"
    )
    for _ in range(2):
        await staff.AdjustStock(adjustment)
    too_many = product_pb2.AdjustStockRequest(product_id=added.product_id, delta=-1_000)
    assert (await refusal(staff.AdjustStock(too_many))).reason == "OUT_OF_STOCK"
    methods = [event.method.rpartition("/")[2] for event in await list_events(admin)]
    assert methods == ["AdjustStock", "AddProduct", "AddProduct"]


async def test_a_change_that_cannot_be_recorded_is_not_made(
    staff: Products, admin: Products, clean_database_url: str
) -> None:
    (added,) = await add(staff, lamp())
    refuse = "ALTER TABLE audit_events ADD CONSTRAINT full_disk CHECK (false) NOT VALID"
    with psycopg.connect(clean_database_url) as administrator:
        administrator.execute(refuse)
    product_id = added.product_id
    changes = (
        staff.AddProduct(product_pb2.AddProductRequest(product=lamp("B"))),
        staff.UpdateProduct(
            product_pb2.UpdateProductRequest(
                product_id=product_id, product=product_pb2.Product(name="New")
            )
        ),
        staff.AdjustStock(product_pb2.AdjustStockRequest(product_id=product_id, delta=1)),
        staff.DeleteProduct(product_pb2.DeleteProductRequest(product_id=product_id)),
    )
    for change in changes:
        assert (await refusal(change)).code == grpc.StatusCode.INTERNAL
    with psycopg.connect(clean_database_url) as administrator:
        administrator.execute("ALTER TABLE audit_events DROP CONSTRAINT full_disk")
    found = [page async for page in admin.ListProducts(product_pb2.ListProductsRequest())]
    assert [product for page in found for product in page.products] == [added]
    assert len(await list_events(admin)) == 1


async def test_events_are_listed_by_pages_by_user_and_by_resource(
    staff: Products, admin: Products
) -> None:
    added = [*await add(staff, *map(lamp, "ABC")), *await add(admin, lamp("D"))]
    names = [f"products/{product.product_id}" for product in reversed(added)]
    assert [event.resource for event in await list_events(admin, page_size=1)] == names
    by_staff = await list_events(admin, page_size=2, user_id=str(STAFF_ID))
    assert [event.resource for event in by_staff] == names[1:]
    (of_one,) = await list_events(admin, resource=names[2])
    assert of_one.resource == names[2]


async def test_only_admins_read_the_audit_log(channel: grpc.aio.Channel, staff: Products) -> None:
    request = product_pb2.ListAuditEventsRequest()
    anonymous: Products = product_pb2_grpc.ProductServiceStub(channel)
    for stub, reason in (
        (staff, "ROLE_MISSING"),
        (as_user(channel, STAFF_ID, Role.CUSTOMER), "ROLE_MISSING"),
        (anonymous, "TOKEN_MISSING"),
    ):
        assert (await refusal(anext(aiter(stub.ListAuditEvents(request))))).reason == reason
