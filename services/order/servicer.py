"""OrderService on the wire: messages to domain objects and back. No rules, no SQL, no protocol.

How the chunks of a stream follow one another is in `chunks`.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, final

import grpc

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis import conversion, errors, ids, paging, status
from chassis.database import Database
from chassis.money import Amount
from services.order import chunks, domain, placement, repository
from services.order.checkout import Checkout
from services.order.domain import Line, NewOrder, Order, State

Context = grpc.aio.ServicerContext[Any, Any]

_KEY_METADATA = "idempotency-key"
_STATE_PREFIX = "ORDER_STATE_"


@final
class OrderServicer(order_pb2_grpc.OrderServiceServicer):
    """Serves orders out of one database. Streams end soon after `draining` is set."""

    def __init__(
        self,
        database: Database,
        checkout: Checkout,
        draining: asyncio.Event,
        *,
        idle_seconds: float = chunks.IDLE_SECONDS,
    ) -> None:
        self._database = database
        self._checkout = checkout
        self._draining = draining
        self._idle_seconds = idle_seconds

    async def CreateOrder(
        self, request: order_pb2.CreateOrderRequest, context: Context
    ) -> order_pb2.Order:
        """Place a batch of one."""
        order = _parse_order(request, request.idempotency_key or _default_key(context))
        (outcome,) = await self._checkout.place([order])
        if isinstance(outcome, errors.Error):
            raise outcome
        return _to_message(outcome)

    async def CreateOrders(
        self, requests: AsyncIterator[order_pb2.CreateOrdersRequest], context: Context
    ) -> AsyncIterator[order_pb2.CreateOrdersResponse]:
        """Place chunk after chunk; what is answered is committed."""
        received = chunks.receive(requests, self._draining, self._idle_seconds)
        async with contextlib.aclosing(received):
            async for chunk in received:
                results = await self._place(chunk.orders)
                yield order_pb2.CreateOrdersResponse(seq=chunk.seq, results=results)

    async def GetOrder(
        self, request: order_pb2.GetOrderRequest, context: Context
    ) -> order_pb2.Order:
        """Look up one id."""
        order_id = ids.parse_id(request.order_id, "order_id")
        async with self._database.connection() as connection:
            return _to_message(await repository.get_order(connection, order_id))

    async def ListOrders(
        self, request: order_pb2.ListOrdersRequest, context: Context
    ) -> AsyncIterator[order_pb2.ListOrdersResponse]:
        """Read message after message, each with a connection of its own."""
        paging.check_page_size(request.page_size)
        user_id = ids.parse_id(request.user_id, "user_id")
        query = ("orders", str(user_id))
        after = paging.decode_token(request.page_token, query)
        progress = paging.Progress(after, request.page_size)
        while not progress.is_done:
            # Not kept in a variable: the client may take long to read the response.
            yield await self._read_orders(user_id, query, progress)

    async def CancelOrder(
        self, request: order_pb2.CancelOrderRequest, context: Context
    ) -> order_pb2.Order:
        """Begin to take the order back, and drive it to the end."""
        order_id = ids.parse_id(request.order_id, "order_id")
        return _to_message(await self._checkout.cancel(order_id))

    async def UpdateOrderStatus(
        self, request: order_pb2.UpdateOrderStatusRequest, context: Context
    ) -> order_pb2.Order:
        """Lock the order, decide, save."""
        order_id = ids.parse_id(request.order_id, "order_id")
        state = _parse_state(request.state)
        async with self._database.transaction() as connection:
            order = await repository.get_order(connection, order_id, lock=True)
            moved = domain.update_status(order, state)
            if moved is not order:
                (order,) = await repository.save_orders(connection, [moved])
        return _to_message(order)

    async def WatchOrder(
        self, request: order_pb2.WatchOrderRequest, context: Context
    ) -> AsyncIterator[order_pb2.WatchOrderResponse]:
        """Not served yet."""
        raise errors.Unimplemented("NOT_IMPLEMENTED", "WatchOrder is not served yet.")
        yield

    async def _read_orders(
        self, user_id: uuid.UUID, query: tuple[str, ...], progress: paging.Progress
    ) -> order_pb2.ListOrdersResponse:
        """Read ids and sizes first, then as many orders as fit into a message."""
        before = _parse_position(progress.position)
        limit = progress.limit
        async with self._database.connection() as connection:
            sized = await repository.list_sizes(connection, user_id, before, limit + 1)
            batch = next(domain.split_batches(sized[:limit]), [])
            orders = await repository.get_orders(connection, batch)
        progress.advance(sized, len(batch), lambda item: [str(item[0])])
        return order_pb2.ListOrdersResponse(
            orders=[_to_message(order) for order in orders],
            next_page_token=paging.encode_token(query, progress.position),
        )

    async def _place(
        self, requests: Sequence[order_pb2.CreateOrderRequest]
    ) -> list[order_pb2.CreateOrdersResponse.Result]:
        parsed = [_try_parse(request) for request in requests]
        placed = iter(
            await self._checkout.place([order for order in parsed if isinstance(order, NewOrder)])
        )
        outcomes = [next(placed) if isinstance(order, NewOrder) else order for order in parsed]
        return [
            _to_result(request.idempotency_key, outcome)
            for request, outcome in zip(requests, outcomes, strict=True)
        ]


def _default_key(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == _KEY_METADATA:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return str(uuid.uuid4())


def _try_parse(request: order_pb2.CreateOrderRequest) -> NewOrder | errors.Error:
    try:
        return _parse_order(request, request.idempotency_key)
    except errors.Error as error:
        return error


def _parse_order(request: order_pb2.CreateOrderRequest, idempotency_key: str) -> NewOrder:
    order = NewOrder(
        user_id=ids.parse_id(request.user_id, "user_id"),
        idempotency_key=idempotency_key,
        payment_method=request.payment_method,
        lines=tuple(
            Line(ids.parse_id(line.product_id, f"lines[{index}].product_id"), line.quantity)
            for index, line in enumerate(request.lines)
        ),
    )
    placement.check_new_order(order)
    return order


def _parse_state(state: order_pb2.OrderState.ValueType) -> State:
    known = state in order_pb2.OrderState.values() and state != order_pb2.ORDER_STATE_UNSPECIFIED
    violations = errors.Violations()
    violations.check(known, "state", "must be SHIPPED or DELIVERED")
    violations.raise_any()
    return State(order_pb2.OrderState.Name(state).removeprefix(_STATE_PREFIX))


def _parse_position(position: paging.Position | None) -> uuid.UUID | None:
    return None if position is None else ids.parse_id(position[0], "page_token")


def _to_result(
    idempotency_key: str, outcome: Order | errors.Error
) -> order_pb2.CreateOrdersResponse.Result:
    result = order_pb2.CreateOrdersResponse.Result(idempotency_key=idempotency_key)
    if isinstance(outcome, errors.Error):
        result.error.CopyFrom(status.to_status(outcome))
    else:
        result.order.CopyFrom(_to_message(outcome))
    return result


def _to_message(order: Order) -> order_pb2.Order:
    message = order_pb2.Order(
        order_id=str(order.order_id),
        user_id=str(order.user_id),
        idempotency_key=order.idempotency_key,
        state=order_pb2.OrderState.Value(f"{_STATE_PREFIX}{order.state}"),
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
    return message


def _set_prices(message: order_pb2.Order, lines: Sequence[Line], total: Amount) -> None:
    conversion.fill_money(message.total, total)
    for priced, line in zip(message.lines, lines, strict=True):
        if line.unit_price_minor is not None:
            price = Amount(line.unit_price_minor, total.currency_code)
            conversion.fill_money(priced.unit_price, price)
