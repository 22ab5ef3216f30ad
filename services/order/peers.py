"""Calls to the user, product and payment services, in terms of the domain of orders.

Each method takes a batch that fits into a message, and returns its results by order id, or by the
keys of refunds. Each is idempotent, because the other services use these as keys. The order of the
calls is in `steps` and `refunds`.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence

import grpc
from google.protobuf import field_mask_pb2
from google.rpc import code_pb2, status_pb2

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from bazaar.product.v1 import product_pb2, product_pb2_grpc
from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import client, conversion, status
from chassis.money import Amount
from services.order import failure
from services.order.domain import (
    Order,
    Payment,
    PaymentAction,
    PaymentState,
    Refusal,
)
from services.order.failure import Failure
from services.order.refund import Refund, RefundKey, RefundState

Prices = Mapping[uuid.UUID, Amount]
"""Prices by product id."""
StockResults = dict[uuid.UUID, bool | Failure]
"""Whether stock is now as it was asked for, or why that was refused, by order id."""
RefundResults = dict[RefundKey, RefundState | Failure]
"""The states of refunds, or why they could not go on, by their keys."""

_REFUSAL_CODES = frozenset(
    {code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND, code_pb2.FAILED_PRECONDITION}
)
_PAYMENT_STATES = {
    payment_pb2.PAYMENT_STATE_REQUIRES_ACTION: PaymentState.REQUIRES_ACTION,
    payment_pb2.PAYMENT_STATE_REQUIRES_CAPTURE: PaymentState.REQUIRES_CAPTURE,
    payment_pb2.PAYMENT_STATE_SUCCEEDED: PaymentState.SUCCEEDED,
    payment_pb2.PAYMENT_STATE_DECLINED: PaymentState.DECLINED,
    payment_pb2.PAYMENT_STATE_CANCELLED: PaymentState.CANCELLED,
}
_PINNED = frozenset({product_pb2.RESERVATION_STATE_PINNED, product_pb2.RESERVATION_STATE_COMMITTED})
_REFUND_STATES = {
    payment_pb2.REFUND_STATE_PENDING: RefundState.PENDING,
    payment_pb2.REFUND_STATE_SUCCEEDED: RefundState.SUCCEEDED,
    payment_pb2.REFUND_STATE_FAILED: RefundState.FAILED,
}
_RELEASED = frozenset(
    {product_pb2.RESERVATION_STATE_RELEASED, product_pb2.RESERVATION_STATE_REJECTED}
)


class Peers:
    """Clients of the other services.

    Every method raises errors.Unavailable if its service does not respond in time, and
    errors.FailedCallError if it refuses the call. No sequence of calls should lead to that, nor to
    a Failure of a single order.
    """

    def __init__(
        self, users: grpc.aio.Channel, products: grpc.aio.Channel, payments: grpc.aio.Channel
    ) -> None:
        self._users = user_pb2_grpc.UserServiceStub(users)
        self._products = product_pb2_grpc.ProductServiceStub(products)
        self._payments = payment_pb2_grpc.PaymentServiceStub(payments)

    async def find_users(self, user_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
        """Return the existing ones of the users."""
        request = user_pb2.BatchGetUsersRequest(
            user_ids=[str(user_id) for user_id in user_ids],
            # A thousand users with all their fields may not fit into a message.
            read_mask=field_mask_pb2.FieldMask(paths=["user_id"]),
        )
        response = await client.call(self._users.BatchGetUsers, request)
        return {uuid.UUID(user.user_id) for user in response.users}

    async def reserve_stock(self, orders: Sequence[Order]) -> dict[uuid.UUID, Prices | Refusal]:
        """Reserve stock, which expires for orders whose payments are captured manually.

        Orders whose call has to be repeated have no result.
        """
        results: dict[uuid.UUID, Prices | Refusal] = {}
        for manual_capture in (False, True):
            batch = [order for order in orders if order.manual_capture is manual_capture]
            if batch:
                results |= await self._reserve_stock(batch, pin=not manual_capture)
        return results

    async def pin_stock(self, orders: Sequence[Order]) -> StockResults:
        """Keep reserved stock from expiring; False if it was released before."""
        request = product_pb2.PinStockRequest(order_ids=_ids(orders))
        response = await client.call(self._products.PinStock, request)
        results = _to_stock_results("PinStock", response.results, _PINNED | _RELEASED)
        for result in response.results:
            if result.state in _RELEASED:
                results[uuid.UUID(result.order_id)] = False
        return results

    async def commit_stock(self, orders: Sequence[Order]) -> StockResults:
        """Mark the reserved stock of orders as sold."""
        request = product_pb2.CommitStockRequest(order_ids=_ids(orders))
        response = await client.call(self._products.CommitStock, request)
        committed = {product_pb2.RESERVATION_STATE_COMMITTED}
        return _to_stock_results("CommitStock", response.results, committed)

    async def release_stock(self, orders: Sequence[Order]) -> StockResults:
        """Release what orders may have reserved."""
        request = product_pb2.ReleaseStockRequest(order_ids=_ids(orders))
        response = await client.call(self._products.ReleaseStock, request)
        return _to_stock_results("ReleaseStock", response.results, _RELEASED)

    async def charge(self, orders: Sequence[Order]) -> dict[uuid.UUID, Payment]:
        """Charge each order its total."""
        request = payment_pb2.ProcessPaymentsRequest(
            charges=[_to_charge(order) for order in orders]
        )
        response = await client.call(self._payments.ProcessPayments, request)
        return _to_payments(response.payments)

    async def capture_payments(self, orders: Sequence[Order]) -> dict[uuid.UUID, Payment]:
        """Charge the approved payments of orders, whose stock is pinned."""
        request = payment_pb2.CapturePaymentsRequest(order_ids=_ids(orders))
        response = await client.call(self._payments.CapturePayments, request)
        return _to_payments(response.payments)

    async def cancel_payments(self, orders: Sequence[Order]) -> dict[uuid.UUID, Payment]:
        """Cancel the payments of orders that are not charged yet."""
        request = payment_pb2.CancelPaymentsRequest(order_ids=_ids(orders))
        response = await client.call(self._payments.CancelPayments, request)
        return _to_payments(response.payments)

    async def refund_payments(self, refunds: Sequence[Refund]) -> RefundResults:
        """Refund the payments of orders; PENDING if the outcome is not known yet."""
        request = payment_pb2.RefundPaymentsRequest(
            refunds=[_to_payment_refund(refund) for refund in refunds]
        )
        response = await client.call(self._payments.RefundPayments, request)
        return {
            (uuid.UUID(result.order_id), result.number): _to_failure("RefundPayments", result.error)
            if result.HasField("error")
            else _REFUND_STATES[result.state]
            for result in response.results
        }

    async def return_stock(self, refunds: Sequence[Refund]) -> RefundResults:
        """Put the units of refunds back into stock; SUCCEEDED if they are there."""
        request = product_pb2.ReturnStockRequest(returns=[_to_return(refund) for refund in refunds])
        response = await client.call(self._products.ReturnStock, request)
        return {
            (uuid.UUID(result.order_id), result.number): _to_failure("ReturnStock", result.error)
            if result.HasField("error")
            else RefundState.SUCCEEDED
            for result in response.results
        }

    async def _reserve_stock(
        self, orders: Sequence[Order], *, pin: bool
    ) -> dict[uuid.UUID, Prices | Refusal]:
        request = product_pb2.ReserveStockRequest(
            reservations=[_to_reservation(order) for order in orders], pin=pin
        )
        response = await client.call(self._products.ReserveStock, request)
        results: dict[uuid.UUID, Prices | Refusal] = {}
        for result in response.results:
            if not result.HasField("error"):
                results[uuid.UUID(result.order_id)] = _to_prices(result.lines)
            elif result.error.code in _REFUSAL_CODES:
                results[uuid.UUID(result.order_id)] = _to_refusal(result.error)
        return results


def _to_stock_results(
    call: str, results: Sequence[product_pb2.ReservationResult], states: Collection[int]
) -> StockResults:
    """Convert results; a reservation that is in none of the states was refused."""
    return {
        uuid.UUID(result.order_id): result.state in states or _to_failure(call, result.error)
        for result in results
    }


def _to_failure(call: str, error: status_pb2.Status) -> Failure:
    """Convert the error of one item of a call."""
    description = f"{call}: {status.error_info(error).reason}: {error.message}"
    return failure.from_text(description, is_defect=error.code in _REFUSAL_CODES)


def _ids(orders: Sequence[Order]) -> list[str]:
    return [str(order.order_id) for order in orders]


def _to_reservation(order: Order) -> product_pb2.ReserveStockRequest.Reservation:
    return product_pb2.ReserveStockRequest.Reservation(
        order_id=str(order.order_id),
        lines=[
            product_pb2.StockLine(product_id=str(line.product_id), quantity=line.quantity)
            for line in order.lines
        ],
    )


def _to_prices(lines: Sequence[product_pb2.PricedLine]) -> Prices:
    return {
        uuid.UUID(line.product_id): conversion.parse_money(line.unit_price, "unit_price")
        for line in lines
    }


def _to_refusal(error: status_pb2.Status) -> Refusal:
    info = status.error_info(error)
    metadata = {key: info.metadata[key] for key in info.metadata if key != status.HTTP_STATUS}
    return Refusal(info.reason, error.message, metadata)


def _to_charge(order: Order) -> payment_pb2.ProcessPaymentsRequest.Charge:
    if order.total is None:
        raise AssertionError(f"order {order.order_id} cannot be charged without a total")
    charge = payment_pb2.ProcessPaymentsRequest.Charge(
        order_id=str(order.order_id),
        payment_method=order.payment_method,
        manual_capture=order.manual_capture,
    )
    conversion.fill_money(charge.amount, order.total)
    return charge


def _to_payment_refund(refund: Refund) -> payment_pb2.RefundPaymentsRequest.Refund:
    message = payment_pb2.RefundPaymentsRequest.Refund(
        order_id=str(refund.order_id), number=refund.number
    )
    conversion.fill_money(message.amount, refund.amount)
    return message


def _to_return(refund: Refund) -> product_pb2.ReturnStockRequest.Return:
    return product_pb2.ReturnStockRequest.Return(
        order_id=str(refund.order_id),
        number=refund.number,
        lines=[
            product_pb2.StockLine(product_id=str(line.product_id), quantity=line.quantity)
            for line in refund.restock
        ],
    )


def _to_payments(payments: Sequence[payment_pb2.Payment]) -> dict[uuid.UUID, Payment]:
    return {
        uuid.UUID(payment.order_id): Payment(
            uuid.UUID(payment.payment_id),
            _PAYMENT_STATES.get(payment.state, PaymentState.UNKNOWN),
            payment.decline_reason,
            _to_action(payment.action) if payment.HasField("action") else None,
        )
        for payment in payments
    }


def _to_action(action: payment_pb2.PaymentAction) -> PaymentAction:
    return PaymentAction(action.redirect_url, action.client_secret)
