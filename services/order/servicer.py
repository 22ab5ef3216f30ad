"""OrderService, one method per RPC: rules are in `domain`, SQL in `repository`.

How orders are driven is in `checkout`, how refunds are in `refunds`, and how the chunks of a stream
are received in `chunks`.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import final

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis import audit, call_context, errors, idempotency, paging, rules
from chassis.codec import Context
from chassis.database import Database
from services.order import (
    batches,
    call_metadata,
    chunks,
    domain,
    event_repository,
    messages,
    placement,
    queue_repository,
    refund,
    refund_repository,
    repository,
)
from services.order.checkout import Checkout
from services.order.domain import NewOrder
from services.order.event import Cause, Position
from services.order.event_log import EventLog
from services.order.order_errors import OrderFailed, OrderUnfinished
from services.order.refund import RefundState
from services.order.refunds import Refunds

DRIVE_SECONDS = 5.0
"""How long an order or a refund is driven before it is returned as it is."""
MAX_REFUNDS = 100
"""The most refunds of a message, each of which may restock 1,000 products."""


@final
class OrderServicer(order_pb2_grpc.OrderServiceServicer):
    """Serves orders from one database. Streams end soon after `draining` is set.

    `captured_manually` are prefixes of the payment methods that are approved first, and charged
    when the stock is pinned.
    """

    def __init__(
        self,
        database: Database,
        checkout: Checkout,
        refunds: Refunds,
        event_log: EventLog,
        draining: asyncio.Event,
        captured_manually: tuple[str, ...] = (),
    ) -> None:
        self._captured_manually = captured_manually
        self._database = database
        self._checkout = checkout
        self._refunds = refunds
        self._event_log = event_log
        self._draining = draining

    async def CreateOrder(
        self, request: order_pb2.CreateOrderRequest, context: Context
    ) -> order_pb2.Order:
        order = self._parse(request, _find_key(request, context))
        (result,) = await self._checkout.place([order], DRIVE_SECONDS)
        if isinstance(result, OrderUnfinished | OrderFailed):
            call_metadata.send_retry_after(context)
            return messages.to_message(result.order)
        if isinstance(result, errors.Error):
            raise result
        return messages.to_message(result)

    async def CreateOrders(
        self, requests: AsyncIterator[order_pb2.CreateOrdersRequest], context: Context
    ) -> AsyncIterator[order_pb2.CreateOrdersResponse]:
        """Place chunk after chunk: the orders of a response are committed."""
        received = chunks.receive(requests, self._draining)
        async with contextlib.aclosing(received):
            async for chunk in received:
                results = await self._place(chunk.orders)
                yield order_pb2.CreateOrdersResponse(seq=chunk.seq, results=results)

    async def GetOrder(
        self, request: order_pb2.GetOrderRequest, context: Context
    ) -> order_pb2.Order:
        order_id = uuid.UUID(request.order_id)
        found = await self._database.read(repository.get_order, order_id, _owner())
        return messages.to_message(found)

    async def ListOrders(
        self, request: order_pb2.ListOrdersRequest, context: Context
    ) -> AsyncIterator[order_pb2.ListOrdersResponse]:
        """Read message after message: no connection is held while the client reads."""
        user_id = call_context.get_caller().act_for(request.user_id)
        progress = paging.Progress(("orders", str(user_id)), request.page_token, request.page_size)
        while not progress.is_done:
            # Not kept in a variable: the client may take long to read the response.
            yield await self._read_orders(user_id, progress)

    async def CancelOrder(
        self, request: order_pb2.CancelOrderRequest, context: Context
    ) -> order_pb2.Order:
        order_id = uuid.UUID(request.order_id)
        return messages.to_message(await self._checkout.cancel(order_id, _owner()))

    async def UpdateOrderStatus(
        self, request: order_pb2.UpdateOrderStatusRequest, context: Context
    ) -> order_pb2.Order:
        order_id = uuid.UUID(request.order_id)
        state = messages.parse_next_state(request.state)
        async with self._database.transaction() as connection:
            order = await repository.get_order(connection, order_id, lock=True)
            changed = domain.update_status(order, state)
            if changed is not order:
                (saved,) = await repository.save_orders(connection, [changed], Cause.CLIENT)
                await audit.record(connection, [messages.to_change(order, saved)])
                order = saved
        self._event_log.note_change()
        return messages.to_message(order)

    async def RefundOrder(
        self, request: order_pb2.RefundOrderRequest, context: Context
    ) -> order_pb2.Refund:
        new = messages.parse_refund(request, _find_key(request, context))
        refund.check_new_refund(new)
        found = await self._refunds.refund(uuid.UUID(request.order_id), new, DRIVE_SECONDS)
        if found.state is RefundState.PENDING:
            call_metadata.send_retry_after(context)
        return messages.to_refund_message(found)

    async def ListRefunds(
        self, request: order_pb2.ListRefundsRequest, context: Context
    ) -> AsyncIterator[order_pb2.ListRefundsResponse]:
        """Read message after message, as ListOrders does."""
        order_id = uuid.UUID(request.order_id)
        query = ("refunds", order_id)
        progress = paging.Progress(query, request.page_token, request.page_size, MAX_REFUNDS)
        while not progress.is_done:
            yield await self._read_refunds(order_id, progress)

    async def WatchOrder(
        self, request: order_pb2.WatchOrderRequest, context: Context
    ) -> AsyncIterator[order_pb2.WatchOrderResponse]:
        """Read event after event: no connection is held while the client reads, or waits."""
        order_id = uuid.UUID(request.order_id)
        tokens = paging.Tokens(("events", order_id))
        (version,) = paging.parse_numbers(tokens.decode(request.resume_token), 1)
        async with self._database.connection() as connection:
            order = await repository.get_order(connection, order_id, _owner())
        if order.state in domain.FINAL and version >= order.version:
            return
        watching = self._event_log.watch_order(order_id, version)
        async with contextlib.aclosing(watching):
            async for events in watching:
                for event in events:
                    yield order_pb2.WatchOrderResponse(
                        event=messages.to_event_message(event),
                        resume_token=tokens.encode([str(event.version)]),
                    )
                if events[-1].state in domain.FINAL:
                    return

    async def ListOrderEvents(
        self, request: order_pb2.ListOrderEventsRequest, context: Context
    ) -> AsyncIterator[order_pb2.ListOrderEventsResponse]:
        """Read message after message, as ListOrders does."""
        order_id = uuid.UUID(request.order_id)
        progress = paging.Progress(("events", order_id), request.page_token, request.page_size)
        while not progress.is_done:
            yield await self._read_events(order_id, progress)

    async def WatchOrders(
        self, request: order_pb2.WatchOrdersRequest, context: Context
    ) -> AsyncIterator[order_pb2.WatchOrdersResponse]:
        """Read event after event, as WatchOrder does."""
        tokens = paging.Tokens("events of all orders")
        after = Position(*paging.parse_numbers(tokens.decode(request.resume_token), 2))
        watching = self._event_log.watch_all(after)
        async with contextlib.aclosing(watching):
            async for events in watching:
                for event in events:
                    position = (str(event.position.transaction), str(event.position.event))
                    yield order_pb2.WatchOrdersResponse(
                        event=messages.to_event_message(event),
                        resume_token=tokens.encode(position),
                    )

    async def ListStuckOrders(
        self, request: order_pb2.ListStuckOrdersRequest, context: Context
    ) -> AsyncIterator[order_pb2.ListStuckOrdersResponse]:
        """Read message after message, as ListOrders does."""
        progress = paging.Progress("stuck orders", request.page_token, request.page_size)
        while not progress.is_done:
            yield await self._read_stuck_orders(progress)

    async def RedriveOrder(
        self, request: order_pb2.RedriveOrderRequest, context: Context
    ) -> order_pb2.Order:
        order_id = uuid.UUID(request.order_id)
        async with self._database.transaction() as connection:
            is_due = await queue_repository.redrive(connection, order_id)
            order = await repository.get_order(connection, order_id)
            if is_due:
                await audit.record(connection, [messages.to_change(order, order)])
        return messages.to_message(order)

    async def ListAuditEvents(
        self, request: order_pb2.ListAuditEventsRequest, context: Context
    ) -> AsyncIterator[order_pb2.ListAuditEventsResponse]:
        """Read message after message, as ListOrders does."""
        query = audit.Query(request.user_id, request.resource)
        progress = paging.Progress(query, request.page_token, request.page_size)
        while not progress.is_done:
            yield await audit.read_page(
                self._database, query, progress, order_pb2.ListAuditEventsResponse()
            )

    async def _read_events(
        self, order_id: uuid.UUID, progress: paging.Progress
    ) -> order_pb2.ListOrderEventsResponse:
        (version,) = paging.parse_numbers(progress.position, 1)
        limit = progress.limit
        await self._database.read(repository.check_order, order_id, _owner())
        query = event_repository.list_of_order
        found = await self._database.read(query, order_id, version, limit + 1)
        page = found[:limit]
        progress.advance(found, len(page), lambda event: [str(event.version)])
        return order_pb2.ListOrderEventsResponse(
            events=[messages.to_event_message(event) for event in page],
            next_page_token=progress.next_page_token,
        )

    async def _read_refunds(
        self, order_id: uuid.UUID, progress: paging.Progress
    ) -> order_pb2.ListRefundsResponse:
        (number,) = paging.parse_numbers(progress.position, 1)
        limit = progress.limit
        await self._database.read(repository.check_order, order_id, _owner())
        query = refund_repository.list_of_order
        found = await self._database.read(query, order_id, number, limit + 1)
        response = order_pb2.ListRefundsResponse()
        count = paging.fill(response.refunds.add, found[:limit], messages.fill_refund_message)
        progress.advance(found, count, lambda each: [str(each.number)])
        response.next_page_token = progress.next_page_token
        return response

    async def _read_stuck_orders(
        self, progress: paging.Progress
    ) -> order_pb2.ListStuckOrdersResponse:
        limit = progress.limit
        found = await self._database.read(queue_repository.list_stuck, progress.last_id, limit + 1)
        page = found[:limit]
        progress.advance(found, len(page), lambda stuck: [str(stuck.order_id)])
        return order_pb2.ListStuckOrdersResponse(
            stuck_orders=[messages.to_stuck_message(stuck) for stuck in page],
            next_page_token=progress.next_page_token,
        )

    async def _read_orders(
        self, user_id: uuid.UUID, progress: paging.Progress
    ) -> order_pb2.ListOrdersResponse:
        """Read ids and sizes first, then as many orders as fit into a message."""
        before = progress.last_id
        limit = progress.limit
        sized = await self._database.read(repository.list_sizes, user_id, before, limit + 1)
        batch = next(batches.split(sized[:limit]), [])
        orders = await self._database.read(repository.get_orders, batch)
        progress.advance(sized, len(batch), lambda item: [str(item[0])])
        return order_pb2.ListOrdersResponse(
            orders=[messages.to_message(order) for order in orders],
            next_page_token=progress.next_page_token,
        )

    async def _place(
        self, requests: Sequence[order_pb2.CreateOrderRequest]
    ) -> list[order_pb2.CreateOrdersResponse.Result]:
        parsed = [self._try_parse(request) for request in requests]
        placed = iter(
            await self._checkout.place([order for order in parsed if isinstance(order, NewOrder)])
        )
        return [
            messages.to_result(
                request.idempotency_key, next(placed) if isinstance(order, NewOrder) else order
            )
            for request, order in zip(requests, parsed, strict=True)
        ]

    def _try_parse(self, request: order_pb2.CreateOrderRequest) -> NewOrder | errors.Error:
        try:
            # First, because a result with a very long key has no room for other violations.
            idempotency.check_key(request.idempotency_key)
            rules.check(request)
            return self._parse(request, request.idempotency_key)
        except errors.Error as error:
            return error

    def _parse(self, request: order_pb2.CreateOrderRequest, idempotency_key: str) -> NewOrder:
        user_id = call_context.get_caller().act_for(request.user_id)
        order = messages.parse_order(request, user_id, idempotency_key, self._captured_manually)
        placement.check_new_order(order)
        return order


def _find_key(
    request: order_pb2.CreateOrderRequest | order_pb2.RefundOrderRequest, context: Context
) -> str:
    """Return the idempotency key of a request, or a new one for a request that has none.

    Raises:
        errors.InvalidArgument: the key is invalid.
    """
    return idempotency.read_key(context, request.idempotency_key) or str(uuid.uuid4())


def _owner() -> uuid.UUID | None:
    """Return whose orders exist for the caller; None for those of everybody."""
    return call_context.get_caller().owner
