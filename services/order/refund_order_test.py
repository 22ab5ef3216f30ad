"""RefundOrder and ListRefunds, and what they have to do with shipments and events."""

import asyncio
import uuid
from typing import Any, LiteralString

import grpc
import psycopg
import pytest
from google.type import money_pb2

from bazaar.order.v1 import order_pb2
from chassis.testing import read_refusal, refusal
from services.order.refund_testing import at_provider, pounds
from services.order.testing import (
    Shop,
    Urls,
    audit,
    lose,
    make_due,
    new_order,
    new_refund,
    read,
)

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

PENDING = order_pb2.REFUND_STATE_PENDING
SUCCEEDED = order_pb2.REFUND_STATE_SUCCEEDED


async def test_a_refund_pays_back_and_restocks(shop: Shop, urls: Urls) -> None:
    order_id, product_id = await shop.buy()
    refund = await shop.orders.RefundOrder(new_refund(order_id, 5, (product_id, 1)))
    assert (refund.number, refund.state, refund.amount) == (1, SUCCEEDED, pounds(5))
    assert [(line.product_id, line.quantity) for line in refund.restock] == [(product_id, 1)]
    assert await shop.list_refunds(order_id) == [refund]
    assert (await shop.get_order(order_id)).refunded_amount == pounds(5)
    assert await shop.stock(product_id) == (7, 0, 3)
    assert at_provider(urls) == (1, 5_00)
    assert audit(urls) == []


async def test_a_refund_without_an_amount_is_of_all_that_remains(shop: Shop, urls: Urls) -> None:
    order_id, _ = await shop.buy()
    await shop.orders.RefundOrder(new_refund(order_id, 5, key="first"))
    rest = await shop.orders.RefundOrder(new_refund(order_id, key="rest"))
    assert rest.amount == pounds(7)
    assert [refund.number for refund in await shop.list_refunds(order_id)] == [1, 2]
    refused = await refusal(shop.orders.RefundOrder(new_refund(order_id, key="more")))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "REFUND_EXCEEDS_TOTAL",
    )
    assert audit(urls) == []


async def test_a_repeated_request_is_the_same_refund(shop: Shop, urls: Urls) -> None:
    order_id, product_id = await shop.buy()
    request = new_refund(order_id, 5, (product_id, 1))
    first = await shop.orders.RefundOrder(request)
    assert await shop.orders.RefundOrder(request) == first
    assert at_provider(urls) == (1, 5_00)
    for other in (
        new_refund(order_id, 6, (product_id, 1)),
        new_refund(order_id, None, (product_id, 1)),
        new_refund(order_id, 5),
    ):
        refused = await refusal(shop.orders.RefundOrder(other))
        assert refused.reason == "IDEMPOTENCY_KEY_REUSED"
        assert refused.metadata["http_status"] == "422"
    assert audit(urls) == []


async def test_requests_without_a_key_are_different_refunds(shop: Shop, urls: Urls) -> None:
    order_id, _ = await shop.buy()
    for _ in range(2):
        await shop.orders.RefundOrder(new_refund(order_id, 5, key=""))
    assert at_provider(urls) == (2, 10_00)
    assert audit(urls) == []


async def test_a_key_may_be_in_the_metadata(shop: Shop, urls: Urls) -> None:
    order_id, _ = await shop.buy()
    for _ in range(2):
        await shop.orders.RefundOrder(
            new_refund(order_id, 5, key=""), metadata=(("idempotency-key", "return-8"),)
        )
    assert at_provider(urls) == (1, 5_00)


async def test_no_more_units_are_restocked_than_were_ordered(shop: Shop, urls: Urls) -> None:
    order_id, product_id = await shop.buy()
    await shop.orders.RefundOrder(new_refund(order_id, 1, (product_id, 3), key="1"))
    request = new_refund(order_id, 1, (product_id, 2), key="2")
    refused = await refusal(shop.orders.RefundOrder(request))
    assert (refused.reason, refused.metadata["product_id"]) == (
        "RESTOCK_EXCEEDS_ORDER",
        product_id,
    )
    assert await shop.stock(product_id) == (9, 0, 1)
    assert audit(urls) == []


