"""What the shop has: what a run puts into it first, and what it lists at the end."""

from collections.abc import Mapping

import grpc

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from bazaar.product.v1 import product_pb2, product_pb2_grpc
from bazaar.user.v1 import user_pb2, user_pb2_grpc
from tools.chaos.accounts import Accounts
from tools.chaos.orders import Catalogue

USERS, PLENTIFUL_PRODUCTS, SCARCE_PRODUCTS = 8, 200, 100
PLENTIFUL_UNITS = 1_000_000
CALL_SECONDS = 60.0
_MAX_PAGE_SIZE = 2**31 - 1


class Contents:
    """Calls the services as the admin, while there are no faults."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], accounts: Accounts) -> None:
        self._users = user_pb2_grpc.UserServiceStub(channels["user"])
        self._products = product_pb2_grpc.ProductServiceStub(channels["product"])
        self._orders = order_pb2_grpc.OrderServiceStub(channels["order"])
        self._accounts = accounts

    async def fill(self, scarce_units: int) -> Catalogue:
        """Register the customers, and add the products."""
        catalogue = Catalogue(await self._register(), [], [], {})
        for number in range(PLENTIFUL_PRODUCTS + SCARCE_PRODUCTS):
            is_plentiful = number < PLENTIFUL_PRODUCTS
            product = product_pb2.Product(sku=f"SKU-{number}", name="Paper lantern")
            product.price.units, product.price.currency_code = 1 + number % 20, "GBP"
            product.stock.available = PLENTIFUL_UNITS if is_plentiful else scarce_units
            added = await self._products.AddProduct(
                product_pb2.AddProductRequest(product=product),
                timeout=CALL_SECONDS,
                metadata=await self._accounts.authorize(),
            )
            (catalogue.plentiful if is_plentiful else catalogue.scarce).append(added.product_id)
            catalogue.stocked[added.product_id] = product.stock.available
        return catalogue

    async def list_orders(self, catalogue: Catalogue) -> list[order_pb2.Order]:
        """Return all orders of all customers."""
        found: list[order_pb2.Order] = []
        for user_id in catalogue.user_ids:
            request = order_pb2.ListOrdersRequest(user_id=user_id, page_size=_MAX_PAGE_SIZE)
            metadata = await self._accounts.authorize()
            pages = self._orders.ListOrders(request, timeout=CALL_SECONDS, metadata=metadata)
            async for response in pages:
                found += response.orders
        return found

    async def list_products(self) -> list[product_pb2.Product]:
        """Return the whole catalogue, as anybody may."""
        request = product_pb2.ListProductsRequest(page_size=_MAX_PAGE_SIZE)
        pages = self._products.ListProducts(request, timeout=CALL_SECONDS)
        return [product async for response in pages for product in response.products]

    async def _register(self) -> list[str]:
        """Register the customers; return their ids, by which they can log in."""
        emails = {f"ada-{number}@example.com" for number in range(USERS)}
        for email in emails:
            await self._accounts.register(email)
        listed = await self._users.ListUsers(
            user_pb2.ListUsersRequest(),
            timeout=CALL_SECONDS,
            metadata=await self._accounts.authorize(),
        )
        customers = [user for user in listed.users if user.email in emails]
        for user in customers:
            self._accounts.add(user.user_id, user.email)
        return [user.user_id for user in customers]
