"""Conversion between the messages of the payment service and its domain."""

import uuid

from bazaar.payment.v1 import payment_pb2
from chassis import conversion, errors, status
from chassis.money import Amount
from services.payment.domain import Charge, Payment, Transaction
from services.payment.refund import NewRefund, Refund


def parse_charges(request: payment_pb2.ProcessPaymentsRequest) -> list[Charge]:
    """Convert charges, in order.

    Raises:
        errors.Unprocessable: an amount is invalid.
    """
    return [
        Charge(
            uuid.UUID(charge.order_id),
            conversion.parse_money(charge.amount, f"charges[{index}].amount"),
            charge.payment_method,
            charge.manual_capture,
        )
        for index, charge in enumerate(request.charges)
    ]


def parse_refunds(request: payment_pb2.RefundPaymentsRequest) -> list[NewRefund]:
    """Convert refunds, in order.

    Raises:
        errors.Unprocessable: an amount is invalid.
    """
    return [
        NewRefund(
            uuid.UUID(refund.order_id),
            refund.number,
            conversion.parse_money(refund.amount, f"refunds[{index}].amount"),
        )
        for index, refund in enumerate(request.refunds)
    ]


def to_refund_result(
    request: NewRefund, result: Refund | errors.Error
) -> payment_pb2.RefundPaymentsResponse.Result:
    """Convert a refund, or why its payment cannot have it."""
    message = payment_pb2.RefundPaymentsResponse.Result(
        order_id=str(request.order_id), number=request.number
    )
    if isinstance(result, errors.Error):
        message.error.CopyFrom(status.to_status(result))
    else:
        message.state = payment_pb2.RefundState.Value(f"REFUND_STATE_{result.state}")
    return message


def to_message(payment: Payment) -> payment_pb2.Payment:
    """Convert a payment; a tombstone has no amounts."""
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
    if payment.action is not None:
        message.action.redirect_url = payment.action.redirect_url
        message.action.client_secret = payment.action.client_secret
    return message


def to_transaction_message(transaction: Transaction) -> payment_pb2.Transaction:
    """Convert an entry of the ledger, which is called a transaction in the contract."""
    entry = transaction.entry
    message = payment_pb2.Transaction(
        transaction_id=str(transaction.transaction_id),
        payment_id=str(entry.payment_id),
        order_id=str(entry.order_id),
        type=payment_pb2.TransactionType.Value(f"TRANSACTION_TYPE_{entry.type}"),
        provider_reference=entry.provider_reference,
        create_time=conversion.to_timestamp(transaction.create_time),
    )
    conversion.fill_money(message.amount, entry.amount)
    return message