async def test_an_order_that_is_refunded_is_not_shipped(shop: Shop, urls: Urls) -> None:
    order_id, _ = await shop.buy()
    await shop.orders.RefundOrder(new_refund(order_id))
    refused = await refusal(shop.update_status(order_id, "SHIPPED"))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ORDER_REFUNDED",
    )
    assert audit(urls) == []


async def test_an_order_that_is_being_refunded_is_not_shipped(shop: Shop, urls: Urls) -> None:
    order_id, _ = await shop.buy()
    reasons = []

    async def ship_meanwhile() -> None:
        reasons.append((await refusal(shop.update_status(order_id, "SHIPPED"))).reason)

    shop.hooks["before refund_payments"] = ship_meanwhile
    await shop.orders.RefundOrder(new_refund(order_id))
    assert reasons == ["ORDER_REFUNDED"]
    assert audit(urls) == []


async def test_a_shipment_and_a_full_refund_that_race_exclude_each_other(
    shop: Shop, urls: Urls
) -> None:
    """Both wait for the lock of the order, and one sees what the other has done."""
    user_id, product_id = await shop.new_user(), await shop.new_product(units=100)
    for number in range(10):
        request = new_order(user_id, (product_id, 1), key=f"{number}")
        order_id = (await shop.orders.CreateOrder(request)).order_id
        results = await asyncio.gather(
            shop.update_status(order_id, "SHIPPED"),
            shop.orders.RefundOrder(new_refund(order_id)),
            return_exceptions=True,
        )
        refused = [read_refusal(each) for each in results if isinstance(each, grpc.aio.AioRpcError)]
        query: LiteralString = (
            "SELECT order_id::text, coalesce(details #>> '{refund,state}', state) FROM order_events"
            " WHERE version > 3 ORDER BY version"
        )
        events = [event for key, event in read(urls["order"], query) if key == order_id]
        if refused:
            assert [each.reason for each in refused] == ["ORDER_REFUNDED"]
            assert events == ["PENDING", "SUCCEEDED"]
        else:
            assert events == ["SHIPPED", "PENDING", "SUCCEEDED"]
    assert audit(urls) == []


async def test_an_order_that_is_refunded_in_part_is_shipped(shop: Shop, urls: Urls) -> None:
    """Its pending refund goes on."""
    order_id, _ = await shop.buy()
    shop.hooks["before refund_payments"] = lose
    await shop.orders.RefundOrder(new_refund(order_id, 5))
    assert (await shop.update_status(order_id, "SHIPPED")).state == order_pb2.ORDER_STATE_SHIPPED
    shop.hooks.clear()
    make_due(urls)
    await shop.worker.run()
    assert at_provider(urls) == (1, 5_00)
    assert audit(urls) == []


async def test_an_order_that_is_shipped_can_be_refunded_and_delivered(
    shop: Shop, urls: Urls
) -> None:
    order_id, product_id = await shop.buy()
    await shop.update_status(order_id, "SHIPPED")
    await shop.orders.RefundOrder(new_refund(order_id, None, (product_id, 4)))
    assert (await shop.update_status(order_id, "SHIPPED")).state == order_pb2.ORDER_STATE_SHIPPED
    assert (
        await shop.update_status(order_id, "DELIVERED")
    ).state == order_pb2.ORDER_STATE_DELIVERED
    assert await shop.stock(product_id) == (10, 0, 0)
    assert audit(urls) == []


async def test_an_order_whose_refund_has_failed_is_shipped(shop: Shop, urls: Urls) -> None:
    order_id, _ = await shop.buy()
    with psycopg.connect(urls["payment"]) as connection:
        connection.execute("UPDATE sandbox.intents SET refunded_minor = amount_minor")
    await refusal(shop.orders.RefundOrder(new_refund(order_id)))
    assert (await shop.update_status(order_id, "SHIPPED")).state == order_pb2.ORDER_STATE_SHIPPED
    assert audit(urls) == []


