"""One run: a shop, its load, its faults, and then the checks."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

import aiohttp
import grpc
import psycopg

from bazaar.order.v1 import order_pb2
from chassis.client import CONNECTION_OPTIONS
from chassis.secure_channel import open_channel
from tools.chaos.accounts import Accounts
from tools.chaos.clients import Clients
from tools.chaos.contents import Contents
from tools.chaos.customers import Customers
from tools.chaos.faults import Faults
from tools.chaos.load import Load
from tools.chaos.merchant import Merchant
from tools.chaos.orders import Catalogue, Orders
from tools.chaos.pace import Pace
from tools.chaos.record import Finding, Findings, Record, check_stock
from tools.chaos.returns import Returns
from tools.chaos.schedule import make_schedule
from tools.chaos.shop import ReplicatedShop
from tools.chaos.watcher import Watcher
from tools.dev.program import Report
from tools.dev.threads import run_in_thread
from tools.reconcile.main import reconcile

ORDERS_PER_SCARCE_UNIT = 500
"""Less than half of the scarce units that are wanted are there at first."""
FINAL_SECONDS = 60.0
"""How long after the last fault an order may remain under way."""
RECONCILE_SECONDS = 5.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """How much of everything a run has."""

    orders: int
    kills: int
    database_restarts: int
    freezes: int
    seed: int


@dataclass(slots=True)
class Result:
    """What a run did and found."""

    seconds: float = 0.0
    load_seconds: float = 0.0
    final_seconds: float | None = None
    """How long after the last fault the last order was final; None if some never was."""
    states: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    freezes: int = 0
    call_faults: Counter[str] = field(default_factory=Counter)
    interruptions: int = 0
    responses: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=lambda: Findings(Finding))

    @property
    def passed(self) -> bool:
        """Whether no check found a violation."""
        return not any(finding.violations for finding in self.findings.values())


class Participant(Protocol):
    """Who uses the shop while orders are placed."""

    async def run(self) -> None:
        """Use it without end."""

    async def finish(self) -> None:
        """Leave nothing whose outcome is unknown."""


class Run:
    """A run in an empty directory. `report` gets what happens to the programs."""

    def __init__(self, options: Options, directory: Path, report: Report) -> None:
        self.options = options
        self._random = Random(f"run {options.seed}")
        self._shop = ReplicatedShop(directory, report, self._random)
        self._pace = Pace(options.orders)
        self._faults = Faults(
            self._shop,
            make_schedule(
                options.seed,
                options.orders,
                kills=options.kills,
                database_restarts=options.database_restarts,
                freezes=options.freezes,
            ),
            self._pace,
        )
        self._record = Record()

    def describe_progress(self) -> str:
        """Return how far the run is, for people."""
        orders, faults = self._pace, self._faults
        return (
            f"{orders.begun:,} of {orders.orders:,} orders,"
            f" {faults.done:,} of {faults.scheduled:,} faults"
        )

    @property
    def progress(self) -> float:
        """The share of the run that is done."""
        return self._pace.begun / self._pace.orders

    async def run(self) -> Result:
        """Start the shop, place the orders among the faults, check, and stop the shop.

        Raises:
            ProgramError: a program of the shop did not start, or did not come back.
            SchemaError: a database could not be created.
            TimeoutError: the outcome of a delivery, a refund or a webhook did not become known.
        """
        began = time.monotonic()
        result = Result()
        async with AsyncExitStack() as stack:
            await self._shop.start(stack)
            channels = {
                name: await stack.enter_async_context(self._open_channel(name))
                for name in self._shop.proxies
            }
            http = await stack.enter_async_context(aiohttp.ClientSession())
            await self._run(channels, http, result)
        result.seconds = time.monotonic() - began
        return result

    def _open_channel(self, service: str) -> grpc.aio.Channel:
        """Open a channel to the proxy of a service, as the gateway would."""
        target = f"127.0.0.1:{self._shop.proxies[service].port}"
        return open_channel(target, CONNECTION_OPTIONS, self._shop.certificates["gateway"], service)

    async def _run(
        self,
        channels: Mapping[str, grpc.aio.Channel],
        http: aiohttp.ClientSession,
        result: Result,
    ) -> None:
        urls, responses = self._shop.gateway_urls, self._record.responses
        accounts = Accounts(http, urls, self._random, responses)
        contents = Contents(channels, accounts)
        catalogue = await contents.fill(max(1, self.options.orders // ORDERS_PER_SCARCE_UNIT))
        orders = Orders(self.options.seed, catalogue)
        clients = Clients(channels["order"], http, accounts, urls, self._record, self._random)
        load = Load(orders, catalogue, clients, self._pace, self._random)
        merchant = Merchant(channels["product"], accounts, catalogue, self._random)
        returns = Returns(channels["order"], accounts, clients, catalogue, self._random)
        customers = Customers(clients, orders, catalogue, self._random)
        others = (merchant, returns, customers)
        watcher = Watcher(channels["order"], accounts)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watcher.run())
            result.load_seconds = await self._place_among_faults(load, others)
            result.final_seconds = await self._wait_until_final(customers, result.findings)
            await self._check(orders, catalogue, returns, contents, result)
            versions = await run_in_thread(_read_versions, self._shop.database_urls["order"])
            result.findings["events that a watcher missed"] = await watcher.find_missed(versions)
            watching.cancel()
        result.findings["events that came before an earlier one"] = watcher.out_of_order
        result.findings["orders never acknowledged"] = load.unacknowledged
        result.findings["calls refused as not logged in"] = self._record.unauthenticated
        result.findings["programs that ended by themselves"] = self._faults.find_other_deaths()
        result.interruptions = watcher.interruptions
        self._count(result)

    async def _place_among_faults(self, load: Load, others: Sequence[Participant]) -> float:
        """Place all orders and inflict all faults; return how many seconds that took."""
        began = time.monotonic()
        for proxy in self._shop.proxies.values():
            proxy.begin()
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(other.run()) for other in others]
            async with asyncio.TaskGroup() as placing:
                placing.create_task(self._faults.run())
                placing.create_task(load.run())
            for task in working:
                task.cancel()
        for other in others:
            await other.finish()
        seconds = time.monotonic() - began
        for proxy in self._shop.proxies.values():
            await proxy.end()
        return seconds

    async def _wait_until_final(self, customers: Customers, findings: Findings) -> float | None:
        """Wait until no order is under way; return how long that took, or None if it did not.

        Payments that the shop takes up only now may need a customer still.
        """
        began = time.monotonic()
        await self._shop.wait_until_ready(FINAL_SECONDS)
        url = self._shop.database_urls["order"]
        while active := await run_in_thread(_count_active, url):
            if time.monotonic() - began > FINAL_SECONDS:
                break
            await customers.finish()
            await asyncio.sleep(_POLL_SECONDS)
        seconds = time.monotonic() - began
        findings["orders that are not final after 60 s"] = Finding(
            len(self._record), active, [f"{active} orders"] if active else []
        )
        return None if active else seconds

    async def _check(
        self,
        orders: Orders,
        catalogue: Catalogue,
        returns: Returns,
        contents: Contents,
        result: Result,
    ) -> None:
        found = await contents.list_orders(catalogue)
        products = await contents.list_products()
        for order in found:
            result.states[order_pb2.OrderState.Name(order.state)] += 1
        self._record.check(found, orders, result.findings)
        check_stock(found, returns.returned, products, catalogue, result.findings)
        result.findings["orders refunded otherwise than known"] = returns.check(found)
        for compared in await run_in_thread(reconcile, self._shop.database_urls, RECONCILE_SECONDS):
            result.findings[compared.comparison.name] = Finding(
                compared.compared, compared.differences, compared.examples
            )

    def _count(self, result: Result) -> None:
        result.kills = self._faults.kills
        result.freezes = self._faults.freezes
        result.responses = self._record.responses
        for proxy in self._shop.proxies.values():
            result.call_faults += proxy.faults


def _count_active(url: str) -> int:
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute("SELECT count(*) FROM orders WHERE next_at IS NOT NULL").fetchone()
        return row[0] if row else 0


def _read_versions(url: str) -> dict[str, int]:
    with psycopg.connect(url, connect_timeout=5) as connection:
        return dict(connection.execute("SELECT order_id::text, version FROM orders").fetchall())
