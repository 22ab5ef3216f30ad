"""The sandbox: a payment provider that moves no money and keeps books as if it did.

Its books are in the schema `sandbox`, which stands for somebody else's computer: nothing but this
module touches it, in transactions of its own, and this module touches nothing else. So a crash
between a step here and a step of the service leaves what it would leave with a real provider.
"""

from collections.abc import Sequence
from typing import LiteralString

from chassis.database import Connection, Database
from chassis.money import Amount
from services.payment.domain import Outcome, RefundOutcome, RefundState, State
from services.payment.providers.provider import Confirmation, IntentRequest, RefundRequest

DECLINE_REASONS = {
    "pm_sandbox": "",
    "pm_card_visa": "",
    "pm_card_declined": "card_declined",
    "pm_card_insufficient_funds": "insufficient_funds",
}
"""Why each payment method is declined; empty for those that are not."""

UNKNOWN_METHOD = "unknown_payment_method"

_UNCONFIRMED = "UNCONFIRMED"


class SandboxProvider:
    """Charges by payment method tokens: see `DECLINE_REASONS`; every other token is declined."""

    name = "sandbox"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[str]:
        """Create intents; the same key gives the same one and must be for the same amount."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO sandbox.intents (idempotency_key, amount_minor, currency_code)"
                " SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS new (key)"
                " ORDER BY key ON CONFLICT DO NOTHING",
                (
                    [request.key for request in requests],
                    [request.amount.minor for request in requests],
                    [request.amount.currency_code for request in requests],
                ),
            )
            cursor = await connection.execute(
                "SELECT idempotency_key, amount_minor, currency_code, reference"
                " FROM sandbox.intents WHERE idempotency_key = ANY(%s)",
                ([request.key for request in requests],),
            )
            found = {
                IntentRequest(key, Amount(minor, currency_code)): str(reference)
                for key, minor, currency_code, reference in await cursor.fetchall()
            }
        return [found[request] for request in requests]

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[Outcome]:
        """Decide those intents that are unconfirmed by their tokens, and capture."""
        references = [confirmation.reference for confirmation in confirmations]
        async with self._database.transaction() as connection:
            outcomes = await _read_outcomes(connection, references, lock=True)
            decided = {
                confirmation.reference: _decide(confirmation.payment_method)
                for confirmation in confirmations
                if outcomes[confirmation.reference].state is State.PROCESSING
            }
            await _write_outcomes(connection, decided)
            charged = [key for key, outcome in decided.items() if outcome.state is State.SUCCEEDED]
            await connection.execute(
                "INSERT INTO sandbox.movements (intent_reference, type, amount_minor)"
                " SELECT reference, 'CAPTURE', amount_minor FROM sandbox.intents"
                " WHERE reference = ANY(%s)",
                (charged,),
            )
        outcomes |= decided
        return [outcomes[reference] for reference in references]

    async def cancel(self, references: Sequence[str]) -> list[Outcome]:
        """Cancel those intents that are unconfirmed."""
        async with self._database.transaction() as connection:
            outcomes = await _read_outcomes(connection, references, lock=True)
            cancelled = {
                reference: Outcome(State.CANCELLED)
                for reference, outcome in outcomes.items()
                if outcome.state is State.PROCESSING
            }
            await _write_outcomes(connection, cancelled)
        outcomes |= cancelled
        return [outcomes[reference] for reference in references]

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundOutcome]:
        """Give back what is left of each intent, first come, first served."""
        async with self._database.transaction() as connection:
            left_minor = await _lock_left(connection, [request.reference for request in requests])
            done = await _read_refunds(connection, [request.key for request in requests])
            granted = []
            for request in requests:
                if request.key in done or request.amount.minor > left_minor[request.reference]:
                    continue
                left_minor[request.reference] -= request.amount.minor
                granted.append(request)
            done |= await _write_refunds(connection, granted)
        return [
            RefundOutcome(RefundState.SUCCEEDED, done[request.key])
            if request.key in done
            else RefundOutcome(RefundState.FAILED)
            for request in requests
        ]

    async def get(self, references: Sequence[str]) -> list[Outcome]:
        """Read what became of intents."""
        async with self._database.connection() as connection:
            outcomes = await _read_outcomes(connection, references)
        return [outcomes[reference] for reference in references]


def _decide(payment_method: str) -> Outcome:
    reason = DECLINE_REASONS.get(payment_method, UNKNOWN_METHOD)
    return Outcome(State.DECLINED, reason) if reason else Outcome(State.SUCCEEDED)


async def _read_outcomes(
    connection: Connection, references: Sequence[str], *, lock: bool = False
) -> dict[str, Outcome]:
    query: LiteralString = (
        "SELECT reference, state, decline_reason FROM sandbox.intents"
        " WHERE reference = ANY(%s) ORDER BY reference"
    )
    cursor = await connection.execute(query + (" FOR UPDATE" if lock else ""), (list(references),))
    return {
        reference: Outcome(State.PROCESSING if state == _UNCONFIRMED else State(state), reason)
        for reference, state, reason in await cursor.fetchall()
    }


async def _write_outcomes(connection: Connection, outcomes: dict[str, Outcome]) -> None:
    await connection.execute(
        "UPDATE sandbox.intents SET state = decided.state, decline_reason = decided.reason,"
        " update_time = now()"
        " FROM unnest(%s::text[], %s::text[], %s::text[]) AS decided (reference, state, reason)"
        " WHERE intents.reference = decided.reference",
        (
            list(outcomes),
            [outcome.state for outcome in outcomes.values()],
            [outcome.decline_reason for outcome in outcomes.values()],
        ),
    )


async def _lock_left(connection: Connection, references: Sequence[str]) -> dict[str, int]:
    cursor = await connection.execute(
        "SELECT reference,"
        " CASE state WHEN 'SUCCEEDED' THEN amount_minor - refunded_minor ELSE 0 END"
        " FROM sandbox.intents WHERE reference = ANY(%s) ORDER BY reference FOR UPDATE",
        (list(references),),
    )
    return dict(await cursor.fetchall())


async def _read_refunds(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    cursor = await connection.execute(
        "SELECT idempotency_key, reference FROM sandbox.movements WHERE idempotency_key = ANY(%s)",
        (list(keys),),
    )
    return dict(await cursor.fetchall())


async def _write_refunds(
    connection: Connection, requests: Sequence[RefundRequest]
) -> dict[str, str]:
    """Book refunds; return the reference of each by its key."""
    references = [request.reference for request in requests]
    amounts_minor = [request.amount.minor for request in requests]
    await connection.execute(
        "UPDATE sandbox.intents SET refunded_minor = refunded_minor + granted.minor,"
        " update_time = now()"
        " FROM (SELECT reference, sum(minor) AS minor"
        " FROM unnest(%s::text[], %s::bigint[]) AS request (reference, minor) GROUP BY reference)"
        " AS granted WHERE intents.reference = granted.reference",
        (references, amounts_minor),
    )
    cursor = await connection.execute(
        "INSERT INTO sandbox.movements (intent_reference, type, amount_minor, idempotency_key)"
        " SELECT reference, 'REFUND', minor, key"
        " FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS granted (reference, minor, key)"
        " RETURNING idempotency_key, reference",
        (references, amounts_minor, [request.key for request in requests]),
    )
    return dict(await cursor.fetchall())
