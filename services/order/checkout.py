"""The order protocol: takes orders and drives each, step by step, until it is final.

Every step asks another service something that may be asked again, and then saves what follows from
the answer if nobody has changed the order meanwhile. So an order can be left at any point and
driven on from there, by anybody, also by two at once. No transaction is open while another service
is asked. Which state follows which is decided in `domain`.
"""

import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from chassis import errors, log
from chassis.database import Database
from services.order import batches, domain, placement, repository
from services.order.domain import Key, NewOrder, Order, PaymentState, Refusal, State
from services.order.peers import Peers

Outcome = Order | errors.Error
"""An order, or why there is none or it is not further."""

Step = Callable[[Sequence[Order]], Awaitable[list[Order]]]
"""Asks another service about orders in one state; returns those that have something to be saved."""


class Checkout:
    """Places, drives and cancels orders."""

    def __init__(self, database: Database, peers: Peers) -> None:
        self._database = database
        self._peers = peers
        self._log = log.logger()
        # In this order most orders are final after one round.
        self._steps: dict[State, Step] = {
            State.PENDING: self._reserve,
            State.RESERVED: self._begin_charge,
            State.PAYING: self._charge,
            State.CANCELLING: self._take_back,
            State.PAID: self._confirm,
        }

    async def place(self, wanted: Sequence[NewOrder]) -> list[Outcome]:
        """Take at most `batches.MAX_ORDERS` orders and drive them; answer one by one.

        An order whose key was used before is driven on from where it stands. The outcome is the
        order where it is confirmed, else the error for the client. An order that makes its batch
        fail gets an error of its own, and the others go on.

        Raises:
            errors.Unavailable: the user service or the database is down; which orders were taken is
                unknown.
        """
        if not wanted:
            return []
        taken = await batches.halve(self._accept, wanted, self._fail_acceptance)
        driven = await self.drive(held for held in taken if isinstance(held, Order))
        return [
            _answer(driven[held.order_id]) if isinstance(held, Order) else held for held in taken
        ]

    async def cancel(self, order_id: uuid.UUID) -> Order:
        """Cancel an order that is not charged yet, and return it cancelled.

        Raises:
            errors.NotFound: there is no such order.
            domain.Conflict: it is too late.
            errors.Unavailable: somebody is down; the same call goes on.
        """
        async with self._database.connection() as connection:
            order = await repository.get_order(connection, order_id)
        while (cancelling := domain.request_cancel(order)) is not order:
            (order,) = await self._save([cancelling])
        driven = (await self.drive([order]))[order_id]
        if isinstance(driven, errors.Error):
            raise driven
        # The charge may have been faster.
        return domain.request_cancel(driven)

    async def drive(self, orders: Iterable[Order]) -> dict[uuid.UUID, Outcome]:
        """Drive orders until each is final or waits for somebody; answer by order id."""
        driven: dict[uuid.UUID, Outcome] = {order.order_id: order for order in orders}
        while _ready(driven, domain.ACTIVE):
            for state, step in self._steps.items():
                ready = [(order, len(order.lines)) for order in _ready(driven, {state})]
                for batch in batches.split(ready):
                    advance = partial(self._advance, step)
                    outcomes = await batches.halve(advance, batch, self._fail_step)
                    driven |= zip((order.order_id for order in batch), outcomes, strict=True)
        return driven

    def _fail_acceptance(self, _: NewOrder) -> Outcome:
        self._log.exception("order_not_accepted")
        message = "Something went wrong: the order was not accepted."
        return errors.Error("ORDER_NOT_ACCEPTED", message)

    def _fail_step(self, order: Order) -> Outcome:
        self._log.exception("order_failed", order_id=str(order.order_id), state=order.state)
        return domain.failed(order)

    async def _accept(self, wanted: Sequence[NewOrder]) -> list[Outcome]:
        users = await self._peers.find_users({order.user_id for order in wanted})
        first: dict[Key, NewOrder] = {}
        for order in wanted:
            first.setdefault(order.key, order)
        welcome = [order for order in first.values() if order.user_id in users]
        strange = [order.key for order in first.values() if order.user_id not in users]
        async with self._database.transaction() as connection:
            held = await repository.accept_orders(connection, welcome) if welcome else {}
            if strange:
                # What a user ordered outlives the user.
                held |= await repository.find_orders(connection, strange)
        return [_match(held.get(order.key), order) for order in wanted]

    async def _advance(self, step: Step, batch: Sequence[Order]) -> list[Outcome]:
        """Take one step with orders; those that it leaves where they are have to wait."""
        try:
            moved = await self._save(await step(batch))
        except batches.TRANSIENT as error:
            return [domain.unfinished(order, error.reason) for order in batch]
        after = {order.order_id: order for order in moved}
        return [
            after.get(order.order_id) or domain.unfinished(order, "ORDER_UNDER_WAY")
            for order in batch
        ]

    async def _save(self, orders: Sequence[Order]) -> list[Order]:
        """Save orders, and return them as they are now, whoever saved them."""
        if not orders:
            return []
        async with self._database.connection() as connection:
            saved = await repository.save_orders(connection, orders)
            lost = {order.order_id for order in orders} - {order.order_id for order in saved}
            if lost:
                saved += await repository.get_orders(connection, list(lost))
        return saved

    async def _reserve(self, orders: Sequence[Order]) -> list[Order]:
        found = await self._peers.reserve_stock(orders)
        moved = []
        for order in orders:
            answer = found.get(order.order_id)
            if isinstance(answer, Refusal):
                moved.append(domain.reject(order, answer))
            elif answer is not None:
                moved.append(domain.reserve(order, answer))
        return moved

    async def _begin_charge(self, orders: Sequence[Order]) -> list[Order]:
        return [domain.move(order, State.PAYING) for order in orders]

    async def _charge(self, orders: Sequence[Order]) -> list[Order]:
        payments = await self._peers.charge(orders)
        settled = [(order, domain.settle(order, payments[order.order_id])) for order in orders]
        return [after for before, after in settled if after is not before]

    async def _confirm(self, orders: Sequence[Order]) -> list[Order]:
        sold = await self._peers.commit_stock(orders)
        return [domain.move(order, State.CONFIRMED) for order in orders if order.order_id in sold]

    async def _take_back(self, orders: Sequence[Order]) -> list[Order]:
        # The payment first: stock must not go back as long as it may still be paid for.
        payments = await self._peers.cancel_payments(orders)
        charged, unpaid = [], []
        for order in orders:
            match payments[order.order_id].state:
                case PaymentState.SUCCEEDED:
                    charged.append(domain.settle(order, payments[order.order_id]))
                case PaymentState.DECLINED | PaymentState.CANCELLED:
                    unpaid.append(order)
        free = await self._peers.release_stock(unpaid) if unpaid else set()
        return charged + [
            domain.move(order, State.CANCELLED) for order in unpaid if order.order_id in free
        ]


def _ready(driven: Mapping[uuid.UUID, Outcome], states: Collection[State]) -> list[Order]:
    return [
        order for order in driven.values() if isinstance(order, Order) and order.state in states
    ]


def _match(held: Order | None, wanted: NewOrder) -> Outcome:
    if held is None:
        message = f"There is no user {wanted.user_id}."
        metadata = {"user_id": str(wanted.user_id)}
        return errors.NotFound("USER_NOT_FOUND", message, metadata=metadata)
    return held if placement.is_same_request(held, wanted) else placement.key_reused(held)


def _answer(driven: Outcome) -> Outcome:
    return (domain.find_error(driven) or driven) if isinstance(driven, Order) else driven
