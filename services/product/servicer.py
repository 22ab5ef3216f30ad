"""ProductService, one method per RPC: rules are in `domain`, SQL in the repositories."""

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import final

from google.protobuf import empty_pb2

from bazaar.product.v1 import product_pb2, product_pb2_grpc
from chassis import audit, conversion, idempotency, ids, paging, rules
from chassis.codec import Context
from chassis.database import Connection, Database
from services.product import (
    domain,
    listing,
    messages,
    repository,
    reservation,
    reservation_steps,
    returns,
    stock_repository,
)


@final
class ProductServicer(product_pb2_grpc.ProductServiceServicer):
    """Serves products and their stock from one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def AddProduct(
        self, request: product_pb2.AddProductRequest, context: Context
    ) -> product_pb2.Product:
        rules.check(request.product)
        details = domain.check_details(messages.parse_details(request.product))
        repeatable = idempotency.identify(context, request)
        new = repository.NewProduct(details, request.product.stock.available, repeatable)
        async with self._database.transaction() as connection:
            inserted = await repository.insert_products(connection, [new])
            if not inserted:
                earlier = await repository.get_added_product(connection, repeatable)
                return messages.to_message(earlier)
            (product,) = inserted
            added = messages.to_message(product)
            await audit.record(connection, [_change(product.product_id, None, added)])
        return added

    async def GetProduct(
        self, request: product_pb2.GetProductRequest, context: Context
    ) -> product_pb2.Product:
        product_id = uuid.UUID(request.product_id)
        return messages.to_message(await self._database.read(repository.get_product, product_id))

    async def UpdateProduct(
        self, request: product_pb2.UpdateProductRequest, context: Context
    ) -> product_pb2.Product:
        """Lock the details, and write the new ones only if they differ."""
        product_id = uuid.UUID(request.product_id)
        fields = conversion.parse_update_mask(
            request.update_mask, request.product, domain.UPDATABLE
        )
        async with self._database.transaction() as connection:
            product = await repository.get_product(connection, product_id, lock=True)
            domain.check_etag(product, request.product.etag)
            before = messages.to_message(product)
            updated = conversion.update(messages.to_message(product), request.product, fields)
            rules.check(updated)
            details = domain.check_details(messages.parse_details(updated))
            is_changed = domain.is_changed(product.details, details)
            if is_changed:
                await repository.update_details(connection, product_id, details)
            # Read again, so that the stock is as of the same moment as the details.
            after = messages.to_message(await repository.get_product(connection, product_id))
            if is_changed:
                await audit.record(connection, [_change(product_id, before, after)])
        return after

    async def DeleteProduct(
        self, request: product_pb2.DeleteProductRequest, context: Context
    ) -> empty_pb2.Empty:
        """Lock the stock, so that no order reserves any meanwhile."""
        product_id = uuid.UUID(request.product_id)
        async with self._database.transaction() as connection:
            stock = await stock_repository.lock_stock(connection, product_id)
            domain.check_deletable(product_id, stock)
            deleted = messages.to_message(await repository.get_product(connection, product_id))
            await repository.delete_product(connection, product_id)
            await audit.record(connection, [_change(product_id, deleted, None)])
        return empty_pb2.Empty()

    async def ListProducts(
        self, request: product_pb2.ListProductsRequest, context: Context
    ) -> AsyncIterator[product_pb2.ListProductsResponse]:
        """Read message after message: no connection is held while the client reads."""
        query = (request.filter, request.search, request.order_by)
        parsed = listing.parse_listing(*query)
        progress = paging.Progress(query, request.page_token, request.page_size)
        while not progress.is_done:
            # Not kept in a variable: the client may take long to read the response.
            yield await self._read_products(parsed, progress)

    async def BatchGetProducts(
        self, request: product_pb2.BatchGetProductsRequest, context: Context
    ) -> product_pb2.BatchGetProductsResponse:
        product_ids = ids.parse_ids(request.product_ids, "product_ids")
        async with self._database.connection() as connection:
            found = await repository.get_products(connection, product_ids)
        response = product_pb2.BatchGetProductsResponse()
        paging.fill_batch(response, response.products.add, found, messages.fill_message)
        return response

    async def AdjustStock(
        self, request: product_pb2.AdjustStockRequest, context: Context
    ) -> product_pb2.Product:
        key = idempotency.read_key(context, request.idempotency_key)
        adjustment = domain.check_adjustment(messages.parse_adjustment(request, key))
        product_id = adjustment.product_id
        async with self._database.transaction() as connection:
            stock = await stock_repository.lock_stock(connection, product_id)
            before = messages.to_message(await repository.get_product(connection, product_id))
            is_new = await _adjust(connection, stock, adjustment)
            after = messages.to_message(await repository.get_product(connection, product_id))
            if is_new:
                await audit.record(connection, [_change(product_id, before, after)])
        return after

    async def ReserveStock(
        self, request: product_pb2.ReserveStockRequest, context: Context
    ) -> product_pb2.ReserveStockResponse:
        requests = messages.parse_requests(request)
        reservation.check_requests(requests)
        async with self._database.transaction() as connection:
            results = await reservation_steps.reserve(connection, requests, pinned=request.pin)
        return product_pb2.ReserveStockResponse(
            results=[messages.to_result(result) for result in results]
        )

    async def PinStock(
        self, request: product_pb2.PinStockRequest, context: Context
    ) -> product_pb2.PinStockResponse:
        results = await self._run_step(reservation_steps.pin, request.order_ids)
        return product_pb2.PinStockResponse(results=results)

    async def CommitStock(
        self, request: product_pb2.CommitStockRequest, context: Context
    ) -> product_pb2.CommitStockResponse:
        results = await self._run_step(reservation_steps.commit, request.order_ids)
        return product_pb2.CommitStockResponse(results=results)

    async def ReleaseStock(
        self, request: product_pb2.ReleaseStockRequest, context: Context
    ) -> product_pb2.ReleaseStockResponse:
        results = await self._run_step(reservation_steps.release, request.order_ids)
        return product_pb2.ReleaseStockResponse(results=results)

    async def ReturnStock(
        self, request: product_pb2.ReturnStockRequest, context: Context
    ) -> product_pb2.ReturnStockResponse:
        requests = messages.parse_returns(request)
        returns.check_returns(requests)
        async with self._database.transaction() as connection:
            refused = await reservation_steps.return_units(connection, requests)
        return product_pb2.ReturnStockResponse(
            results=[messages.to_return_result(each, refused.get(each.key)) for each in requests]
        )

    async def ListAuditEvents(
        self, request: product_pb2.ListAuditEventsRequest, context: Context
    ) -> AsyncIterator[product_pb2.ListAuditEventsResponse]:
        """Read message after message, as ListProducts does."""
        query = audit.Query(request.user_id, request.resource)
        progress = paging.Progress(query, request.page_token, request.page_size)
        while not progress.is_done:
            yield await audit.read_page(
                self._database, query, progress, product_pb2.ListAuditEventsResponse()
            )

    async def _read_products(
        self, parsed: listing.Listing, progress: paging.Progress
    ) -> product_pb2.ListProductsResponse:
        after = progress.position
        key = None if after is None else listing.parse_key(after, parsed.column)
        limit = progress.limit + 1
        found = await self._database.read(repository.list_products, parsed, key, limit)
        response = product_pb2.ListProductsResponse()
        page = found[: progress.limit]
        count = paging.fill(response.products.add, page, messages.fill_message)
        progress.advance(found, count, parsed.position_of)
        response.next_page_token = progress.next_page_token
        return response

    async def _run_step(
        self, step: reservation_steps.Step, order_ids: Sequence[str]
    ) -> list[product_pb2.ReservationResult]:
        parsed = ids.parse_ids(order_ids, "order_ids")
        reservation.check_distinct(parsed)
        async with self._database.transaction() as connection:
            results = await step(connection, parsed)
        return [messages.to_result(result) for result in results]


async def _adjust(
    connection: Connection, stock: domain.Stock, adjustment: domain.Adjustment
) -> bool:
    """Adjust stock, which is locked; return False for an adjustment that is repeated."""
    recorded = None
    if adjustment.idempotency_key:
        recorded = await stock_repository.find_adjustment(connection, adjustment)
    if recorded is not None:
        domain.check_repeated(adjustment, recorded)
        return False
    adjusted = domain.adjust_stock(stock, adjustment)
    await stock_repository.record_adjustment(connection, adjustment, adjusted)
    return True


def _change(
    product_id: uuid.UUID, before: product_pb2.Product | None, after: product_pb2.Product | None
) -> audit.Change:
    return audit.Change(f"products/{product_id}", before, after)
