"""What the order service asks of the user, product and payment services: orders in, facts out.

Each method takes a batch that fits into a message, answers by order id, is keyed by order on the
other side, and so may be repeated. Which step comes when is in `checkout`.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence

import grpc
from google.protobuf import field_mask_pb2
from google.rpc import code_pb2, status_pb2

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from bazaar.product.v1 import product_pb2, product_pb2_grpc
from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import client, conversion, log, status
from chassis.money import Amount
from services.order.domain import Order, Payment, PaymentState, Refusal

Prices = Mapping[uuid.UUID, Amount]
"""Prices by product id."""

_REFUSALS = frozenset({code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND, code_pb2.FAILED_PRECONDITION})
_PAYMENT_STATES = {
    payment_pb2.PAYMENT_STATE_SUCCEEDED: PaymentState.SUCCEEDED,
    payment_pb2.PAYMENT_STATE_DECLINED: PaymentState.DECLINED,
    payment_pb2.PAYMENT_STATE_CANCELLED: PaymentState.CANCELLED,
}
_RELEASED = frozenset(
    {product_pb2.RESERVATION_STATE_RELEASED, product_pb2.RESERVATION_STATE_REJECTED}
)


class Peers:
    """The other services, each behind its channel.

    Every method raises errors.Unavailable if its service does not answer in time.
    """

    def __init__(
        self, users: grpc.aio.Channel, products: grpc.aio.Channel, payments: grpc.aio.Channel
    ) -> None:
        self._users = user_pb2_grpc.UserServiceStub(users)
        self._products = product_pb2_grpc.ProductServiceStub(products)
        self._payments = payment_pb2_grpc.PaymentServiceStub(payments)
        self._log = log.logger()

    async def find_users(self, user_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
        """Return those of the users that exist."""
        request = user_pb2.BatchGetUsersRequest(
            user_ids=[str(user_id) for user_id in user_ids],
            # All else of a thousand users need not fit into a message.
            read_mask=field_mask_pb2.FieldMask(paths=["user_id"]),
        )
        answer = await client.call(self._users.BatchGetUsers, request)
        return {uuid.UUID(user.user_id) for user in answer.users}

    async def reserve_stock(self, orders: Sequence[Order]) -> dict[uuid.UUID, Prices | Refusal]:
        """Set the stock of orders aside for good; leave out orders that must be asked for again."""
        request = product_pb2.ReserveStockRequest(
            reservations=[_to_reservation(order) for order in orders], pin=True
        )
        answer = await client.call(self._products.ReserveStock, request)
        found: dict[uuid.UUID, Prices | Refusal] = {}
        for result in answer.results:
            if not result.HasField("error"):
                found[uuid.UUID(result.order_id)] = _to_prices(result.lines)
            elif result.error.code in _REFUSALS:
                found[uuid.UUID(result.order_id)] = _to_refusal(result.error)
        return found

    async def commit_stock(self, orders: Sequence[Order]) -> set[uuid.UUID]:
        """Sell what orders have set aside; return those for which it is sold."""
        request = product_pb2.CommitStockRequest(order_ids=_ids(orders))
        answer = await client.call(self._products.CommitStock, request)
        committed = {product_pb2.RESERVATION_STATE_COMMITTED}
        return self._in_states(answer.results, committed, "stock_not_committed")

    async def release_stock(self, orders: Sequence[Order]) -> set[uuid.UUID]:
        """Give back what orders may have set aside; return those that hold nothing now."""
        request = product_pb2.ReleaseStockRequest(order_ids=_ids(orders))
        answer = await client.call(self._products.ReleaseStock, request)
        return self._in_states(answer.results, _RELEASED, "stock_not_released")

    async def charge(self, orders: Sequence[Order]) -> dict[uuid.UUID, Payment]:
        """Charge for orders."""
        request = payment_pb2.ProcessPaymentsRequest(
            charges=[_to_charge(order) for order in orders]
        )
        answer = await client.call(self._payments.ProcessPayments, request)
        return _to_payments(answer.payments)

    async def cancel_payments(self, orders: Sequence[Order]) -> dict[uuid.UUID, Payment]:
        """Cancel the payments of orders, unless they were charged."""
        request = payment_pb2.CancelPaymentsRequest(order_ids=_ids(orders))
        answer = await client.call(self._payments.CancelPayments, request)
        return _to_payments(answer.payments)

    def _in_states(
        self,
        results: Sequence[product_pb2.ReservationResult],
        states: Collection[int],
        event: str,
    ) -> set[uuid.UUID]:
        found = set()
        for result in results:
            if result.state in states:
                found.add(uuid.UUID(result.order_id))
            else:
                # Stock and order disagree, which no sequence of calls should lead to.
                reason = status.error_info(result.error).reason
                self._log.error(event, order_id=result.order_id, reason=reason)
        return found


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
        raise AssertionError(f"order {order.order_id} is to be charged and has no total")
    return payment_pb2.ProcessPaymentsRequest.Charge(
        order_id=str(order.order_id),
        amount=conversion.to_money(order.total),
        payment_method=order.payment_method,
    )


def _to_payments(payments: Sequence[payment_pb2.Payment]) -> dict[uuid.UUID, Payment]:
    return {
        uuid.UUID(payment.order_id): Payment(
            uuid.UUID(payment.payment_id),
            _PAYMENT_STATES.get(payment.state, PaymentState.UNKNOWN),
            payment.decline_reason,
        )
        for payment in payments
    }
