"""The order protocol: a saga that accepts orders and drives each, step by step, to its end.

Every step makes idempotent calls to other services, and then saves its result unless the order was
changed meanwhile. An order can therefore be left at any point and continued by any process, also
by two at once. No transaction is open during a call. The state transitions are in `domain`; the
worker, which continues what was left, is in `worker`.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from chassis import errors, log
from chassis.database import Database
from services.order import batches, domain, placement, queue_repository, repository
from services.order.domain import (
    NewOrder,
    Order,
    OrderKey,
    Payment,
    PaymentState,
    Refusal,
    State,
)
from services.order.event import Cause
from services.order.event_log import EventLog
from services.order.peers import Peers

OrderResult = Order | errors.Error
"""An order, or the error for its client."""

Step = Callable[[Sequence[Order]], Awaitable[list[Order]]]
"""Makes a call for orders in one state; returns the orders that it changes."""


class Checkout:
    """Places, drives and cancels orders; `cause` is recorded with every change of an order."""

    def __init__(
        self, database: Database, peers: Peers, event_log: EventLog, cause: Cause = Cause.CLIENT
    ) -> None:
        self._database = database
        self._peers = peers
        self._event_log = event_log
        self._cause = cause
        self._log = log.logger()
        # In this order most orders are final after one round.
        self._steps: dict[State, Step] = {
            State.PENDING: self._reserve,
            State.PAYING: self._charge,
            State.CANCELLING: self._compensate,
        }

    async def place(
        self, orders: Sequence[NewOrder], drive_seconds: float | None = None
    ) -> list[OrderResult]:
        """Accept and drive at most `batches.MAX_ORDERS` orders; return one result each, in order.

        A duplicate is driven from its current state. The result is the order if it is confirmed,
        and otherwise the error for its client. An order that makes its batch fail gets an error of
        its own, and the others continue. After `drive_seconds`, the orders that are not final are
        left to the worker.

        Raises:
            errors.Unavailable: the user service or the database is down; which orders were accepted
                is unknown.
        """
        if not orders:
            return []
        accepted = await batches.halve(self._accept, orders, self._fail_acceptance)
        found = [order for order in accepted if isinstance(order, Order)]
        driven = await self.drive(found, drive_seconds)
        return [
            _to_result(driven[order.order_id]) if isinstance(order, Order) else order
            for order in accepted
        ]

    async def cancel(self, order_id: uuid.UUID) -> Order:
        """Cancel an order that is not charged yet, and return it cancelled.

        Raises:
            errors.NotFound: the order does not exist.
            domain.Conflict: the order was charged or rejected.
            errors.Unavailable: a service is down; a repeated call continues.
        """
        async with self._database.connection() as connection:
            order = await repository.get_order(connection, order_id)
        while (cancelling := domain.request_cancel(order)) is not order:
            (order,) = await self._save([cancelling])
        driven = (await self.drive([order]))[order_id]
        if isinstance(driven, errors.Error):
            raise driven
        # A concurrent charge may have won.
        return domain.request_cancel(driven)

    async def drive(
        self, orders: Iterable[Order], seconds: float | None = None
    ) -> dict[uuid.UUID, OrderResult]:
        """Take steps until each order has none left or has to wait; return results by order id.

        An order that has to wait, or that has a step left after `seconds`, is left to the worker.
        """
        driven: dict[uuid.UUID, OrderResult] = {order.order_id: order for order in orders}
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._take_steps(driven)
        finally:
            # Also if the client has left, or the server stops: the worker goes on at once.
            await self._postpone(driven)
        return driven

    async def _take_steps(self, driven: dict[uuid.UUID, OrderResult]) -> None:
        while _ready(driven, domain.ACTIVE):
            for state, step in self._steps.items():
                ready = [(order, len(order.lines)) for order in _ready(driven, {state})]
                for batch in batches.split(ready):
                    advance = partial(self._advance, step)
                    results = await batches.halve(advance, batch, self._fail_step)
                    driven |= zip((order.order_id for order in batch), results, strict=True)

    async def _postpone(self, driven: Mapping[uuid.UUID, OrderResult]) -> None:
        failures: dict[uuid.UUID, str | None] = {}
        for order_id, result in driven.items():
            if isinstance(result, domain.Failed):
                failures[order_id] = result.defect
            elif isinstance(result, domain.Unfinished) or _is_active(result):
                failures[order_id] = None
        if not failures:
            return
        try:
            async with self._database.connection() as connection:
                await queue_repository.postpone(connection, failures)
        except batches.TRANSIENT as error:
            # The orders are due when their leases end.
            self._log.warning("orders_not_postponed", orders=len(failures), reason=error.reason)

    def _fail_acceptance(self, _: NewOrder, __: Exception) -> OrderResult:
        self._log.exception("order_not_accepted")
        message = "An internal error occurred: the order was not accepted."
        return errors.Error("ORDER_NOT_ACCEPTED", message)

    def _fail_step(self, order: Order, error: Exception) -> OrderResult:
        self._log.exception("order_failed", order_id=str(order.order_id), state=order.state)
        return domain.Failed(order, batches.describe_defect(error))

    async def _accept(self, orders: Sequence[NewOrder]) -> list[OrderResult]:
        users = await self._peers.find_users({order.user_id for order in orders})
        first: dict[OrderKey, NewOrder] = {}
        for order in orders:
            first.setdefault(order.key, order)
        acceptable = [order for order in first.values() if order.user_id in users]
        of_missing_users = [order.key for order in first.values() if order.user_id not in users]
        async with self._database.transaction() as connection:
            accepted = await repository.accept_orders(connection, acceptable) if acceptable else {}
            if of_missing_users:
                # The orders of a deleted user remain.
                accepted |= await repository.find_orders(connection, of_missing_users)
        self._event_log.note_change()
        return [_match(accepted.get(order.key), order) for order in orders]

    async def _advance(self, step: Step, batch: Sequence[Order]) -> list[OrderResult]:
        """Take one step; orders that it does not change have to wait, and get an error."""
        try:
            changed = await self._save(await step(batch))
        except batches.TRANSIENT as error:
            return [domain.Unfinished(order, error.reason) for order in batch]
        after = {order.order_id: order for order in changed}
        return [_go_on(after.get(order.order_id)) or domain.wait(order) for order in batch]

    async def _save(self, orders: Sequence[Order]) -> list[Order]:
        """Save orders; return all as they are now, also those that another process changed."""
        if not orders:
            return []
        async with self._database.connection() as connection:
            saved = await repository.save_orders(connection, orders, self._cause)
            lost = {order.order_id for order in orders} - {order.order_id for order in saved}
            if lost:
                saved += await repository.get_orders(connection, list(lost))
        self._event_log.note_change()
        return saved

    async def _reserve(self, orders: Sequence[Order]) -> list[Order]:
        results = await self._peers.reserve_stock(orders)
        changed = []
        for order in orders:
            result = results.get(order.order_id)
            if isinstance(result, Refusal):
                changed.append(domain.reject(order, result))
            elif result is not None:
                changed.append(domain.reserve(order, result))
        return changed

    async def _charge(self, orders: Sequence[Order]) -> list[Order]:
        first = [order for order in orders if domain.needs_pin_to_charge(order)]
        ready, expired = await self._pin(first)
        ready += [order for order in orders if not domain.needs_pin_to_charge(order)]
        payments = await self._peers.charge(ready) if ready else {}
        # An order has no payment as long as its provider does not respond.
        ready = [order for order in ready if order.order_id in payments]
        captured, late = await self._capture(ready, payments)
        payments |= captured
        cancelled = {order.order_id for order in late}
        charged, others = _split_charged(
            [order for order in ready if order.order_id not in cancelled], payments
        )
        settled = [
            after
            for order in others
            if (after := domain.settle(order, payments[order.order_id])) is not order
        ]
        return expired + late + settled + await self._confirm(charged, payments)

    async def _capture(
        self, orders: Sequence[Order], payments: Mapping[uuid.UUID, Payment]
    ) -> tuple[dict[uuid.UUID, Payment], list[Order]]:
        """Charge approved payments, once the stock is pinned; return also what had expired."""
        approved = [
            order
            for order in orders
            if payments[order.order_id].state is PaymentState.REQUIRES_CAPTURE
        ]
        pinned, expired = await self._pin(approved)
        return await self._peers.capture_payments(pinned) if pinned else {}, expired

    async def _pin(self, orders: Sequence[Order]) -> tuple[list[Order], list[Order]]:
        """Pin stock; return the orders for which it is, and those for which it has expired."""
        if not orders:
            return [], []
        results = await self._peers.pin_stock(orders)
        found = [order for order in orders if order.order_id in results]
        return (
            [order for order in found if results[order.order_id]],
            [domain.expire(order) for order in found if not results[order.order_id]],
        )

    async def _compensate(self, orders: Sequence[Order]) -> list[Order]:
        # The payment first: stock must not be released as long as it may still be paid for.
        payments = await self._peers.cancel_payments(orders)
        charged, others = _split_charged(orders, payments)
        unpaid = [
            order for order in others if payments[order.order_id].state is not PaymentState.UNKNOWN
        ]
        released = await self._peers.release_stock(unpaid) if unpaid else set()
        cancelled = [
            domain.transition(order, State.CANCELLED)
            for order in unpaid
            if order.order_id in released
        ]
        return cancelled + await self._confirm(charged, payments)

    async def _confirm(
        self, charged: Sequence[Order], payments: Mapping[uuid.UUID, Payment]
    ) -> list[Order]:
        committed = await self._peers.commit_stock(charged) if charged else set()
        return [
            domain.settle(order, payments[order.order_id])
            for order in charged
            if order.order_id in committed
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


def _go_on(order: Order | None) -> OrderResult | None:
    """Return an order that was changed, or the error of one that now waits for its customer."""
    return order if order is None or order.action is None else domain.wait(order)


def _ready(driven: Mapping[uuid.UUID, OrderResult], states: Collection[State]) -> list[Order]:
    return [
        order for order in driven.values() if isinstance(order, Order) and order.state in states
    ]


def _is_active(result: OrderResult) -> bool:
    return isinstance(result, Order) and result.state in domain.ACTIVE


def _match(accepted: Order | None, order: NewOrder) -> OrderResult:
    if accepted is None:
        return errors.not_found("user", order.user_id)
    if not placement.is_same_request(accepted, order):
        return placement.key_reused(accepted)
    return accepted


def _to_result(driven: OrderResult) -> OrderResult:
    return (domain.find_error(driven) or driven) if isinstance(driven, Order) else driven
