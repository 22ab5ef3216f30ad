"""All SQL of the sandbox: the intents, captures and refunds of the schema `sandbox`.

Callers own the connections and their transactions. Every statement locks intents in the order of
their keys or references, which prevents deadlocks.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chassis.database import Connection
from chassis.money import Amount
from services.payment.domain import ChargeResult, State
from services.payment.providers.provider import IntentRequest, RefundRequest

UNCONFIRMED = "UNCONFIRMED"
"""The state of an intent that is neither confirmed nor cancelled."""


class StoredIntent(NamedTuple):
    """An intent. Its state is UNCONFIRMED or a `State`."""

    state: str
    decline_reason: str
    manual_capture: bool


async def insert_intents(
    connection: Connection, requests: Sequence[IntentRequest]
) -> dict[tuple[str, Amount], str]:
    """Insert intents, except for those keys that have one; return all references.

    They are by the keys and the amounts of the intents.
    """
    await connection.execute(
        "INSERT INTO sandbox.intents"
        " (idempotency_key, amount_minor, currency_code, manual_capture)"
        " SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::boolean[])"
        " AS new (key) ORDER BY key ON CONFLICT DO NOTHING",
        (
            [request.key for request in requests],
            [request.amount.minor for request in requests],
            [request.amount.currency_code for request in requests],
            [request.manual_capture for request in requests],
        ),
    )
    cursor = await connection.execute(
        "SELECT idempotency_key, amount_minor, currency_code, reference"
        " FROM sandbox.intents WHERE idempotency_key = ANY(%b::text[])",
        ([request.key for request in requests],),
    )
    return {
        (key, Amount(minor, currency_code)): reference
        for key, minor, currency_code, reference in await cursor.fetchall()
    }


async def find_intents(
    connection: Connection, references: Sequence[str]
) -> dict[str, tuple[StoredIntent, Amount]]:
    """Return intents and their amounts, by reference."""
    cursor = await connection.execute(
        "SELECT reference, amount_minor, currency_code, state, decline_reason,"
        " manual_capture FROM sandbox.intents WHERE reference = ANY(%b::text[])",
        (list(references),),
    )
    return {
        reference: (StoredIntent(*intent), Amount(minor, currency_code))
        for reference, minor, currency_code, *intent in await cursor.fetchall()
    }


async def lock_intents(
    connection: Connection, references: Sequence[str]
) -> dict[str, StoredIntent]:
    """Lock intents; return them by reference."""
    cursor = await connection.execute(
        "SELECT reference, state, decline_reason, manual_capture FROM sandbox.intents"
        " WHERE reference = ANY(%b::text[]) ORDER BY reference FOR UPDATE",
        (list(references),),
    )
    return {reference: StoredIntent(*intent) for reference, *intent in await cursor.fetchall()}


async def write_results(connection: Connection, results: Mapping[str, ChargeResult]) -> None:
    """Write the states of locked intents, and a capture for each that is charged."""
    if not results:
        return
    await connection.execute(
        "UPDATE sandbox.intents SET state = decided.state, decline_reason = decided.reason,"
        " update_time = now()"
        " FROM unnest(%b::text[], %b::text[], %b::text[]) AS decided (reference, state, reason)"
        " WHERE intents.reference = decided.reference",
        (
            list(results),
            [result.state for result in results.values()],
            [result.decline_reason for result in results.values()],
        ),
    )
    await connection.execute(
        "INSERT INTO sandbox.movements (intent_reference, type, amount_minor)"
        " SELECT reference, 'CAPTURE', amount_minor FROM sandbox.intents"
        " WHERE reference = ANY(%b::text[])",
        ([key for key, result in results.items() if result.state is State.SUCCEEDED],),
    )


async def lock_remaining(connection: Connection, references: Sequence[str]) -> dict[str, int]:
    """Lock intents; return how much of each can be refunded, by reference."""
    cursor = await connection.execute(
        "SELECT reference,"
        " CASE state WHEN 'SUCCEEDED' THEN amount_minor - refunded_minor ELSE 0 END"
        " FROM sandbox.intents WHERE reference = ANY(%b::text[]) ORDER BY reference FOR UPDATE",
        (list(references),),
    )
    return dict(await cursor.fetchall())


async def find_refunds_by_number(
    connection: Connection, requests: Sequence[RefundRequest]
) -> dict[str, str]:
    """Look for refunds by their numbers; return their references by key."""
    cursor = await connection.execute(
        "SELECT key, movements.reference FROM sandbox.movements JOIN"
        " unnest(%b::text[], %b::integer[], %b::text[]) AS given (intent_reference, number, key)"
        " USING (intent_reference, number)",
        (
            [request.reference for request in requests],
            [request.number for request in requests],
            [request.key for request in requests],
        ),
    )
    return dict(await cursor.fetchall())


async def find_refunds_by_key(
    connection: Connection, requests: Sequence[RefundRequest]
) -> dict[str, str]:
    """Look for refunds by their idempotency keys; return their references by key."""
    cursor = await connection.execute(
        "SELECT idempotency_key, reference FROM sandbox.movements"
        " WHERE idempotency_key = ANY(%b::text[])",
        ([request.key for request in requests],),
    )
    return dict(await cursor.fetchall())


async def write_refunds(
    connection: Connection, requests: Sequence[RefundRequest]
) -> dict[str, str]:
    """Write refunds to the books; return their references by key."""
    references = [request.reference for request in requests]
    amounts_minor = [request.amount.minor for request in requests]
    await connection.execute(
        "UPDATE sandbox.intents SET refunded_minor = refunded_minor + granted.minor,"
        " update_time = now()"
        " FROM (SELECT reference, sum(minor) AS minor"
        " FROM unnest(%b::text[], %b::bigint[]) AS request (reference, minor) GROUP BY reference)"
        " AS granted WHERE intents.reference = granted.reference",
        (references, amounts_minor),
    )
    cursor = await connection.execute(
        "INSERT INTO sandbox.movements"
        " (intent_reference, type, amount_minor, number, idempotency_key)"
        " SELECT reference, 'REFUND', minor, number, key"
        " FROM unnest(%b::text[], %b::bigint[], %b::integer[], %b::text[])"
        " AS granted (reference, minor, number, key) RETURNING idempotency_key, reference",
        (
            references,
            amounts_minor,
            [request.number for request in requests],
            [request.key for request in requests],
        ),
    )
    return dict(await cursor.fetchall())
