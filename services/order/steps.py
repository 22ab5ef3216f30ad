"""The steps of the order protocol: the calls for orders in one state, in a safe sequence.

`checkout` chooses the step, and saves the orders that it changes. An order that a step does not
change has to wait.
"""

import uuid
from collections.abc import Mapping, Sequence

from services.order import domain
from services.order.domain import Order, Payment, PaymentState, Refusal, State
from services.order.failure import Failure
from services.order.order_errors import OrderFailed, OrderUnfinished, fail
from services.order.peers import Peers, StockResults

StepResult = Order | OrderUnfinished | OrderFailed
"""An order as it is after a step, or why the step was refused for it."""


class Steps:
    """Takes steps; each returns the orders that change, and those for which it was refused."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def reserve(self, orders: Sequence[Order]) -> list[StepResult]:
        """Reserve the stock of PENDING orders, which sets their prices."""
        results = await self._peers.reserve_stock(orders)
        changed: list[StepResult] = []
        for order in orders:
            result = results.get(order.order_id)
            if isinstance(result, Refusal):
                changed.append(domain.reject(order, result))
            elif result is not None:
                changed.append(domain.reserve(order, result))
        return changed

    async def charge(self, orders: Sequence[Order]) -> list[StepResult]:
        """Charge PAYING orders, with the stock pinned before, and confirm those that are charged.

        A payment that is captured manually is approved first; its stock is pinned in between.
        """
        chargeable, not_pinned = await self._pin_before_charge(orders)
        payments = await self._peers.charge(chargeable) if chargeable else {}
        # An order has no payment as long as its provider does not respond.
        begun = [order for order in chargeable if order.order_id in payments]
        captured, not_captured = await self._capture(begun, payments)
        settled = await self._settle(begun, payments | captured)
        return not_pinned + not_captured + settled

    async def compensate(self, orders: Sequence[Order]) -> list[StepResult]:
        """Cancel CANCELLING orders, or confirm those that were charged nevertheless."""
        # The payment first: stock must not be released as long as it may still be paid for.
        payments = await self._peers.cancel_payments(orders)
        charged, others = _split_charged(orders, payments)
        unpaid = [
            order for order in others if payments[order.order_id].state is not PaymentState.UNKNOWN
        ]
        results = await self._peers.release_stock(unpaid) if unpaid else {}
        released = _split_stock(unpaid, results)[0]
        cancelled = [domain.transition(order, State.CANCELLED) for order in released]
        confirmed = await self._confirm(charged, payments)
        return [*cancelled, *_find_refused(unpaid, results), *confirmed]

    async def _pin_before_charge(
        self, orders: Sequence[Order]
    ) -> tuple[list[Order], list[StepResult]]:
        """Pin stock for charges that need it; return the orders to charge, and the others."""
        pinned, not_pinned = await self._pin(
            [order for order in orders if domain.needs_pin_to_charge(order)]
        )
        others = [order for order in orders if not domain.needs_pin_to_charge(order)]
        return pinned + others, not_pinned

    async def _capture(
        self, orders: Sequence[Order], payments: Mapping[uuid.UUID, Payment]
    ) -> tuple[dict[uuid.UUID, Payment], list[StepResult]]:
        """Charge approved payments, once the stock is pinned; return also those that were not."""
        approved = [
            order
            for order in orders
            if payments[order.order_id].state is PaymentState.REQUIRES_CAPTURE
        ]
        pinned, not_pinned = await self._pin(approved)
        return await self._peers.capture_payments(pinned) if pinned else {}, not_pinned

    async def _pin(self, orders: Sequence[Order]) -> tuple[list[Order], list[StepResult]]:
        """Pin stock; return the orders for which it is, and the others, most of them expired."""
        if not orders:
            return [], []
        results = await self._peers.pin_stock(orders)
        pinned, released = _split_stock(orders, results)
        return pinned, [*map(domain.expire, released), *_find_refused(orders, results)]

    async def _settle(
        self, orders: Sequence[Order], payments: Mapping[uuid.UUID, Payment]
    ) -> list[StepResult]:
        """Apply the payments of orders; those that were charged are confirmed."""
        charged, others = _split_charged(orders, payments)
        applied = [(order, domain.settle(order, payments[order.order_id])) for order in others]
        changed = [after for before, after in applied if after is not before]
        return [*changed, *await self._confirm(charged, payments)]

    async def _confirm(
        self, charged: Sequence[Order], payments: Mapping[uuid.UUID, Payment]
    ) -> list[StepResult]:
        results = await self._peers.commit_stock(charged) if charged else {}
        committed = _split_stock(charged, results)[0]
        confirmed = [domain.settle(order, payments[order.order_id]) for order in committed]
        return [*confirmed, *_find_refused(charged, results)]


def _split_stock(orders: Sequence[Order], results: StockResults) -> tuple[list[Order], list[Order]]:
    """Return the orders whose stock is as it was asked for, and those whose stock is not."""
    return (
        [order for order in orders if results.get(order.order_id) is True],
        [order for order in orders if results.get(order.order_id) is False],
    )


def _find_refused(orders: Sequence[Order], results: StockResults) -> list[StepResult]:
    return [
        fail(order, result)
        for order in orders
        if isinstance(result := results.get(order.order_id), Failure)
    ]


def _split_charged(
    orders: Sequence[Order], payments: Mapping[uuid.UUID, Payment]
) -> tuple[list[Order], list[Order]]:
    """Return those orders whose payments succeeded, and the others."""
    charged: list[Order] = []
    others: list[Order] = []
    for order in orders:
        succeeded = payments[order.order_id].state is PaymentState.SUCCEEDED
        (charged if succeeded else others).append(order)
    return charged, others
