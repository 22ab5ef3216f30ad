"""Test fixtures of payments: hooks that inject faults into calls, and an audit of both books.

A test module gets the fixture `database` with

    pytest_plugins = ("tools.postgres.testing", "services.payment.testing")

PYTEST_DONT_REWRITE: test modules import it before pytest does.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import LiteralString, TypeVar

import psycopg
import pytest

from chassis.database import Database
from services.payment.providers.sandbox import SandboxProvider

Hook = Callable[[], Awaitable[None]]
Target = TypeVar("Target")
Result = TypeVar("Result")

_DISCREPANCIES = """
WITH taken AS (
    SELECT intent_reference AS reference,
           count(*) FILTER (WHERE type = 'CAPTURE') AS captures,
           sum(amount_minor) FILTER (WHERE type = 'CAPTURE') AS charged,
           sum(amount_minor) FILTER (WHERE type = 'REFUND') AS refunded
      FROM sandbox.movements GROUP BY intent_reference
), payment AS (
    SELECT provider_reference AS reference, amount_minor AS charged,
           nullif(refunded_minor, 0) AS refunded
      FROM payments WHERE state = 'SUCCEEDED' AND amount_minor > 0
), ledger AS (
    SELECT payments.provider_reference AS reference,
           sum(transactions.amount_minor) FILTER (WHERE type = 'CHARGE') AS charged,
           sum(transactions.amount_minor) FILTER (WHERE type = 'REFUND') AS refunded
      FROM transactions JOIN payments USING (payment_id) GROUP BY payments.provider_reference
), refund AS (
    SELECT payments.provider_reference AS reference, sum(refunds.amount_minor) AS refunded
      FROM refunds JOIN payments USING (payment_id)
     WHERE refunds.state = 'SUCCEEDED' GROUP BY payments.provider_reference
)
SELECT format('%s: provider %s, payment %s, ledger %s, refunds %s',
              reference, taken, payment, ledger, refund)
  FROM taken FULL JOIN payment USING (reference) FULL JOIN ledger USING (reference)
       FULL JOIN refund USING (reference)
 WHERE captures IS DISTINCT FROM 1
    OR (taken.charged, taken.refunded) IS DISTINCT FROM (payment.charged, payment.refunded)
    OR (taken.charged, taken.refunded) IS DISTINCT FROM (ledger.charged, ledger.refunded)
    OR taken.refunded IS DISTINCT FROM refund.refunded
"""


class Crash(Exception):
    """The process ends here."""


async def crash() -> None:
    """Simulate a crash: a hook."""
    raise Crash


class Hooks(dict[str, Hook]):
    """Hooks by the points at which they run: "before confirm", "after confirm" and so on."""

    def surround(self, target: Target, *methods: str) -> Target:
        """Give methods of an object a point before and one after each call; return the object."""
        for name in methods:
            setattr(target, name, partial(self._call, name, getattr(target, name)))
        return target

    async def _call(
        self, name: str, method: Callable[[object], Awaitable[Result]], items: object
    ) -> Result:
        await self._run(f"before {name}")
        result = await method(items)
        await self._run(f"after {name}")
        return result

    async def _run(self, point: str) -> None:
        if point in self:
            await self[point]()


def hooked_sandbox(database: Database, hooks: Mapping[str, Hook]) -> SandboxProvider:
    """Return a sandbox whose methods have hooks."""
    sandbox = SandboxProvider(database)
    return Hooks(hooks).surround(sandbox, "create_intents", "confirm", "cancel", "refund")


@pytest.fixture
async def database(clean_database_url: str) -> AsyncIterator[Database]:
    """Yield an open database; after the test, audit it."""
    opened = Database(clean_database_url)
    await opened.open()
    yield opened
    await opened.close()
    if discrepancies := find_discrepancies(clean_database_url):
        pytest.fail("\n".join(discrepancies))


def find_discrepancies(url: str) -> list[str]:
    """Compare the provider's books with the payments, the refunds and the ledger, to the penny.

    An empty list means that all agree on what was captured and refunded, and that no order was
    charged twice. Payments that are not final yet may differ.
    """
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(_DISCREPANCIES).fetchall()]


def expire_keys(url: str) -> None:
    """Expire the idempotency keys of intents in the sandbox, as providers do after a day."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE sandbox.intents SET idempotency_key = 'expired ' || reference")


def count(url: str, query: LiteralString) -> int:
    """Return the number that a query selects."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])
