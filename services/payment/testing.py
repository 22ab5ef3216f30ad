"""What the tests of payments need: a provider that fails on purpose, and an audit of both books."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import LiteralString, TypeVar

import psycopg

from services.payment.domain import Outcome, RefundOutcome
from services.payment.providers.provider import (
    Confirmation,
    IntentRequest,
    Provider,
    RefundRequest,
)

Hook = Callable[[], Awaitable[None]]
Items = TypeVar("Items")
Answer = TypeVar("Answer")

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
    """Raised where the process is to die."""


async def crash() -> None:
    """Die here: a hook."""
    raise Crash


class HookedProvider:
    """A provider with hooks around its methods: "before confirm", "after refund" and so on."""

    def __init__(self, provider: Provider, hooks: Mapping[str, Hook]) -> None:
        self._provider = provider
        self._hooks = hooks
        self.name = provider.name

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[str]:
        """Create intents, with hooks."""
        return await self._around("create_intents", self._provider.create_intents, requests)

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[Outcome]:
        """Confirm intents, with hooks."""
        return await self._around("confirm", self._provider.confirm, confirmations)

    async def cancel(self, references: Sequence[str]) -> list[Outcome]:
        """Cancel intents, with hooks."""
        return await self._around("cancel", self._provider.cancel, references)

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundOutcome]:
        """Refund intents, with hooks."""
        return await self._around("refund", self._provider.refund, requests)

    async def get(self, references: Sequence[str]) -> list[Outcome]:
        """Get intents, with hooks."""
        return await self._around("get", self._provider.get, references)

    async def _around(
        self, name: str, method: Callable[[Items], Awaitable[Answer]], items: Items
    ) -> Answer:
        await self._run(f"before {name}")
        answer = await method(items)
        await self._run(f"after {name}")
        return answer

    async def _run(self, point: str) -> None:
        if point in self._hooks:
            await self._hooks[point]()


def find_discrepancies(url: str) -> list[str]:
    """Compare the provider's books with the payments, the refunds and the ledger, to the penny.

    Empty means that the money which was captured and given back is what the service says, and that
    no order was charged twice. Payments that are not final yet may differ.
    """
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(_DISCREPANCIES).fetchall()]


def forget_keys(url: str) -> None:
    """Let the sandbox forget its idempotency keys of intents, as real providers do after a day."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE sandbox.intents SET idempotency_key = 'forgotten ' || reference")


def count(url: str, query: LiteralString) -> int:
    """Return the number that a query finds."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])
