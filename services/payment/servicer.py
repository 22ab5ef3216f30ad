"""PaymentService on the wire: messages to domain objects and back. No rules, no SQL."""

import uuid
from collections.abc import AsyncIterator
from typing import Any, final

import grpc
from google.protobuf import empty_pb2

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from chassis import conversion, errors, ids, paging
from chassis.database import Database
from chassis.money import Amount
from services.payment import domain, repository
from services.payment.charges import Charges
from services.payment.providers.provider import Provider
from services.payment.refunds import Refunds

Context = grpc.aio.ServicerContext[Any, Any]


@final
class PaymentServicer(payment_pb2_grpc.PaymentServiceServicer):
    """Serves payments out of one database, charged with one provider."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._charges = Charges(database, provider)
        self._refunds = Refunds(database, provider)

    async def ProcessPayments(
        self, request: payment_pb2.ProcessPaymentsRequest, context: Context
    ) -> payment_pb2.ProcessPaymentsResponse:
        """Check all, then charge."""
        ids.check_batch_size(request.charges, "charges")
        charges = [
            _parse_charge(charge, f"charges[{index}]")
            for index, charge in enumerate(request.charges)
        ]
        domain.check_charges(charges)
        payments = await self._charges.process(charges)
        return payment_pb2.ProcessPaymentsResponse(
            payments=[_to_message(payment) for payment in payments]
        )

    async def GetPayment(
        self, request: payment_pb2.GetPaymentRequest, context: Context
    ) -> payment_pb2.Payment:
        """Look up one id."""
        payment_id = ids.parse_id(request.payment_id, "payment_id")
        async with self._database.connection() as connection:
            payment = await repository.get_payment(connection, payment_id)
        if payment is None:
            raise domain.payment_not_found(payment_id)
        return _to_message(payment)

    async def ListTransactions(
        self, request: payment_pb2.ListTransactionsRequest, context: Context
    ) -> AsyncIterator[payment_pb2.ListTransactionsResponse]:
        """Read page after page, each with a connection of its own."""
        paging.check_page_size(request.page_size)
        payment_id = ids.parse_id(request.payment_id, "payment_id") if request.payment_id else None
        query = ("transactions", str(payment_id))
        after = paging.decode_token(request.page_token, query)
        progress = paging.Progress(after, request.page_size)
        while not progress.is_done:
            # Not kept in a variable: the client may take long to read the response.
            yield await self._read_transactions(payment_id, query, progress)

    async def RefundPayment(
        self, request: payment_pb2.RefundPaymentRequest, context: Context
    ) -> payment_pb2.Payment:
        """Refund, or repeat what an earlier call with the idempotency key answered."""
        payment_id = ids.parse_id(request.payment_id, "payment_id")
        violations = errors.Violations()
        violations.check_opaque(request.idempotency_key, "idempotency_key", 0, domain.MAX_TEXT)
        violations.raise_any()
        amount = None
        if request.HasField("amount"):
            amount = conversion.parse_money(request.amount, "amount")
        idempotency_key = request.idempotency_key or None
        return _to_message(await self._refunds.refund(payment_id, amount, idempotency_key))

    async def CancelPayments(
        self, request: payment_pb2.CancelPaymentsRequest, context: Context
    ) -> payment_pb2.CancelPaymentsResponse:
        """Cancel all."""
        order_ids = ids.parse_ids(request.order_ids, "order_ids")
        payments = await self._charges.cancel(order_ids)
        return payment_pb2.CancelPaymentsResponse(
            payments=[_to_message(payment) for payment in payments]
        )

    async def HandleWebhook(
        self, request: payment_pb2.HandleWebhookRequest, context: Context
    ) -> empty_pb2.Empty:
        """Not served yet."""
        raise errors.Unimplemented("NOT_IMPLEMENTED", "HandleWebhook is not served yet.")

    async def _read_transactions(
        self, payment_id: uuid.UUID | None, query: tuple[str, ...], progress: paging.Progress
    ) -> payment_pb2.ListTransactionsResponse:
        after = _parse_position(progress.position)
        limit = progress.limit
        async with self._database.connection() as connection:
            found = await repository.list_transactions(connection, payment_id, after, limit + 1)
        page = found[:limit]
        progress.advance(found, len(page), lambda each: [str(each.transaction_id)])
        return payment_pb2.ListTransactionsResponse(
            transactions=[_to_transaction_message(transaction) for transaction in page],
            next_page_token=paging.encode_token(query, progress.position),
        )


def _parse_charge(message: payment_pb2.ProcessPaymentsRequest.Charge, field: str) -> domain.Charge:
    order_id = ids.parse_id(message.order_id, f"{field}.order_id")
    amount = conversion.parse_money(message.amount, f"{field}.amount")
    return domain.Charge(order_id, amount, message.payment_method)


def _parse_position(position: paging.Position | None) -> uuid.UUID | None:
    return None if position is None else ids.parse_id(position[0], "page_token")


def _to_message(payment: domain.Payment) -> payment_pb2.Payment:
    message = payment_pb2.Payment(
        payment_id=str(payment.payment_id),
        order_id=str(payment.order_id),
        state=payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{payment.state}"),
        provider=payment.provider,
        provider_reference=payment.provider_reference,
        decline_reason=payment.decline_reason,
        create_time=conversion.to_timestamp(payment.create_time),
        update_time=conversion.to_timestamp(payment.update_time),
    )
    if payment.amount is not None:
        conversion.fill_money(message.amount, payment.amount)
        refunded = Amount(payment.refunded_minor, payment.amount.currency_code)
        conversion.fill_money(message.refunded_amount, refunded)
    return message


def _to_transaction_message(transaction: domain.Transaction) -> payment_pb2.Transaction:
    entry = transaction.entry
    return payment_pb2.Transaction(
        transaction_id=str(transaction.transaction_id),
        payment_id=str(entry.payment_id),
        order_id=str(entry.order_id),
        type=payment_pb2.TransactionType.Value(f"TRANSACTION_TYPE_{entry.type}"),
        amount=conversion.to_money(entry.amount),
        provider_reference=entry.provider_reference,
        create_time=conversion.to_timestamp(transaction.create_time),
    )
