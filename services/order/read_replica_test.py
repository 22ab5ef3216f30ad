"""Two replicas of each service, and a replica of their databases, from which they list and get."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from bazaar.order.v1 import order_pb2
from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from bazaar.product.v1 import product_pb2
from bazaar.user.v1 import user_pb2
from chassis import call_context, client, read_replica
from chassis.database import Database
from chassis.testing import Events, authorized
from services.order.testing import Shop, Urls, new_refund
from tools.postgres.standby import Standby, make_durable, run_standby
from tools.postgres.testing import Databases, app_url, clear

pytest_plugins = ("tools.postgres.testing", "services.order.testing", "chassis.testing")

SECONDS = 20.0
Statements = list[tuple[str, int]]
"""The RPC in which each statement was executed, and the port of the server."""


class ReplicatedShop(Shop):
    """A shop that also has a client of the payment service, and a replica of the databases."""

    def __init__(self, urls: Urls, stack: AsyncExitStack, standby: Standby) -> None:
        super().__init__(urls, stack)
        self._standby = standby
        self.payments: payment_pb2_grpc.PaymentServiceAsyncStub

    def make_database(self, name: str) -> Database:
        """Make the database of a service, which its server opens."""
        url = app_url(self.urls[name])
        return Database(url, replica_url=self._standby.url(url))

    async def open_payments(self, stack: AsyncExitStack) -> None:
        """Connect to the payment service too."""
        channel = client.open_channel(f"127.0.0.1:{self.port('payment')}")
        await stack.enter_async_context(channel)
        trusted = authorized(channel, self.issuer.token())
        self.payments = payment_pb2_grpc.PaymentServiceStub(trusted)


@pytest.fixture(scope="module")
def standby(databases: Databases, urls: Urls) -> Iterator[Standby]:
    for url in urls.values():
        make_durable(url)
    with run_standby(databases.maintenance_url) as running:
        yield running


@pytest.fixture
async def shops(
    events: Events, urls: Urls, standby: Standby
) -> AsyncIterator[tuple[ReplicatedShop, ReplicatedShop]]:
    """Yield two shops with the same databases, all of whose services read from the replica."""
    async with AsyncExitStack() as stack:
        opened = [ReplicatedShop(urls, stack, standby) for _ in range(2)]
        for shop in opened:
            await shop.open()
            await shop.open_payments(stack)
        await wait_for_replicas(events, 8)
        yield opened[0], opened[1]
    for url in urls.values():
        clear(url)


async def wait_for_replicas(events: Events, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while [each["event"] for each in events].count("replica_used") < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """Return the list to which all statements of RPCs are added."""
    # However busy this machine is.
    monkeypatch.setattr(read_replica, "CATCH_UP_SECONDS", SECONDS)
    monkeypatch.setattr(read_replica, "CHECKOUT_SECONDS", SECONDS)
    found: Statements = []
    execute = psycopg.AsyncCursor.execute

    async def record_and_execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        method = call_context.method.get().rpartition("/")[2]
        found.append((method, self.connection.info.port))
        return await execute(self, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", record_and_execute)
    return found


async def sell(shop: ReplicatedShop) -> order_pb2.Order:
    """Sell four units and refund two."""
    order_id, product_id = await shop.buy()
    await shop.orders.RefundOrder(new_refund(order_id, 6, (product_id, 2)))
    return await shop.get_order(order_id)


Read = Callable[[ReplicatedShop, order_pb2.Order], Any]
READS: list[Read] = [
    lambda shop, order: shop.users.GetUser(user_pb2.GetUserRequest(user_id=order.user_id)),
    lambda shop, _: shop.users.ListUsers(user_pb2.ListUsersRequest()),
    lambda shop, _: shop.users.ListAuditEvents(user_pb2.ListAuditEventsRequest()),
    lambda shop, order: shop.products.GetProduct(
        product_pb2.GetProductRequest(product_id=order.lines[0].product_id)
    ),
    lambda shop, _: shop.products.ListProducts(product_pb2.ListProductsRequest()),
    lambda shop, _: shop.products.ListAuditEvents(product_pb2.ListAuditEventsRequest()),
    lambda shop, order: shop.payments.GetPayment(
        payment_pb2.GetPaymentRequest(payment_id=order.payment_id)
    ),
    lambda shop, _: shop.payments.ListTransactions(payment_pb2.ListTransactionsRequest()),
    lambda shop, order: shop.orders.GetOrder(order_pb2.GetOrderRequest(order_id=order.order_id)),
    lambda shop, order: shop.orders.ListOrders(order_pb2.ListOrdersRequest(user_id=order.user_id)),
    lambda shop, order: shop.orders.ListRefunds(
        order_pb2.ListRefundsRequest(order_id=order.order_id)
    ),
    lambda shop, order: shop.orders.ListOrderEvents(
        order_pb2.ListOrderEventsRequest(order_id=order.order_id)
    ),
    lambda shop, _: shop.orders.ListStuckOrders(order_pb2.ListStuckOrdersRequest()),
    lambda shop, _: shop.orders.ListAuditEvents(order_pb2.ListAuditEventsRequest()),
]


async def read_all(shop: ReplicatedShop, order: order_pb2.Order) -> list[Any]:
    """Return the response of each of READS, and all responses of each that is a stream."""
    responses = []
    for read in READS:
        call = read(shop, order)
        if isinstance(call, AsyncIterable):
            responses.append([response async for response in call])
        else:
            responses.append(await call)
    return responses


async def test_lists_and_gets_read_from_the_replica_and_nothing_else_does(
    shops: tuple[ReplicatedShop, ReplicatedShop], statements: Statements, standby: Standby
) -> None:
    selling, reading = shops
    order = await sell(selling)
    await read_all(reading, order)
    served = {(method, port) for method, port in statements if method}
    from_replica = {method for method, port in served if port == standby.server.port}
    assert from_replica == {
        "GetOrder",
        "GetPayment",
        "GetProduct",
        "GetUser",
        "ListAuditEvents",
        "ListOrderEvents",
        "ListOrders",
        "ListProducts",
        "ListRefunds",
        "ListStuckOrders",
        "ListTransactions",
        "ListUsers",
    }
    assert not from_replica & {method for method, port in served if port != standby.server.port}


async def test_what_one_replica_of_a_service_has_written_the_other_one_reads(
    shops: tuple[ReplicatedShop, ReplicatedShop], standby: Standby
) -> None:
    selling, reading = shops
    with standby.paused():
        order = await sell(selling)
        behind = await read_all(reading, order)
    assert behind == await read_all(selling, order)
    assert all(behind)
