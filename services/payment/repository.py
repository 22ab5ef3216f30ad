"""The SQL of payments, refunds and the ledger. Callers own the connections and transactions.

Every statement locks payments in the order of their order ids, which prevents deadlocks.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, LiteralString

from chassis import errors
from chassis.database import Connection, fetch
from chassis.money import Amount
from services.payment.domain import (
    LedgerEntry,
    NewPayment,
    Payment,
    RefundState,
    State,
    Transaction,
    TransactionType,
)
from services.payment.refund import Refund, RefundKey

_PAYMENT_COLUMNS: LiteralString = (
    "payment_id, order_id, state, amount_minor, currency_code, provider, provider_reference,"
    " decline_reason, refunded_minor, version, create_time, update_time, authorization_reference"
)
_TRANSACTION_COLUMNS: LiteralString = (
    "transaction_id, payment_id, order_id, type, amount_minor, currency_code, provider_reference,"
    " create_time"
)


async def insert_payments(
    connection: Connection, payments: Sequence[NewPayment]
) -> dict[uuid.UUID, Payment]:
    """Insert payments, except for those orders that have one; return those of all orders."""
    order_ids = [payment.order_id for payment in payments]
    amounts = [payment.amount for payment in payments]
    await connection.execute(
        "INSERT INTO payments"
        " (order_id, state, amount_minor, currency_code, provider, provider_reference,"
        " decline_reason) SELECT * FROM unnest(%b::uuid[], %b::text[], %b::bigint[], %b::text[],"
        " %b::text[], %b::text[], %b::text[])"
        " AS payment (order_id) ORDER BY order_id ON CONFLICT DO NOTHING",
        (
            order_ids,
            [payment.state for payment in payments],
            [amount and amount.minor for amount in amounts],
            [amount and amount.currency_code for amount in amounts],
            [payment.provider for payment in payments],
            [payment.provider_reference for payment in payments],
            [payment.decline_reason for payment in payments],
        ),
    )
    # Unlike the insert, a new statement sees the payments that concurrent transactions inserted.
    return await get_payments_of_orders(connection, order_ids)


async def get_payments_of_orders(
    connection: Connection, order_ids: Sequence[uuid.UUID], *, lock: bool = False
) -> dict[uuid.UUID, Payment]:
    """Get the existing payments of orders, by order id.

    `lock` locks the rows until the transaction ends.
    """
    payments = await fetch(
        connection,
        _to_payment,
        f"SELECT {_PAYMENT_COLUMNS} FROM payments"
        " WHERE order_id = ANY(%b::uuid[]) ORDER BY order_id" + (" FOR UPDATE" if lock else ""),
        (list(order_ids),),
    )
    return {payment.order_id: payment for payment in payments}


async def get_payment(connection: Connection, payment_id: uuid.UUID) -> Payment:
    """Get a payment.

    Raises:
        errors.NotFound: the payment does not exist.
    """
    found = await fetch(
        connection,
        _to_payment,
        f"SELECT {_PAYMENT_COLUMNS} FROM payments WHERE payment_id = %s",
        (payment_id,),
    )
    if not found:
        raise errors.not_found("payment", payment_id)
    return found[0]


async def find_payment(
    connection: Connection, provider: str, provider_reference: str
) -> Payment | None:
    """Find the payment that has an intent at a provider."""
    found = await fetch(
        connection,
        _to_payment,
        f"SELECT {_PAYMENT_COLUMNS} FROM payments"
        " WHERE provider = %s AND provider_reference = %s AND provider_reference <> ''",
        (provider, provider_reference),
    )
    return found[0] if found else None


async def update_payments(
    connection: Connection, payments: Sequence[Payment]
) -> dict[uuid.UUID, Payment]:
    """Update payments, whose rows are locked; return them by order id, in their new versions."""
    updated = await fetch(
        connection,
        _to_payment,
        "UPDATE payments SET state = changed.state, decline_reason = changed.decline_reason,"
        " authorization_reference = changed.authorization_reference,"
        " refunded_minor = changed.refunded_minor, version = version + 1, update_time = now()"
        " FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::bigint[]) AS changed"
        " (id, state, decline_reason, authorization_reference, refunded_minor)"
        " WHERE payment_id = changed.id"
        " RETURNING payment_id, order_id, payments.state, amount_minor, currency_code, provider,"
        " provider_reference, payments.decline_reason, payments.refunded_minor, version,"
        " create_time, update_time, payments.authorization_reference",
        (
            [payment.payment_id for payment in payments],
            [payment.state for payment in payments],
            [payment.decline_reason for payment in payments],
            [payment.authorization_reference for payment in payments],
            [payment.refunded_minor for payment in payments],
        ),
    )
    return {payment.order_id: payment for payment in updated}


async def insert_transactions(connection: Connection, entries: Sequence[LedgerEntry]) -> None:
    """Append entries to the ledger."""
    await connection.execute(
        "INSERT INTO transactions"
        " (payment_id, order_id, type, amount_minor, currency_code, provider_reference)"
        " SELECT * FROM unnest("
        "%b::uuid[], %b::uuid[], %b::text[], %b::bigint[], %b::text[], %b::text[])",
        (
            [entry.payment_id for entry in entries],
            [entry.order_id for entry in entries],
            [entry.type for entry in entries],
            [entry.amount.minor for entry in entries],
            [entry.amount.currency_code for entry in entries],
            [entry.provider_reference for entry in entries],
        ),
    )


async def list_transactions(
    connection: Connection, payment_id: uuid.UUID | None, after: uuid.UUID | None, limit: int
) -> list[Transaction]:
    """List at most `limit` entries of the ledger, or of one payment, oldest first, after an id."""
    where: LiteralString = "TRUE"
    if payment_id is not None:
        where += " AND payment_id = %(payment_id)s"
    if after is not None:
        where += " AND transaction_id > %(after)s"
    return await fetch(
        connection,
        _to_transaction,
        f"SELECT {_TRANSACTION_COLUMNS} FROM transactions WHERE {where}"
        " ORDER BY transaction_id LIMIT %(limit)s",
        {"payment_id": payment_id, "after": after, "limit": limit},
    )


async def insert_refunds(connection: Connection, refunds: Sequence[Refund]) -> None:
    """Insert refunds of payments whose rows are locked."""
    await connection.execute(
        "INSERT INTO refunds (payment_id, number, amount_minor, currency_code, state)"
        " SELECT * FROM unnest(%b::uuid[], %b::integer[], %b::bigint[], %b::text[], %b::text[])",
        (
            [refund.payment_id for refund in refunds],
            [refund.number for refund in refunds],
            [refund.amount.minor for refund in refunds],
            [refund.amount.currency_code for refund in refunds],
            [refund.state for refund in refunds],
        ),
    )


async def find_refunds(
    connection: Connection, keys: Sequence[RefundKey]
) -> dict[RefundKey, Refund]:
    """Get those of the refunds that exist, by their keys."""
    found = await fetch(
        connection,
        _to_refund,
        "SELECT payment_id, order_id, number, refunds.amount_minor, refunds.currency_code,"
        " refunds.state, refunds.provider_reference"
        " FROM unnest(%b::uuid[], %b::integer[]) AS given (order_id, number)"
        " JOIN payments USING (order_id) JOIN refunds USING (payment_id, number)",
        ([order_id for order_id, _ in keys], [number for _, number in keys]),
    )
    return {refund.key: refund for refund in found}


async def sum_refunds(
    connection: Connection, order_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, int]:
    """Return the sums of the refunds that are PENDING or SUCCEEDED, by order id."""
    cursor = await connection.execute(
        "SELECT order_id, sum(refunds.amount_minor)::bigint"
        " FROM payments JOIN refunds USING (payment_id)"
        " WHERE order_id = ANY(%s) AND refunds.state <> 'FAILED' GROUP BY order_id",
        (list(order_ids),),
    )
    return dict(await cursor.fetchall())


async def find_refund_state(
    connection: Connection, payment_id: uuid.UUID, provider_reference: str
) -> RefundState | None:
    """Return the state of a refund by the provider's reference of it.

    A reference is recorded with the final state. Until then, each refund of the payment that is
    PENDING may be the one.
    """
    cursor = await connection.execute(
        "SELECT state FROM refunds"
        " WHERE payment_id = %s AND (provider_reference = %s OR state = 'PENDING')"
        " ORDER BY state = 'PENDING' LIMIT 1",
        (payment_id, provider_reference),
    )
    row = await cursor.fetchone()
    return None if row is None else RefundState(row[0])


async def update_refunds(connection: Connection, refunds: Sequence[Refund]) -> None:
    """Update the states of refunds, whose payments are locked."""
    await connection.execute(
        "UPDATE refunds SET state = changed.state,"
        " provider_reference = changed.provider_reference, update_time = now()"
        " FROM unnest(%b::uuid[], %b::integer[], %b::text[], %b::text[])"
        " AS changed (payment_id, number, state, provider_reference)"
        " WHERE refunds.payment_id = changed.payment_id AND refunds.number = changed.number",
        (
            [refund.payment_id for refund in refunds],
            [refund.number for refund in refunds],
            [refund.state for refund in refunds],
            [refund.provider_reference for refund in refunds],
        ),
    )


def _to_payment(
    payment_id: uuid.UUID,
    order_id: uuid.UUID,
    state: str,
    amount_minor: int | None,
    currency_code: str,
    *others: Any,
) -> Payment:
    amount = None if amount_minor is None else Amount(amount_minor, currency_code)
    return Payment(payment_id, order_id, State(state), amount, *others)


def _to_refund(
    payment_id: uuid.UUID,
    order_id: uuid.UUID,
    number: int,
    amount_minor: int,
    currency_code: str,
    state: str,
    provider_reference: str,
) -> Refund:
    amount = Amount(amount_minor, currency_code)
    return Refund(payment_id, order_id, number, amount, RefundState(state), provider_reference)


def _to_transaction(
    transaction_id: uuid.UUID,
    payment_id: uuid.UUID,
    order_id: uuid.UUID,
    transaction_type: str,
    amount_minor: int,
    currency_code: str,
    provider_reference: str,
    create_time: dt.datetime,
) -> Transaction:
    amount = Amount(amount_minor, currency_code)
    entry = LedgerEntry(
        payment_id, order_id, TransactionType(transaction_type), amount, provider_reference
    )
    return Transaction(transaction_id, entry, create_time)
