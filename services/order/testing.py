"""Test fixtures of orders: the four services in one process, faults, and an audit.

Every service has its own database and port, and the order service calls the others through
channels. Faults are injected into these calls. A test module gets the fixtures with

    pytest_plugins = ("tools.postgres.testing", "services.order.testing")

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import Any, LiteralString, TypeAlias

import grpc
import pytest
from google.type import money_pb2

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from bazaar.product.v1 import product_pb2, product_pb2_grpc
from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import client, errors
from chassis.caller import Role
from chassis.database import Database
from chassis.server import Server
from chassis.service import Resources, Service, ServiceSettings
from chassis.supervision import BackgroundTask
from chassis.testing import authorized
from chassis.tls import Certificates, server_credentials
from chassis.token_testing import Issuer
from services.order import main as order
from services.order.checkout import Checkout
from services.order.event import Cause
from services.order.event_log import EventLog
from services.order.peers import Peers
from services.order.refunds import Refunds
from services.order.servicer import OrderServicer
from services.order.worker import Worker
from services.payment import main as payment
from services.payment.testing import SETTINGS as PAYMENT_SETTINGS
from services.payment.testing import Hooks
from services.product import main as product
from services.user import main as user
from services.user.testing import SETTINGS as USER_SETTINGS
from tools.postgres.testing import Databases, app_url, clear, connect
from tools.reconcile.compare import compare

CARD = "pm_card_visa"
DECLINED_CARD = "pm_card_declined"
CAPTURED_MANUALLY = ("sandbox:",)
"""The same payment methods are captured at once, or manually if they name the provider."""

STEPS = ("reserve_stock", "charge", "commit_stock")
"""The calls to other services that confirm an order, in their order."""
CAPTURES = ("pin_stock", "capture_payments")
"""The calls beside these that confirm an order whose payment is captured manually."""
COMPENSATIONS = ("cancel_payments", "release_stock")
"""The calls that compensate for an order."""
REFUND_STEPS = ("refund_payments", "return_stock")
"""The calls that refund an order, in their order."""
CALLS = ("find_users", *STEPS, *CAPTURES, *COMPENSATIONS, *REFUND_STEPS)
"""The methods of `Peers`."""

_SETTINGS: Mapping[str, ServiceSettings] = {"payment": PAYMENT_SETTINGS, "user": USER_SETTINGS}
"""The settings of services that have some of their own."""

Urls = Mapping[str, str]
"""The URLs of the databases by service."""

Users: TypeAlias = "user_pb2_grpc.UserServiceAsyncStub"
Products: TypeAlias = "product_pb2_grpc.ProductServiceAsyncStub"
Orders: TypeAlias = "order_pb2_grpc.OrderServiceAsyncStub"


async def lose() -> None:
    """Simulate the loss of a request, before a call, or of its response, after it: a hook."""
    raise errors.Unavailable("PEER_UNAVAILABLE", "lost")


class Shop:
    """Four running services, and clients of three of them.

    With the certificates of all programs, by their names, they call each other with mutual TLS, and
    these clients are the order service; without, all of it is in plain text.
    """

    def __init__(
        self,
        urls: Urls,
        stack: AsyncExitStack,
        certificates: Mapping[str, Certificates] = MappingProxyType({}),
    ) -> None:
        self.urls = urls
        self._certificates = certificates
        self.draining = asyncio.Event()
        self._stack = stack
        self.issuer = Issuer()
        self._servers: dict[str, Server] = {}
        self.tasks: dict[str, list[BackgroundTask]] = {}
        services: Mapping[str, Service[Any]] = {
            "user": user.SERVICE,
            "product": product.SERVICE,
            "payment": payment.SERVICE,
            "order": replace(order.SERVICE, make_servicer=self._make_orders),
        }
        self._services: Mapping[str, Service[Any]] = {
            name: replace(service, make_verifier=lambda *_: self.issuer.verifier())
            for name, service in services.items()
        }
        self.users: Users
        self.products: Products
        self.orders: Orders
        self.hooks = Hooks()
        """Around the calls of the order service: "before charge", "after charge" and so on."""
        self._order_channel: grpc.aio.Channel
        self.peers: Peers
        self.checkout: Checkout
        self.refunds: Refunds
        self.worker: Worker

    async def open(self) -> None:
        """Start the services, the order service last, and connect to them."""
        self._stack.push_async_callback(self._stop_all)
        channels = {name: await self._start(name) for name in ("user", "product", "payment")}
        peers = Peers(channels["user"], channels["product"], channels["payment"])
        self.peers = self.hooks.surround(peers, *CALLS)
        token = self.issuer.token()
        self.users = user_pb2_grpc.UserServiceStub(authorized(channels["user"], token))
        self.products = product_pb2_grpc.ProductServiceStub(authorized(channels["product"], token))
        self._order_channel = await self._start("order")
        self.orders = order_pb2_grpc.OrderServiceStub(authorized(self._order_channel, token))

    async def stop(self, name: str, grace_seconds: float = 0) -> int:
        """Stop a service, by default without a grace period, and return its port."""
        for task in self.tasks.pop(name):
            await task.stop()
        server = self._servers.pop(name)
        await server.stop(grace_seconds)
        return server.port

    async def start(self, name: str, port: int = 0) -> int:
        """Start a service on a port, by default a free one, and return the port."""
        config = _SETTINGS.get(name, ServiceSettings())
        resources = Resources(self.make_database(name), config, draining=self.draining)
        own = self._certificates.get(name)
        credentials = server_credentials(own) if own else None
        server = self._services[name].make_server(
            resources, f"127.0.0.1:{port}", credentials=credentials
        )
        await server.start()
        for task in resources.tasks:
            task.start()
        self.tasks[name] = resources.tasks
        self._servers[name] = server
        return server.port

    def make_database(self, name: str) -> Database:
        """Make the database of a service, which its server opens."""
        return Database(app_url(self.urls[name]))

    def port(self, name: str) -> int:
        """Return the port of a running service."""
        return self._servers[name].port

    def orders_of(self, user_id: str) -> Orders:
        """Return a client of the order service for a customer."""
        token = self.issuer.token(user_id, Role.CUSTOMER)
        stub: Orders = order_pb2_grpc.OrderServiceStub(authorized(self._order_channel, token))
        return stub

    async def new_user(self, email: str = "ada@example.com") -> str:
        """Create a user and return the id."""
        request = user_pb2.CreateUserRequest(
            email=email, password=f"password of {email}", display_name="Ada"
        )
        return (await self.users.CreateUser(request)).user_id

    async def new_product(
        self, sku: str = "A", *, units: int = 10, price: int = 3, currency_code: str = "GBP"
    ) -> str:
        """Add a product, with its price in whole units, and return the id."""
        product = product_pb2.Product(
            sku=sku,
            name=sku,
            price=money_pb2.Money(currency_code=currency_code, units=price),
            stock=product_pb2.Stock(available=units),
        )
        request = product_pb2.AddProductRequest(product=product)
        return (await self.products.AddProduct(request)).product_id

    async def stock(self, product_id: str) -> tuple[int, int, int]:
        """Return how many units of a product are available, reserved and sold."""
        request = product_pb2.GetProductRequest(product_id=product_id)
        stock = (await self.products.GetProduct(request)).stock
        return stock.available, stock.reserved, stock.sold

    async def buy(self, units: int = 4) -> tuple[str, str]:
        """Confirm an order of units at 3 GBP; return the ids of the order and the product."""
        product_id = await self.new_product()
        request = new_order(await self.new_user(), (product_id, units))
        return (await self.orders.CreateOrder(request)).order_id, product_id

    async def get_order(self, order_id: str) -> order_pb2.Order:
        """Return an order."""
        return await self.orders.GetOrder(order_pb2.GetOrderRequest(order_id=order_id))

    async def update_status(self, order_id: str, state: str) -> order_pb2.Order:
        """Change the state of an order, for example to SHIPPED."""
        request = order_pb2.UpdateOrderStatusRequest(order_id=order_id)
        request.state = order_pb2.OrderState.Value(f"ORDER_STATE_{state}")
        return await self.orders.UpdateOrderStatus(request)

    async def list_refunds(self, order_id: str) -> list[order_pb2.Refund]:
        """Return the refunds of an order, oldest first."""
        call = self.orders.ListRefunds(order_pb2.ListRefundsRequest(order_id=order_id))
        return [refund async for page in call for refund in page.refunds]

    async def _start(self, name: str) -> grpc.aio.Channel:
        port = await self.start(name)
        service = f"{name.title()}Service"
        channel = client.open_channel(f"127.0.0.1:{port}", self._certificates.get("order"), service)
        return await self._stack.enter_async_context(channel)

    async def _stop_all(self) -> None:
        for name in list(self._servers):
            await self.stop(name)

    def _make_orders(self, resources: Resources) -> OrderServicer:
        database = resources.database
        event_log = EventLog(database, resources.draining)
        resources.tasks.extend(event_log.tasks())
        # Not started: tests run it when they choose.
        self.worker = Worker(
            database,
            Checkout(database, self.peers, event_log, Cause.WORKER),
            Refunds(database, self.peers, event_log, Cause.WORKER),
        )
        self.checkout = Checkout(database, self.peers, event_log)
        self.refunds = Refunds(database, self.peers, event_log)
        return OrderServicer(
            database,
            self.checkout,
            self.refunds,
            event_log,
            resources.draining,
            CAPTURED_MANUALLY,
        )


@pytest.fixture(scope="module")
def urls(databases: Databases) -> Iterator[Urls]:
    """Yield the migrated databases of the four services, shared by the tests of a module."""
    made = {name: databases.create(name) for name in ("user", "product", "payment", "order")}
    yield made
    for url in made.values():
        databases.drop(url)


@pytest.fixture
async def shop(urls: Urls) -> AsyncIterator[Shop]:
    """Yield a running shop; its databases are cleared after the test."""
    async with AsyncExitStack() as stack:
        opened = Shop(urls, stack)
        await opened.open()
        yield opened
    for url in urls.values():
        clear(url)


def new_order(
    user_id: str, *lines: tuple[str, int], key: str = "k", payment_method: str = CARD
) -> order_pb2.CreateOrderRequest:
    """Return a request for an order of products and quantities."""
    return order_pb2.CreateOrderRequest(
        user_id=user_id,
        idempotency_key=key,
        payment_method=payment_method,
        lines=[
            order_pb2.CreateOrderRequest.Line(product_id=product_id, quantity=quantity)
            for product_id, quantity in lines
        ],
    )


def new_refund(
    order_id: str, amount: int | None = None, *lines: tuple[str, int], key: str = "r"
) -> order_pb2.RefundOrderRequest:
    """Return a request for a refund of whole pounds that restocks products and quantities."""
    request = order_pb2.RefundOrderRequest(order_id=order_id, idempotency_key=key)
    if amount is not None:
        request.amount.CopyFrom(money_pb2.Money(currency_code="GBP", units=amount))
    for product_id, quantity in lines:
        request.restock.add(product_id=product_id, quantity=quantity)
    return request


def audit(urls: Urls) -> list[str]:
    """Reconcile the databases of all services, none of which has an active order.

    An empty list means that they agree in everything that `tools.reconcile` compares, and that no
    order is active.
    """
    results = compare(urls)
    found = [f"{each.comparison.name}: {example}" for each in results for example in each.examples]
    active = (
        "SELECT format('order %s is %s', order_id, state) FROM orders WHERE next_at IS NOT NULL"
    )
    return found + [str(row[0]) for row in read(urls["order"], active)]


def read(url: str, query: LiteralString) -> list[tuple[Any, ...]]:
    """Return the rows that a query selects."""
    return connect(url).execute(query).fetchall()


def execute(url: str, statement: LiteralString, *parameters: object) -> None:
    """Execute a statement."""
    connect(url).execute(statement, parameters)


def states(urls: Urls) -> list[str]:
    """Return the states of all orders, the oldest order first."""
    return [row[0] for row in read(urls["order"], "SELECT state FROM orders ORDER BY order_id")]


def make_due(urls: Urls) -> None:
    """Skip the backoff of the active orders, and end their leases."""
    connect(urls["order"]).execute(
        "UPDATE orders SET next_at = now(), lease_until = NULL WHERE next_at < 'infinity'"
    )
