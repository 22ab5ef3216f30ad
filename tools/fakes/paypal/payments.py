"""The calls of Payments v2: https://developer.paypal.com/docs/api/payments/v2/.

Show, capture and void authorizations; show and refund captures; show refunds.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import falcon
import falcon.asgi

from tools.fakes.paypal.books import Books
from tools.fakes.paypal.calls import make_once, read_object
from tools.fakes.paypal.errors import not_found
from tools.fakes.paypal.idempotency_keys import PAYMENTS_LIFETIME, IdempotencyKeys, Show
from tools.fakes.paypal.money import Money, parse_money
from tools.fakes.paypal.orders import read_id
from tools.fakes.paypal.representations import show_authorization, show_capture, show_refund

Resource = TypeVar("Resource")


class Authorizations:
    """/v2/payments/authorizations/{authorization_id} and what is below it."""

    def __init__(self, books: Books, keys: IdempotencyKeys) -> None:
        self._books = books
        self._keys = keys

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, authorization_id: str
    ) -> None:
        """Show an authorization."""
        found = _find(self._books.authorizations, authorization_id)
        resp.media = show_authorization(found, req.prefix)

    async def on_post_capture(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, authorization_id: str
    ) -> None:
        """Take money that is held."""
        media = await read_object(req)
        authorization = _find(self._books.authorizations, authorization_id)

        def make() -> Show:
            capture = self._books.capture(
                authorization,
                _read_amount(media),
                read_id(media, "invoice_id"),
                final=media.get("final_capture", False) is True,
            )
            return partial(show_capture, capture, req.prefix)

        make_once(req, resp, self._keys, PAYMENTS_LIFETIME, make)

    async def on_post_void(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, authorization_id: str
    ) -> None:
        """Release money that is held: 204, or 200 with the authorization if that is preferred."""
        authorization = _find(self._books.authorizations, authorization_id)

        def make() -> Show:
            self._books.void(authorization)
            return partial(show_authorization, authorization, req.prefix)

        make_once(req, resp, self._keys, PAYMENTS_LIFETIME, make)
        if req.get_header("Prefer") == "return=representation":
            resp.status = falcon.HTTP_200
        else:
            resp.status, resp.media = falcon.HTTP_204, None


class Captures:
    """/v2/payments/captures/{capture_id} and what is below it."""

    def __init__(self, books: Books, keys: IdempotencyKeys) -> None:
        self._books = books
        self._keys = keys

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, capture_id: str
    ) -> None:
        """Show a capture."""
        resp.media = show_capture(_find(self._books.captures, capture_id), req.prefix)

    async def on_post_refund(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, capture_id: str
    ) -> None:
        """Give money back."""
        media = await read_object(req)
        capture = _find(self._books.captures, capture_id)

        def make() -> Show:
            refund = self._books.refund(capture, _read_amount(media), read_id(media, "invoice_id"))
            return partial(show_refund, refund, req.prefix)

        make_once(req, resp, self._keys, PAYMENTS_LIFETIME, make)


class Refunds:
    """/v2/payments/refunds/{refund_id}."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, refund_id: str
    ) -> None:
        """Show a refund."""
        resp.media = show_refund(_find(self._books.refunds, refund_id), req.prefix)


def _find(resources: Mapping[str, Resource], resource_id: str) -> Resource:
    if resource_id not in resources:
        raise not_found()
    return resources[resource_id]


def _read_amount(media: Mapping[str, Any]) -> Money | None:
    return parse_money(media["amount"]) if "amount" in media else None
