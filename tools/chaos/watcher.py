"""A client that follows the feed of all orders through every fault."""

import asyncio
from collections.abc import Mapping

import grpc

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from tools.chaos.accounts import Accounts
from tools.chaos.record import Finding

_PAUSE_SECONDS = 0.2
_CATCH_UP_SECONDS = 10.0


class Watcher:
    """Watches all orders as the admin, and resumes where it was interrupted."""

    def __init__(self, channel: grpc.aio.Channel, accounts: Accounts) -> None:
        self.interruptions = 0
        self.out_of_order = Finding()
        """Events that came before an earlier one of the same order."""
        self._orders = order_pb2_grpc.OrderServiceStub(channel)
        self._accounts = accounts
        self._versions: dict[str, int] = {}
        self._resume_token = ""

    async def run(self) -> None:
        """Watch without end."""
        while True:
            try:
                await self._watch()
            except grpc.aio.AioRpcError:
                self.interruptions += 1
                await asyncio.sleep(_PAUSE_SECONDS)

    async def find_missed(self, versions: Mapping[str, int]) -> Finding:
        """Compare what was seen with the versions of all orders, by their ids.

        Waits for events that may be on their way; call it while `run` goes on.
        """
        found = self._compare(versions)
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                while found.violations:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    found = self._compare(versions)
        except TimeoutError:
            return found
        return found

    async def _watch(self) -> None:
        request = order_pb2.WatchOrdersRequest(resume_token=self._resume_token)
        metadata = await self._accounts.authorize()
        async for response in self._orders.WatchOrders(request, metadata=metadata):
            self._note(response.event)
            self._resume_token = response.resume_token

    def _note(self, event: order_pb2.OrderEvent) -> None:
        last = self._versions.get(event.order_id, 0)
        self.out_of_order.note(
            event.version > last + 1,
            f"order {event.order_id}: version {event.version} after {last}",
        )
        self._versions[event.order_id] = max(last, event.version)

    def _compare(self, versions: Mapping[str, int]) -> Finding:
        found = Finding()
        for order_id, version in versions.items():
            seen = self._versions.get(order_id, 0)
            found.note(seen != version, f"order {order_id}: saw {seen} of {version} events")
        return found
