"""How clients send orders: by gRPC, one or a chunk at a time, and by REST.

Each way of sending takes an order, or some, and returns what was acknowledged; nothing is repeated
here. A response that leaves the outcome open acknowledges nothing.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import aiohttp
import grpc
from google.protobuf import json_format
from google.rpc import code_pb2

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis import status
from tools.chaos.accounts import Accounts
from tools.chaos.record import Acknowledgement, Record, acknowledge

Request = order_pb2.CreateOrderRequest

STREAM_SECONDS = 10.0

_DEFINITE = frozenset({"FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND"})
"""The codes that end an order; with any other one, the shop will still finish it."""


class Clients:
    """Clients of the order service and of the gateways."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        http: aiohttp.ClientSession,
        accounts: Accounts,
        gateway_urls: Sequence[str],
        record: Record,
        random: Random,
    ) -> None:
        self._orders = order_pb2_grpc.OrderServiceStub(channel)
        self._http = http
        self._accounts = accounts
        self._gateway_urls = gateway_urls
        self._record = record
        self._random = random

    async def send(self, request: Request, timeout_seconds: float) -> Acknowledgement | None:
        """Send an order by gRPC, as its customer."""
        metadata = await self._accounts.authorize(request.user_id)
        try:
            order = await self._orders.CreateOrder(
                request, timeout=timeout_seconds, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            return self._note_error("gRPC", request, error)
        return self._note("gRPC", request, acknowledge(order))

    async def send_by_rest(
        self, request: Request, timeout_seconds: float
    ) -> Acknowledgement | None:
        """Send an order to one of the gateways, as its customer."""
        url = f"{self._random.choice(self._gateway_urls)}/v1/orders"
        body = json_format.MessageToDict(request)
        headers = dict(await self._accounts.authorize(request.user_id))
        headers["Idempotency-Key"] = body.pop("idempotencyKey")
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            async with self._http.post(
                url, json=body, headers=headers, timeout=timeout
            ) as response:
                message = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._record.responses[f"REST {type(error).__name__}"] += 1
            return None
        if response.ok:
            order = json_format.ParseDict(message, order_pb2.Order(), ignore_unknown_fields=True)
            return self._note("REST", request, acknowledge(order))
        metadata = message.get("metadata", {})
        reason = message.get("reason", "")
        return self._note_refusal("REST", request, message.get("code", ""), reason, metadata)

    async def send_chunk(self, requests: Sequence[Request]) -> dict[str, Acknowledgement | None]:
        """Send a chunk for several customers through a stream of its own, as the admin.

        Return acknowledgements by idempotency key.
        """
        chunk = order_pb2.CreateOrdersRequest(seq=1, orders=requests)
        metadata = await self._accounts.authorize()
        stream = self._orders.CreateOrders(iter([chunk]), timeout=STREAM_SECONDS, metadata=metadata)
        found: dict[str, Acknowledgement | None] = {}
        by_key = {request.idempotency_key: request for request in requests}
        try:
            async for response in stream:
                for result in response.results:
                    request = by_key[result.idempotency_key]
                    found[result.idempotency_key] = self._note_result(request, result)
        except grpc.aio.AioRpcError as error:
            code, reason = error.code().name, status.error_info(status.from_rpc_error(error)).reason
            self._note_login("stream", code, reason)
            self._record.responses[f"stream {reason or code}"] += 1
        return found

    async def send_webhook(self, provider: str, body: bytes, timeout_seconds: float) -> bool:
        """Send a webhook to one of the gateways; return whether it was received."""
        url = f"{self._random.choice(self._gateway_urls)}/v1/payments/webhooks/{provider}"
        headers = {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            async with self._http.post(
                url, data=body, headers=headers, timeout=timeout
            ) as response:
                self._record.responses[f"webhook {response.status}"] += 1
                return response.ok
        except (aiohttp.ClientError, TimeoutError) as error:
            self._record.responses[f"webhook {type(error).__name__}"] += 1
            return False

    async def cancel(self, order: order_pb2.Order) -> None:
        """Cancel an order by gRPC, as its customer."""
        metadata = await self._accounts.authorize(order.user_id)
        request = order_pb2.CancelOrderRequest(order_id=order.order_id)
        key = Request(idempotency_key=order.idempotency_key)
        try:
            cancelled = await self._orders.CancelOrder(
                request, timeout=STREAM_SECONDS, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            self._note_error("cancel", key, error)
        else:
            self._note("cancel", key, acknowledge(cancelled))

    async def list_newest(self, user_id: str, count: int) -> list[order_pb2.Order]:
        """Return the newest orders of a user, or none if the shop is down."""
        request = order_pb2.ListOrdersRequest(page_size=count)
        metadata = await self._accounts.authorize(user_id)
        pages = self._orders.ListOrders(request, timeout=STREAM_SECONDS, metadata=metadata)
        try:
            return [order async for response in pages for order in response.orders]
        except grpc.aio.AioRpcError:
            return []

    def _note_login(self, way: str, code: str, reason: str) -> None:
        """Note a refusal; a duplicate of a refresh may have ended the session, and nothing else."""
        violated = code == "UNAUTHENTICATED" and reason != "TOKEN_REVOKED"
        self._record.unauthenticated.note(violated, f"{way} {reason}")

    def _note(self, way: str, request: Request, found: Acknowledgement) -> Acknowledgement:
        state = order_pb2.OrderState.Name(found.state).removeprefix("ORDER_STATE_")
        self._record.responses[f"{way} {found.reason or state}"] += 1
        self._record.note(request.idempotency_key, found)
        return found

    def _note_result(
        self, request: Request, result: order_pb2.CreateOrdersResponse.Result
    ) -> Acknowledgement | None:
        if result.HasField("order"):
            return self._note("stream", request, acknowledge(result.order))
        info = status.error_info(result.error)
        code = code_pb2.Code.Name(result.error.code)
        return self._note_refusal("stream", request, code, info.reason, info.metadata)

    def _note_error(
        self, way: str, request: Request, error: grpc.aio.AioRpcError
    ) -> Acknowledgement | None:
        info = status.error_info(status.from_rpc_error(error))
        return self._note_refusal(way, request, error.code().name, info.reason, info.metadata)

    def _note_refusal(
        self, way: str, request: Request, code: str, reason: str, metadata: Mapping[str, Any]
    ) -> Acknowledgement | None:
        self._note_login(way, code, reason)
        order_id = metadata.get("order_id", "")
        if not order_id:
            self._record.responses[f"{way} {reason or code}"] += 1
            return None
        final_reason = reason if code in _DEFINITE else ""
        return self._note(way, request, Acknowledgement(order_id, reason=final_reason))
