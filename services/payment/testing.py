"""Test fixtures of payments: hooks that inject faults into calls, and an audit of both books.

A test module gets the fixture `database` with

    pytest_plugins = ("tools.postgres.testing", "services.payment.testing")

PYTEST_DONT_REWRITE: test modules import it before pytest does.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, LiteralString, TypeVar

import psycopg
import pytest

from chassis.database import Database
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.settings import PaymentSettings
from tools.postgres.testing import app_url
from tools.reconcile.compare import compare
from tools.reconcile.comparisons import COMPARISONS

SETTINGS = PaymentSettings(bazaar_environment="development")
"""Settings that switch on the sandbox only."""

CALLS = ("create_intents", "confirm", "capture", "cancel", "refund")
"""The methods of `Provider` that change something there."""

Hook = Callable[[], Awaitable[None]]
Delivery = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Makes a call once, or never, or twice, and returns its result."""
Target = TypeVar("Target")
Result = TypeVar("Result")


class Crash(Exception):
    """The process ends here."""


async def crash() -> None:
    """Simulate a crash: a hook."""
    raise Crash


class Hooks(dict[str, Hook]):
    """Hooks by the points at which they run: "before confirm", "after confirm" and so on."""

    def __init__(self, hooks: Mapping[str, Hook] = MappingProxyType({})) -> None:
        super().__init__(hooks)
        self.deliveries: dict[str, Delivery] = {}
        """How the next call of a method is delivered, by the method."""
        self.passed: list[str] = []
        """The points that were passed, whether they have hooks or not."""

    def surround(self, target: Target, *methods: str) -> Target:
        """Give methods of an object a point before and one after each call; return the object."""
        for name in methods:
            setattr(target, name, partial(self._call, name, getattr(target, name)))
        return target

    def once(self, point: str, hook: Hook) -> None:
        """Have a hook run at a point, the next time that it is passed."""

        async def run() -> None:
            del self[point]
            await hook()

        self[point] = run

    async def _call(
        self, name: str, method: Callable[[object], Awaitable[Result]], items: object
    ) -> Result:
        await self.run(f"before {name}")
        deliver = self.deliveries.pop(name, _deliver)
        result: Result = await deliver(partial(method, items))
        await self.run(f"after {name}")
        return result

    async def run(self, point: str) -> None:
        """Run the hook of a point, if it has one."""
        self.passed.append(point)
        if point in self:
            await self[point]()


async def _deliver(call: Callable[[], Awaitable[Result]]) -> Result:
    return await call()


def sandbox(database: Database, hooks: Mapping[str, Hook] = MappingProxyType({})) -> Providers:
    """Return a sandbox whose methods have hooks, as the only provider."""
    return Providers([Hooks(hooks).surround(SandboxProvider(database), *CALLS)])


@pytest.fixture
async def database(clean_database_url: str) -> AsyncIterator[Database]:
    """Yield an open database; after the test, audit it."""
    opened = Database(app_url(clean_database_url))
    await opened.open()
    yield opened
    await opened.close()
    if discrepancies := find_discrepancies(clean_database_url):
        pytest.fail("\n".join(discrepancies))


def find_discrepancies(url: str) -> list[str]:
    """Reconcile the provider's books with the payments, the refunds and the ledger, to the penny.

    An empty list means that all agree on what was captured and refunded, and that no order was
    charged twice.
    """
    own = [each for each in COMPARISONS if {each.expected.source, each.found.source} == {"payment"}]
    return [
        f"{result.comparison.name}: {example}"
        for result in compare({"payment": url}, own)
        for example in result.examples
    ]


def expire_keys(url: str) -> None:
    """Expire all idempotency keys in the sandbox, as providers do after a day."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE sandbox.intents SET idempotency_key = 'expired ' || reference")
        # Disables the trigger by which movements are append-only.
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE sandbox.movements SET idempotency_key = 'expired ' || reference"
            " WHERE type = 'REFUND'"
        )


def count(url: str, query: LiteralString) -> int:
    """Return the number that a query selects."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])
