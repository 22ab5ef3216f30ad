"""Conversion between the messages of the order service and its domain."""

import uuid
from collections.abc import Sequence

from bazaar.order.v1 import order_pb2
from chassis import conversion, errors, status
from chassis.audit import Change
from chassis.money import Amount
from chassis.violations import Violations
from services.order.domain import Line, NewOrder, Order, PaymentAction, State
from services.order.event import Event
from services.order.queue_repository import StuckOrder
from services.order.refund import NewRefund, Refund

_NEXT_STATES = {
    order_pb2.ORDER_STATE_SHIPPED: State.SHIPPED,
    order_pb2.ORDER_STATE_DELIVERED: State.DELIVERED,
}


def parse_order(
    request: order_pb2.CreateOrderRequest,
    user_id: uuid.UUID,
    idempotency_key: str,
    captured_manually: tuple[str, ...],
) -> NewOrder:
    """Convert an order that is placed for a user; its ids are UUIDs by the contract.

    `captured_manually` are prefixes of payment methods.
    """
    return NewOrder(
        user_id=user_id,
        idempotency_key=idempotency_key,
        payment_method=request.payment_method,
        lines=tuple(Line(uuid.UUID(line.product_id), line.quantity) for line in request.lines),
        manual_capture=request.payment_method.startswith(captured_manually),
    )


def parse_next_state(state: order_pb2.OrderState.ValueType) -> State:
    """Convert the state that a client changes an order to.

    Raises:
        errors.Unprocessable: it is neither SHIPPED nor DELIVERED.
    """
    violations = Violations()
    violations.check(state in _NEXT_STATES, "state", "must be SHIPPED or DELIVERED")
    violations.raise_any()
    return _NEXT_STATES[state]


def parse_refund(request: order_pb2.RefundOrderRequest, idempotency_key: str) -> NewRefund:
    """Convert a refund that a client requests.

    Raises:
        errors.Unprocessable: the amount is invalid.
    """
    has_amount = request.HasField("amount")
    return NewRefund(
        idempotency_key,
        conversion.parse_money(request.amount, "amount") if has_amount else None,
        tuple(Line(uuid.UUID(line.product_id), line.quantity) for line in request.restock),
    )


def to_result(
    idempotency_key: str, placed: Order | errors.Error
) -> order_pb2.CreateOrdersResponse.Result:
    """Convert an order that was placed, or the error for its client."""
    result = order_pb2.CreateOrdersResponse.Result(idempotency_key=idempotency_key)
    if isinstance(placed, errors.Error):
        result.error.CopyFrom(status.to_status(placed))
    else:
        result.order.CopyFrom(to_message(placed))
    return result


def to_message(order: Order) -> order_pb2.Order:
    """Convert an order; it has prices once its stock is reserved."""
    message = order_pb2.Order(
        order_id=str(order.order_id),
        user_id=str(order.user_id),
        idempotency_key=order.idempotency_key,
        state=order_pb2.OrderState.Value(f"ORDER_STATE_{order.state}"),
        lines=[
            order_pb2.OrderLine(product_id=str(line.product_id), quantity=line.quantity)
            for line in order.lines
        ],
        payment_id="" if order.payment_id is None else str(order.payment_id),
        refusal_reason="" if order.refusal is None else order.refusal.reason,
        create_time=conversion.to_timestamp(order.create_time),
        update_time=conversion.to_timestamp(order.update_time),
    )
    if order.total is not None:
        _set_prices(message, order.lines, order.total)
        if order.refunded_minor:
            refunded = Amount(order.refunded_minor, order.total.currency_code)
            conversion.fill_money(message.refunded_amount, refunded)
    if order.action is not None:
        _set_action(message.payment_action, order.action)
    return message


def to_change(before: Order | None, after: Order) -> Change:
    """Convert an order that was accepted or changed, for the audit log."""
    message = None if before is None else to_message(before)
    return Change(f"orders/{after.order_id}", message, to_message(after))


def to_refund_change(accepted: Refund) -> Change:
    """Convert a refund that was accepted, for the audit log."""
    resource = f"orders/{accepted.order_id}/refunds/{accepted.number}"
    return Change(resource, None, to_refund_message(accepted))


def to_refund_message(refund: Refund) -> order_pb2.Refund:
    """Convert a refund."""
    message = order_pb2.Refund()
    fill_refund_message(message, refund)
    return message


def fill_refund_message(message: order_pb2.Refund, refund: Refund) -> None:
    """Convert a refund into an empty message, such as a new item of a list."""
    message.order_id = str(refund.order_id)
    message.number = refund.number
    message.idempotency_key = refund.idempotency_key
    conversion.fill_money(message.amount, refund.amount)
    message.state = order_pb2.RefundState.Value(f"REFUND_STATE_{refund.state}")
    for line in refund.restock:
        message.restock.add(product_id=str(line.product_id), quantity=line.quantity)
    message.create_time.CopyFrom(conversion.to_timestamp(refund.create_time))
    message.update_time.CopyFrom(conversion.to_timestamp(refund.update_time))


def to_stuck_message(stuck: StuckOrder) -> order_pb2.ListStuckOrdersResponse.StuckOrder:
    """Convert an order that is stuck."""
    return order_pb2.ListStuckOrdersResponse.StuckOrder(
        order_id=str(stuck.order_id), failure=stuck.failure, parked=stuck.is_parked
    )


def to_event_message(event: Event) -> order_pb2.OrderEvent:
    """Convert an event."""
    message = order_pb2.OrderEvent(
        event_id=event.position.event,
        order_id=str(event.order_id),
        version=event.version,
        state=order_pb2.OrderState.Value(f"ORDER_STATE_{event.state}"),
        cause=order_pb2.EventCause.Value(f"EVENT_CAUSE_{event.cause}"),
        refusal_reason=event.refusal_reason,
        event_time=conversion.to_timestamp(event.event_time),
        action_required=event.action_required,
    )
    if event.refund is not None:
        message.refund.number = event.refund.number
        message.refund.state = order_pb2.RefundState.Value(f"REFUND_STATE_{event.refund.state}")
        conversion.fill_money(message.refund.amount, event.refund.amount)
    return message


def _set_action(message: order_pb2.PaymentAction, action: PaymentAction) -> None:
    message.redirect_url = action.redirect_url
    message.client_secret = action.client_secret
    if action.expire_time is not None:
        message.expire_time.CopyFrom(conversion.to_timestamp(action.expire_time))


def _set_prices(message: order_pb2.Order, lines: Sequence[Line], total: Amount) -> None:
    conversion.fill_money(message.total, total)
    for priced, line in zip(message.lines, lines, strict=True):
        if line.unit_price_minor is not None:
            price = Amount(line.unit_price_minor, total.currency_code)
            conversion.fill_money(priced.unit_price, price)
