"""Runs the cases of the schedule on the four services, and checks how each order ends.

A test module gets the fixture `schedule` with

    pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.order.testing",
                      "services.order.schedule.testing")

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from google.protobuf import field_mask_pb2
from google.type import money_pb2

from bazaar.order.v1 import order_pb2
from bazaar.product.v1 import product_pb2
from chassis import errors
from chassis.database import Database
from chassis.testing import Events
from services.order import domain, messages
from services.order.domain import Line, State
from services.order.refund import NewRefund
from services.order.schedule.cases import Case
from services.order.schedule.commits import Commits, HookedDatabase
from services.order.schedule.faults import Moment, lose
from services.order.schedule.paths import Driver, Path
from services.order.testing import (
    CAPTURED_MANUALLY,
    Shop,
    Urls,
    audit,
    make_due,
    new_order,
    read,
    states,
)
from services.payment import main as payment
from services.payment.domain import RefundResult
from services.payment.providers.provider import Intent, IntentRequest, RefundRequest
from services.payment.providers.sandbox import SandboxProvider
from services.payment.testing import CALLS
from tools.postgres.testing import app_url, clear, connect

SECONDS = 30
"""How long a case may take."""
MAX_ATTEMPTS = 5
"""How often the worker may have to drive an order, once there are no more faults."""


class ForgetfulSandbox(SandboxProvider):
    """A sandbox that forgets every idempotency key at once, as providers do after a day."""

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[Intent | None]:
        """Create intents, whatever their keys are."""
        return await super().create_intents(
            [replace(request, key=f"{request.key} {uuid.uuid4()}") for request in requests]
        )

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
        """Refund intents, whatever the keys are."""
        return await super().refund(
            [replace(request, key=f"{request.key} {uuid.uuid4()}") for request in requests]
        )


class ScheduledShop(Shop):
    """A shop with hooks around its commits too, and with a forgetful payment provider."""

    def __init__(self, urls: Urls, stack: AsyncExitStack) -> None:
        super().__init__(urls, stack)
        self.commits = Commits(self.hooks)
        self.moment: Moment
        self.sandbox: SandboxProvider

    def make_database(self, name: str) -> Database:
        """Make a database; who waits for a peer that was killed gets no response."""
        die = self._die if name == "order" else lose
        return HookedDatabase(app_url(self.urls[name]), self.commits, die)

    def open_provider(self, _name: str, _config: object, database: Database) -> SandboxProvider:
        """Make the payment provider, instead of `services.payment.main`."""
        self.sandbox = self.hooks.surround(ForgetfulSandbox(database), *CALLS)
        return self.sandbox

    async def _die(self) -> None:
        await self.moment.die()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a case ends: states of orders, stock, captures and refunds, and what went wrong."""

    states: list[str]
    stock: tuple[int, int, int]
    captures: int
    discrepancies: list[str]
    """What the books do not agree on."""
    defects: list[str]
    """The events that were logged as errors."""
    refunds: int = 0


ENDINGS = {
    State.CONFIRMED: Ending(["CONFIRMED"], (8, 0, 2), captures=1, discrepancies=[], defects=[]),
    State.CANCELLED: Ending(["CANCELLED"], (10, 0, 0), captures=0, discrepancies=[], defects=[]),
}
REFUNDED = Ending(["CONFIRMED"], (10, 0, 0), captures=1, discrepancies=[], defects=[], refunds=1)


