"""PaymentService, one method per RPC: rules are in `domain`, SQL in `repository`."""

import uuid
from collections.abc import AsyncIterator
from typing import final

from google.protobuf import empty_pb2

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from chassis import ids, paging
from chassis.codec import Context
from chassis.database import Database
from services.payment import domain, messages, refund, repository
from services.payment.charges import Charges
from services.payment.providers.registry import Providers
from services.payment.refunds import Refunds
from services.payment.webhooks import Webhooks


@final
class PaymentServicer(payment_pb2_grpc.PaymentServiceServicer):
    """Serves payments from one database, charged through the providers."""

    def __init__(self, database: Database, providers: Providers) -> None:
        self._database = database
        self._charges = Charges(database, providers)
        self._refunds = Refunds(database, providers)
        self._webhooks = Webhooks(database, providers, self._charges)

    async def ProcessPayments(
        self, request: payment_pb2.ProcessPaymentsRequest, context: Context
    ) -> payment_pb2.ProcessPaymentsResponse:
        charges = messages.parse_charges(request)
        domain.check_charges(charges)
        payments = await self._charges.process(charges)
        return payment_pb2.ProcessPaymentsResponse(
            payments=[messages.to_message(payment) for payment in payments]
        )

    async def CapturePayments(
        self, request: payment_pb2.CapturePaymentsRequest, context: Context
    ) -> payment_pb2.CapturePaymentsResponse:
        order_ids = ids.parse_ids(request.order_ids, "order_ids")
        payments = await self._charges.capture(order_ids)
        return payment_pb2.CapturePaymentsResponse(
            payments=[messages.to_message(payment) for payment in payments]
        )

    async def GetPayment(
        self, request: payment_pb2.GetPaymentRequest, context: Context
    ) -> payment_pb2.Payment:
        payment_id = uuid.UUID(request.payment_id)
        return messages.to_message(await self._database.read(repository.get_payment, payment_id))

    async def ListTransactions(
        self, request: payment_pb2.ListTransactionsRequest, context: Context
    ) -> AsyncIterator[payment_pb2.ListTransactionsResponse]:
        """Read message after message: no connection is held while the client reads."""
        payment_id = uuid.UUID(request.payment_id) if request.payment_id else None
        query = ("transactions", str(payment_id))
        progress = paging.Progress(query, request.page_token, request.page_size)
        while not progress.is_done:
            # Not kept in a variable: the client may take long to read the response.
            yield await self._read_transactions(payment_id, progress)

    async def RefundPayments(
        self, request: payment_pb2.RefundPaymentsRequest, context: Context
    ) -> payment_pb2.RefundPaymentsResponse:
        requests = messages.parse_refunds(request)
        refund.check_refunds(requests)
        results = await self._refunds.refund(requests)
        return payment_pb2.RefundPaymentsResponse(
            results=[
                messages.to_refund_result(each, result)
                for each, result in zip(requests, results, strict=True)
            ]
        )

    async def CancelPayments(
        self, request: payment_pb2.CancelPaymentsRequest, context: Context
    ) -> payment_pb2.CancelPaymentsResponse:
        order_ids = ids.parse_ids(request.order_ids, "order_ids")
        payments = await self._charges.cancel(order_ids)
        return payment_pb2.CancelPaymentsResponse(
            payments=[messages.to_message(payment) for payment in payments]
        )

    async def HandleWebhook(
        self, request: payment_pb2.HandleWebhookRequest, context: Context
    ) -> empty_pb2.Empty:
        metadata = context.invocation_metadata() or ()
        headers = {name: value for name, value in metadata if isinstance(value, str)}
        await self._webhooks.handle(request.provider, headers, request.body.data)
        return empty_pb2.Empty()

    async def _read_transactions(
        self, payment_id: uuid.UUID | None, progress: paging.Progress
    ) -> payment_pb2.ListTransactionsResponse:
        after = progress.last_id
        limit = progress.limit
        query = repository.list_transactions
        found = await self._database.read(query, payment_id, after, limit + 1)
        page = found[:limit]
        progress.advance(found, len(page), lambda each: [str(each.transaction_id)])
        return payment_pb2.ListTransactionsResponse(
            transactions=[messages.to_transaction_message(transaction) for transaction in page],
            next_page_token=progress.next_page_token,
        )