async def test_the_events_of_an_order_have_its_refunds(shop: Shop) -> None:
    order_id, _ = await shop.buy()
    await shop.orders.RefundOrder(new_refund(order_id, 5))
    await shop.update_status(order_id, "SHIPPED")
    call = shop.orders.ListOrderEvents(order_pb2.ListOrderEventsRequest(order_id=order_id))
    events = [event async for page in call for event in page.events]
    began, succeeded, shipped = events[-3:]
    assert began.state == succeeded.state == order_pb2.ORDER_STATE_CONFIRMED
    assert (began.refund.number, began.refund.state) == (1, PENDING)
    assert (succeeded.refund.state, succeeded.refund.amount) == (SUCCEEDED, pounds(5))
    assert not shipped.HasField("refund")
    assert [event.version for event in events] == list(range(1, len(events) + 1))


async def test_only_a_confirmed_order_can_be_refunded(shop: Shop, urls: Urls) -> None:
    product_id = await shop.new_product()
    request = new_order(await shop.new_user(), (product_id, 1))
    shop.hooks["before charge"] = lose
    order_id = (await shop.orders.CreateOrder(request)).order_id
    for cancel in (False, True):
        shop.hooks.clear()
        if cancel:
            await shop.orders.CancelOrder(order_pb2.CancelOrderRequest(order_id=order_id))
        refused = await refusal(shop.orders.RefundOrder(new_refund(order_id)))
        assert refused.reason == "ORDER_NOT_REFUNDABLE"
    assert audit(urls) == []


async def test_a_free_order_has_nothing_to_refund(shop: Shop) -> None:
    product_id = await shop.new_product(price=0)
    request = new_order(await shop.new_user(), (product_id, 1))
    order = await shop.orders.CreateOrder(request)
    refused = await refusal(shop.orders.RefundOrder(new_refund(order.order_id)))
    assert refused.reason == "REFUND_EXCEEDS_TOTAL"
    assert (
        await shop.update_status(order.order_id, "SHIPPED")
    ).state == order_pb2.ORDER_STATE_SHIPPED


async def test_a_missing_order_has_no_refunds(shop: Shop) -> None:
    order_id = str(uuid.uuid4())
    assert (await refusal(shop.orders.RefundOrder(new_refund(order_id)))).reason == (
        "ORDER_NOT_FOUND"
    )
    call = shop.orders.ListRefunds(order_pb2.ListRefundsRequest(order_id=order_id))
    assert (await refusal(call.read())).reason == "ORDER_NOT_FOUND"


async def test_list_refunds_continues_after_a_page_token(shop: Shop) -> None:
    order_id, _ = await shop.buy()
    for number in range(5):
        await shop.orders.RefundOrder(new_refund(order_id, 1, key=f"{number}"))
    found, token = [], ""
    for expected in (2, 2, 1):
        request = order_pb2.ListRefundsRequest(order_id=order_id, page_size=2, page_token=token)
        (page,) = [page async for page in shop.orders.ListRefunds(request)]
        assert len(page.refunds) == expected
        found += [refund.number for refund in page.refunds]
        token = page.next_page_token
    assert (found, token) == ([1, 2, 3, 4, 5], "")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": money_pb2.Money(currency_code="GBP")}, "amount"),
        ({"amount": money_pb2.Money(currency_code="EUR", units=1)}, "amount.currency_code"),
        ({"idempotency_key": "x" * 256}, "idempotency_key"),
        ({"restock": [order_pb2.RestockLine(product_id=str(uuid.uuid4()))]}, "restock[0].quantity"),
        (
            {"restock": [order_pb2.RestockLine(product_id=str(uuid.UUID(int=1)), quantity=1)] * 2},
            "restock",
        ),
    ],
    ids=["no amount", "currency", "key", "quantity", "repeated product"],
)
async def test_refund_order_names_the_invalid_field(
    shop: Shop, urls: Urls, changes: dict[str, Any], field: str
) -> None:
    order_id, _ = await shop.buy()
    refused = await refusal(
        shop.orders.RefundOrder(order_pb2.RefundOrderRequest(order_id=order_id, **changes))
    )
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert await shop.list_refunds(order_id) == []
    assert audit(urls) == []
