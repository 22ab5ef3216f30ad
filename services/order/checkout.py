"""The order protocol: a saga that accepts orders and drives each, step by step, to its end.

Every step makes idempotent calls to other services, and then saves its result unless the order was
changed meanwhile. An order can therefore be left at any point and continued by any process, also
by two at once. No transaction is open during a call. The calls of each step are in `steps`, and the
state transitions in `domain`; the worker, which continues what was left, is in `worker`.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from chassis import audit, errors, log
from chassis.database import Database
from services.order import batches, domain, failure, messages, placement, repository
from services.order.domain import NewOrder, Order, OrderKey, State
from services.order.event import Cause
from services.order.event_log import EventLog
from services.order.failure import Failure
from services.order.order_errors import OrderFailed, OrderUnfinished, find_error, not_finished
from services.order.peers import Peers
from services.order.postponement import postpone
from services.order.steps import StepResult, Steps

OrderResult = Order | errors.Error
"""An order, or the error for its client."""

Step = Callable[[Sequence[Order]], Awaitable[list[StepResult]]]
"""Makes calls for orders in one state; an order without a result has to wait."""


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
        steps = Steps(peers)
        # In this order most orders are final after one round.
        self._steps: dict[State, Step] = {
            State.PENDING: steps.reserve,
            State.PAYING: steps.charge,
            State.CANCELLING: steps.compensate,
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

    async def cancel(self, order_id: uuid.UUID, owner: uuid.UUID | None = None) -> Order:
        """Cancel an order that is not charged yet, and return it cancelled.

        If an `owner` is given, the orders of others do not exist.

        Raises:
            errors.NotFound: the order does not exist.
            domain.Conflict: the order was charged or rejected.
            errors.Unavailable: a service is down; a repeated call continues.
        """
        async with self._database.connection() as connection:
            order = await repository.get_order(connection, order_id, owner)
        while (cancelling := domain.request_cancel(order)) is not order:
            order = await self._begin_to_cancel(order, cancelling)
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
            await postpone(self._database, _find_failures(driven))
        return driven

    async def _take_steps(self, driven: dict[uuid.UUID, OrderResult]) -> None:
        """Update `driven` in place, step by step: what is done counts also if a timeout comes."""
        while _ready(driven, domain.ACTIVE):
            for state, step in self._steps.items():
                ready = [(order, len(order.lines)) for order in _ready(driven, {state})]
                for batch in batches.split(ready):
                    advance = partial(self._advance, step)
                    results = await batches.halve(advance, batch, self._fail_step)
                    driven |= zip((order.order_id for order in batch), results, strict=True)

    def _fail_acceptance(self, _: NewOrder, __: Exception) -> OrderResult:
        self._log.exception("order_not_accepted")
        message = "An internal error occurred: the order was not accepted."
        return errors.Error("ORDER_NOT_ACCEPTED", message)

    def _fail_step(self, order: Order, error: Exception) -> OrderResult:
        self._log.exception("order_failed", order_id=str(order.order_id), state=order.state)
        return OrderFailed(order, failure.from_defect(error))

    async def _accept(self, orders: Sequence[NewOrder]) -> list[OrderResult]:
        users = await self._peers.find_users({order.user_id for order in orders})
        first: dict[OrderKey, NewOrder] = {}
        for order in orders:
            first.setdefault(order.key, order)
        acceptable = [order for order in first.values() if order.user_id in users]
        of_missing_users = [order.key for order in first.values() if order.user_id not in users]
        async with self._database.transaction() as connection:
            accepted, existing = await repository.accept_orders(connection, acceptable)
            await audit.record(
                connection, (messages.to_change(None, order) for order in accepted.values())
            )
            if of_missing_users:
                # The orders of a deleted user remain.
                existing |= await repository.find_orders(connection, of_missing_users)
            accepted |= existing
        self._event_log.note_change()
        return [_match(accepted.get(order.key), order) for order in orders]

    async def _advance(self, step: Step, batch: Sequence[Order]) -> list[OrderResult]:
        """Take one step; orders that it does not change have to wait, and get an error."""
        try:
            results = await step(batch)
            changed = await self._save([each for each in results if isinstance(each, Order)])
        except batches.TRANSIENT as error:
            outage = failure.from_outage(error)
            return [OrderUnfinished(order, error.reason, outage) for order in batch]
        refused = [each for each in results if not isinstance(each, Order)]
        for each in refused:
            self._log.error(
                "order_refused",
                order_id=str(each.order.order_id),
                state=each.order.state,
                failure=each.failure.description,
            )
        after: dict[uuid.UUID, OrderResult] = {each.order.order_id: each for each in refused}
        after |= {order.order_id: _go_on(order) for order in changed}
        return [after.get(order.order_id) or not_finished(order) for order in batch]

    async def _begin_to_cancel(self, order: Order, cancelling: Order) -> Order:
        """Save an order that is to be cancelled; return it as it is now, as `_save` does."""
        async with self._database.transaction() as connection:
            saved = await repository.save_orders(connection, [cancelling], self._cause)
            await audit.record(connection, (messages.to_change(order, each) for each in saved))
            (found,) = saved or await repository.get_orders(connection, [order.order_id])
        self._event_log.note_change()
        return found

    async def _save(self, orders: Sequence[Order]) -> list[Order]:
        """Save orders; return all as they are now, also those that another process changed."""
        if not orders:
            return []
        async with self._database.connection() as connection:
            saved = await repository.save_orders(connection, orders, self._cause)
            if len(saved) < len(orders):
                lost = {order.order_id for order in orders} - {order.order_id for order in saved}
                saved += await repository.get_orders(connection, list(lost))
        self._event_log.note_change()
        return saved


def _go_on(order: Order) -> OrderResult:
    """Return an order that was changed, or the error of one that now waits for its customer."""
    return order if order.action is None else not_finished(order)


def _ready(driven: Mapping[uuid.UUID, OrderResult], states: Collection[State]) -> list[Order]:
    return [
        order for order in driven.values() if isinstance(order, Order) and order.state in states
    ]


def _find_failures(driven: Mapping[uuid.UUID, OrderResult]) -> dict[uuid.UUID, Failure | None]:
    """Return the orders that are not final, with why they could not go on, if that is known."""
    unfinished = dict.fromkeys(order.order_id for order in _ready(driven, domain.ACTIVE))
    return unfinished | {
        order_id: result.failure
        for order_id, result in driven.items()
        if isinstance(result, OrderUnfinished | OrderFailed)
    }


def _match(accepted: Order | None, order: NewOrder) -> OrderResult:
    if accepted is None:
        return errors.not_found("user", order.user_id)
    if not placement.is_same_request(accepted, order):
        return placement.key_reused(accepted)
    return accepted


def _to_result(driven: OrderResult) -> OrderResult:
    return (find_error(driven) or driven) if isinstance(driven, Order) else driven
