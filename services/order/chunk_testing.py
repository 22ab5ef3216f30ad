"""Chunks of orders for the tests of CreateOrders, and what comes back."""

from bazaar.order.v1 import order_pb2
from chassis import status
from services.order.testing import Shop


def new_chunk(seq: int, *orders: order_pb2.CreateOrderRequest) -> order_pb2.CreateOrdersRequest:
    """Return a request of CreateOrders."""
    return order_pb2.CreateOrdersRequest(seq=seq, orders=orders)


async def send(
    shop: Shop, *requests: order_pb2.CreateOrdersRequest
) -> list[order_pb2.CreateOrdersResponse]:
    """Send requests in one stream; return all responses."""
    return [response async for response in shop.orders.CreateOrders(iter(requests))]


def reasons(response: order_pb2.CreateOrdersResponse) -> list[str]:
    """Return the reason of each result, which is empty for an order."""
    return [status.error_info(result.error).reason for result in response.results]