class Schedule:
    """Runs cases, one at a time."""

    def __init__(self, shop: ScheduledShop, user_id: str) -> None:
        self._shop = shop
        self._user_id = user_id
        self._product_id: str
        self._order: order_pb2.CreateOrderRequest
        self.events: Events
        """What was logged during the case."""

    async def run(self, case: Case) -> Ending:
        """Run a case, and return how it ends.

        Raises:
            AssertionError: the path does not have the step.
        """
        await self._begin(case.path)
        moment = self._shop.moment = Moment(self._change_price)
        case.fault.install(self._shop.hooks, case.step.name, moment)
        async with asyncio.timeout(SECONDS):
            driver = asyncio.create_task(self._drive(case.path.driver))
            stopped = asyncio.create_task(moment.stopped.wait())
            await asyncio.wait({driver, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not moment.reached:
                raise AssertionError(f"the path has no step {case.step.name}")
            await self._finish(case.finisher)
            moment.over.set()
            await asyncio.wait({driver})
            if not driver.cancelled():
                driver.result()
            if moment.late is not None:
                await moment.late()
            await self._finish(Driver.WORKER)
            # A client that repeats its request changes nothing, unless that was never accepted.
            is_refund = case.path.driver is Driver.REFUND
            await self._drive(Driver.REFUND if is_refund else Driver.PLACE)
        return await self._read_ending()

    async def trace(self, path: Path) -> list[str]:
        """Return the names of the steps that an order takes when there is no fault."""
        await self._begin(path)
        self._shop.hooks.passed.clear()
        await self._drive(path.driver)
        points = [point.partition(" ") for point in self._shop.hooks.passed]
        names = [name for side, _, name in points if side == "before"]
        # The worker has claimed no more orders at last.
        return names[:-1] if path.driver is Driver.WORKER else names

    async def _begin(self, path: Path) -> None:
        """Take an order to the begin of a path."""
        self._shop.hooks.clear()
        self._shop.hooks.deliveries.clear()
        self._shop.hooks["after postpone"] = self._back_off
        self._product_id = await self._shop.new_product()
        self._order = new_order(
            self._user_id, (self._product_id, 2), payment_method=path.payment_method
        )
        if path.lost:
            self._shop.hooks.deliveries[path.lost] = lose
        if path.is_placed:
            await self._drive(Driver.PLACE)
        if path.approved:
            await self._approve()
        make_due(self._shop.urls)
        if path.lost_again:
            self._shop.hooks.deliveries[path.lost] = lose

    async def _drive(self, driver: Driver) -> None:
        """Drive the order; the errors that a client of it may get are no failures."""
        with suppress(errors.Unavailable, errors.DeadlineExceeded, domain.Conflict):
            match driver:
                case Driver.PLACE:
                    user_id = uuid.UUID(self._order.user_id)
                    key = self._order.idempotency_key
                    order = messages.parse_order(self._order, user_id, key, CAPTURED_MANUALLY)
                    await self._shop.checkout.place([order])
                case Driver.CANCEL:
                    for order_id in self._read_orders():
                        await self._shop.checkout.cancel(order_id)
                case Driver.REFUND:
                    new = NewRefund("refund", None, (Line(uuid.UUID(self._product_id), 2),))
                    for order_id in self._read_orders():
                        await self._shop.refunds.refund(order_id, new)
                case Driver.WORKER:
                    await self._shop.worker.run()

    async def _finish(self, driver: Driver) -> None:
        """Drive the order to its end, by the worker at last."""
        if not states(self._shop.urls):
            # It was never accepted: its client repeats the request.
            await self._drive(Driver.PLACE)
        await self._drive(driver)
        for _ in range(MAX_ATTEMPTS):
            if not read(self._shop.urls["order"], "SELECT FROM orders WHERE next_at IS NOT NULL"):
                break
            make_due(self._shop.urls)
            await self._shop.worker.run()

    def _read_orders(self) -> list[uuid.UUID]:
        rows = read(self._shop.urls["order"], "SELECT order_id FROM orders")
        return [order_id for (order_id,) in rows]

    async def _approve(self) -> None:
        """Approve the payment, as its customer does at the provider."""
        ((secret,),) = read(self._shop.urls["order"], "SELECT action_client_secret FROM orders")
        approval = {"client_secret": secret, "approved": True}
        await self._shop.sandbox.read_webhook({}, json.dumps(approval).encode())

    async def _back_off(self) -> None:
        """Lengthen the random pause, or the worker may go on before whoever is to finish."""
        connect(self._shop.urls["order"]).execute(
            "UPDATE orders SET next_at = now() + interval '1 hour' WHERE next_at IS NOT NULL"
        )

    async def _change_price(self) -> None:
        price = money_pb2.Money(currency_code="GBP", units=7)
        await self._shop.products.UpdateProduct(
            product_pb2.UpdateProductRequest(
                product_id=self._product_id,
                product=product_pb2.Product(price=price),
                update_mask=field_mask_pb2.FieldMask(paths=["price"]),
            )
        )

    async def _read_ending(self) -> Ending:
        urls = self._shop.urls
        movements = (
            "SELECT count(*) FILTER (WHERE type = 'CAPTURE'),"
            " count(*) FILTER (WHERE type = 'REFUND') FROM sandbox.movements"
        )
        ((captures, refunds),) = read(urls["payment"], movements)
        return Ending(
            states(urls),
            await self._shop.stock(self._product_id),
            captures,
            audit(urls),
            [str(event) for event in self.events if event["log_level"] == "error"],
            refunds,
        )


@pytest.fixture(scope="module")
def _patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _opened(urls: Urls, _patch: pytest.MonkeyPatch) -> AsyncIterator[Schedule]:
    async with AsyncExitStack() as stack:
        shop = ScheduledShop(urls, stack)
        shop.commits.observe(_patch)
        _patch.setattr(payment, "open_provider", shop.open_provider)
        await shop.open()
        yield Schedule(shop, await shop.new_user())


@pytest.fixture
def schedule(urls: Urls, _opened: Schedule, events: Events) -> Iterator[Schedule]:
    """Yield the schedule, on a shop that is open as long as its module."""
    _opened.events = events
    yield _opened
    for name in ("product", "payment", "order"):
        clear(urls[name])
