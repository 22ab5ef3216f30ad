"""The calls of Orders v2: https://developer.paypal.com/docs/api/orders/v2/.

Create, show, authorize and capture, with one purchase unit per order.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import falcon.asgi

from tools.fakes.paypal.books import ORDER_LIFETIME, Books
from tools.fakes.paypal.calls import make_once, read_object
from tools.fakes.paypal.clock import Clock
from tools.fakes.paypal.errors import invalid, unprocessable
from tools.fakes.paypal.idempotency_keys import ORDERS_LIFETIME, IdempotencyKeys, Show
from tools.fakes.paypal.money import parse_money
from tools.fakes.paypal.representations import Json, payer_link, show_order
from tools.fakes.paypal.resources import Order

MAX_ID_LENGTH = 127


class Orders:
    """/v2/checkout/orders and what is below it."""

    def __init__(self, books: Books, keys: IdempotencyKeys, clock: Clock) -> None:
        self._books = books
        self._keys = keys
        self._clock = clock

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Create an order."""
        media = await read_object(req)

        def make() -> Show:
            order = self._books.add_order(self._make_order(media))
            return partial(show_order, order, req.prefix)

        make_once(req, resp, self._keys, ORDERS_LIFETIME, make)

    async def on_get_order(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, order_id: str
    ) -> None:
        """Show an order."""
        resp.media = show_order(self._books.find_order(order_id), req.prefix)

    async def on_post_authorize(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, order_id: str
    ) -> None:
        """Hold the money."""
        await read_object(req)

        def make() -> Show:
            order = self._books.authorize(order_id, payer_link(order_id, req.prefix))
            return partial(show_order, order, req.prefix)

        make_once(req, resp, self._keys, ORDERS_LIFETIME, make)

    async def on_post_capture(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, order_id: str
    ) -> None:
        """Take the money of an order with the intent CAPTURE."""
        await read_object(req)

        def make() -> Show:
            order = self._books.capture_order(order_id, payer_link(order_id, req.prefix))
            return partial(show_order, order, req.prefix)

        make_once(req, resp, self._keys, ORDERS_LIFETIME, make)

    def _make_order(self, media: Mapping[str, Any]) -> Order:
        unit = _find_unit(media)
        context = _find_experience_context(media)
        now = self._clock.now()
        return Order(
            id=self._books.make_id(),
            intent=_read_intent(media),
            amount=parse_money(unit.get("amount")),
            custom_id=read_id(unit, "custom_id"),
            invoice_id=read_id(unit, "invoice_id"),
            return_url=str(context.get("return_url", "")),
            cancel_url=str(context.get("cancel_url", "")),
            status="PAYER_ACTION_REQUIRED" if "payment_source" in media else "CREATED",
            create_time=now,
            expiration_time=now + ORDER_LIFETIME,
        )


def read_id(media: Mapping[str, Any], name: str) -> str:
    """Return an id of the caller's own, which is empty if it is missing."""
    value = media.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_ID_LENGTH:
        raise invalid("INVALID_STRING_LENGTH", f"{name} is too long.")
    return value


def _read_intent(media: Mapping[str, Any]) -> str:
    intent = media.get("intent")
    if intent not in ("AUTHORIZE", "CAPTURE"):
        raise invalid("INVALID_PARAMETER_VALUE", "The intent is AUTHORIZE or CAPTURE.")
    return str(intent)


def _find_unit(media: Mapping[str, Any]) -> Mapping[str, Any]:
    units = media.get("purchase_units")
    if not isinstance(units, list) or not units or not isinstance(units[0], dict):
        raise invalid("MISSING_REQUIRED_PARAMETER", "A purchase unit is required.")
    if len(units) > 1:
        raise unprocessable("MULTIPLE_PURCHASE_UNITS_NOT_SUPPORTED")
    return units[0]


def _find_experience_context(media: Mapping[str, Any]) -> Json:
    """Return where the payer is sent back to: it is of the payment source `paypal`."""
    found: Any = media
    for name in ("payment_source", "paypal", "experience_context"):
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise invalid("INVALID_PARAMETER_SYNTAX", f"{name} is no object.")
    return dict(found)
