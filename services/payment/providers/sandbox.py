"""The sandbox: a payment provider that moves no money and keeps books as if it did.

Its books are in the schema `sandbox`, which stands for a remote system: only this module accesses
it, in transactions of its own, and this module accesses nothing else. A crash between a step here
and a step of the service therefore has the same effect as with a real provider.
"""

from collections.abc import Sequence

from chassis.database import Connection, Database
from chassis.money import Amount
from services.payment.domain import ChargeResult, RefundResult, RefundState, State
from services.payment.providers.provider import Confirmation, IntentRequest, RefundRequest

DECLINE_REASONS = {
    "pm_sandbox": "",
    "pm_card_visa": "",
    "pm_card_declined": "card_declined",
    "pm_card_insufficient_funds": "insufficient_funds",
}
"""The decline reason of each payment method; empty for those that succeed."""

UNKNOWN_METHOD = "unknown_payment_method"

_UNCONFIRMED = "UNCONFIRMED"


class SandboxProvider:
    """Accepts the payment methods of `DECLINE_REASONS`, and declines every other one."""

    name = "sandbox"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[str]:
        """Create intents; a repeated key returns the same intent and must have the same amount."""
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

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
        """Charge or decline those intents that are unconfirmed, by their payment methods."""
        references = [confirmation.reference for confirmation in confirmations]
        async with self._database.transaction() as connection:
            results = await _lock_results(connection, references)
            decided = {
                confirmation.reference: _decide(confirmation.payment_method)
                for confirmation in confirmations
                if results[confirmation.reference].state is State.PROCESSING
            }
            await _write_results(connection, decided)
            charged = [key for key, result in decided.items() if result.state is State.SUCCEEDED]
            await connection.execute(
                "INSERT INTO sandbox.movements (intent_reference, type, amount_minor)"
                " SELECT reference, 'CAPTURE', amount_minor FROM sandbox.intents"
                " WHERE reference = ANY(%s)",
                (charged,),
            )
        results |= decided
        return [results[reference] for reference in references]

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        """Cancel those intents that are unconfirmed."""
        async with self._database.transaction() as connection:
            results = await _lock_results(connection, references)
            cancelled = {
                reference: ChargeResult(State.CANCELLED)
                for reference, result in results.items()
                if result.state is State.PROCESSING
            }
            await _write_results(connection, cancelled)
        results |= cancelled
        return [results[reference] for reference in references]

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
        """Refund charged intents, in request order, as long as enough of each remains."""
        async with self._database.transaction() as connection:
            remaining_minor = await _lock_remaining(
                connection, [request.reference for request in requests]
            )
            done = await _read_refunds(connection, [request.key for request in requests])
            granted = []
            for request in requests:
                if request.key in done or request.amount.minor > remaining_minor[request.reference]:
                    continue
                remaining_minor[request.reference] -= request.amount.minor
                granted.append(request)
            done |= await _write_refunds(connection, granted)
        return [
            RefundResult(RefundState.SUCCEEDED, done[request.key])
            if request.key in done
            else RefundResult(RefundState.FAILED)
            for request in requests
        ]


def _decide(payment_method: str) -> ChargeResult:
    reason = DECLINE_REASONS.get(payment_method, UNKNOWN_METHOD)
    return ChargeResult(State.DECLINED, reason) if reason else ChargeResult(State.SUCCEEDED)


async def _lock_results(
    connection: Connection, references: Sequence[str]
) -> dict[str, ChargeResult]:
    cursor = await connection.execute(
        "SELECT reference, state, decline_reason FROM sandbox.intents"
        " WHERE reference = ANY(%s) ORDER BY reference FOR UPDATE",
        (list(references),),
    )
    return {
        reference: ChargeResult(State.PROCESSING if state == _UNCONFIRMED else State(state), reason)
        for reference, state, reason in await cursor.fetchall()
    }


async def _write_results(connection: Connection, results: dict[str, ChargeResult]) -> None:
    await connection.execute(
        "UPDATE sandbox.intents SET state = decided.state, decline_reason = decided.reason,"
        " update_time = now()"
        " FROM unnest(%s::text[], %s::text[], %s::text[]) AS decided (reference, state, reason)"
        " WHERE intents.reference = decided.reference",
        (
            list(results),
            [result.state for result in results.values()],
            [result.decline_reason for result in results.values()],
        ),
    )


async def _lock_remaining(connection: Connection, references: Sequence[str]) -> dict[str, int]:
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
    """Write refunds to the books; return their references by key."""
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
