"""The controls that only the fake of PayPal has; see `tools.fakes.controls` for the others.

POST   /_fake/clock      {"advance_seconds"}: let time pass
GET    /_fake/tokens     how many access tokens were issued
DELETE /_fake/tokens     every access token expires
GET    /_fake/books      ?after=ID&limit=N: what was captured and refunded, by order id
"""

import itertools
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import falcon
import falcon.asgi

from tools.fakes.paypal.books import Books
from tools.fakes.paypal.clock import Clock
from tools.fakes.paypal.resources import Order
from tools.fakes.paypal.tokens import Tokens

MAX_PAGE = 10_000


class ClockResource:
    """The clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Let time pass."""
        media = await req.get_media()
        self._clock.advance(float(media["advance_seconds"]))
        resp.status = falcon.HTTP_204


class TokensResource:
    """The access tokens."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def on_get(self, _: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Return how many were issued."""
        resp.media = {"issued": self._tokens.issued}

    async def on_delete(self, _: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Let every token expire."""
        self._tokens.expire_all()
        resp.status = falcon.HTTP_204


class BooksResource:
    """What was held, captured and refunded."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Return orders after one, at most `limit`, ordered by id."""
        after = req.get_param("after", default="")
        limit = req.get_param_as_int("limit", min_value=1, max_value=MAX_PAGE, default=MAX_PAGE)
        # The ids of orders ascend, and so do the keys of the dictionary.
        later = itertools.dropwhile(lambda order: order.id <= after, self._books.orders.values())
        resp.media = [_summarize(order) for order in itertools.islice(later, limit)]


def _summarize(order: Order) -> dict[str, Any]:
    taken = [capture for capture in order.captures if capture.status != "DECLINED"]
    held = [each for each in order.authorizations if each.status == "CREATED"]
    return {
        "id": order.id,
        "custom_id": order.custom_id,
        "status": order.status,
        "currency_code": order.amount.currency_code,
        "held": str(_sum(each.amount.value for each in held)),
        "captured": str(_sum(capture.amount.value for capture in taken)),
        "captures": [str(capture.amount.value) for capture in taken],
        "refunded": str(_sum(refund.amount.value for refund in order.refunds)),
        "refunds": [
            {"invoice_id": refund.invoice_id, "value": str(refund.amount.value)}
            for refund in order.refunds
        ],
    }


def _sum(values: Iterable[Decimal]) -> Decimal:
    return sum(values, Decimal())
