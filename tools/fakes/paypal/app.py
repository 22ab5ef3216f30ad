"""A server that keeps the documented rules of PayPal and moves no money.

Each rule is in the module of its resource, with the page of PayPal's documentation. All that the
server knows is in memory and is lost when it stops.
"""

from dataclasses import dataclass

import falcon
import falcon.asgi

from tools.fakes.faults import Faults, FaultsResource
from tools.fakes.network import UnreliableNetwork
from tools.fakes.paypal import control
from tools.fakes.paypal.approval import ApprovalPage
from tools.fakes.paypal.books import Books
from tools.fakes.paypal.clock import Clock
from tools.fakes.paypal.events import Signer, make_event
from tools.fakes.paypal.orders import Orders
from tools.fakes.paypal.payments import Authorizations, Captures, Refunds
from tools.fakes.paypal.refusals import Refusal, invalid, make_error, render
from tools.fakes.paypal.request_ids import RequestIds
from tools.fakes.paypal.resources import Authorization, Capture, Order, Refund
from tools.fakes.paypal.tokens import Tokens
from tools.fakes.webhooks import Webhooks, WebhooksResource

CLIENT_ID = "fake-client-id"
CLIENT_SECRET = "fake-client-secret"  # noqa: S105
WEBHOOK_ID = "0FAKEWEBHOOK00001"
EVENT_BASE = "https://api.paypal.com"
"""The server in the links of events."""

Application = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]

_TOKEN_PATH = "/v1/oauth2/token"  # noqa: S105


@dataclass(frozen=True)
class FakePayPal:
    """The application, and what a test looks at or changes. The other controls are HTTP calls."""

    app: UnreliableNetwork
    faults: Faults
    books: Books
    request_ids: RequestIds


def make_fake(webhook_url: str = "") -> FakePayPal:
    """Make a server that sends its webhooks to a URL, or to nobody."""
    clock = Clock()
    signer = Signer(clock, WEBHOOK_ID)
    webhooks = Webhooks(signer.sign, webhook_url)
    tokens = Tokens(clock, CLIENT_ID, CLIENT_SECRET)
    request_ids = RequestIds(clock)
    faults = Faults()

    def notify(event_type: str, resource: Order | Authorization | Capture | Refund) -> None:
        webhooks.send(make_event(event_type, resource, clock, EVENT_BASE))

    books = Books(clock, notify)
    app = falcon.asgi.App(middleware=webhooks)
    app.add_middleware(_Authentication(tokens))
    app.add_error_handler(Refusal, _respond_with_refusal)
    app.add_route(_TOKEN_PATH, _TokenResource(tokens))
    app.add_route("/v1/notifications/verify-webhook-signature", _Verification(signer))
    app.add_route("/checkoutnow", ApprovalPage(books))
    _add_orders(app, Orders(books, request_ids, clock))
    _add_payments(app, books, request_ids)
    app.add_route("/_fake/faults", FaultsResource(faults))
    app.add_route("/_fake/webhooks", WebhooksResource(webhooks))
    app.add_route("/_fake/clock", control.ClockResource(clock))
    app.add_route("/_fake/keys", control.KeysResource(request_ids))
    app.add_route("/_fake/tokens", control.TokensResource(tokens))
    app.add_route("/_fake/books", control.BooksResource(books))
    return FakePayPal(UnreliableNetwork(app, faults, make_error), faults, books, request_ids)


def _add_orders(app: Application, orders: Orders) -> None:
    path = "/v2/checkout/orders"
    app.add_route(path, orders)
    app.add_route(f"{path}/{{order_id}}", orders, suffix="order")
    app.add_route(f"{path}/{{order_id}}/authorize", orders, suffix="authorize")
    app.add_route(f"{path}/{{order_id}}/capture", orders, suffix="capture")


def _add_payments(app: Application, books: Books, request_ids: RequestIds) -> None:
    authorizations, captures = Authorizations(books, request_ids), Captures(books, request_ids)
    path = "/v2/payments/authorizations/{authorization_id}"
    app.add_route(path, authorizations)
    app.add_route(f"{path}/capture", authorizations, suffix="capture")
    app.add_route(f"{path}/void", authorizations, suffix="void")
    app.add_route("/v2/payments/captures/{capture_id}", captures)
    app.add_route("/v2/payments/captures/{capture_id}/refund", captures, suffix="refund")
    app.add_route("/v2/payments/refunds/{refund_id}", Refunds(books))


class _Authentication:
    """Requires an access token for the REST APIs.

    https://developer.paypal.com/api/rest/authentication/
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        if not req.path.startswith(("/v1/", "/v2/")) or req.path == _TOKEN_PATH:
            return
        if not self._tokens.is_valid(req.auth or ""):
            resp.status = falcon.HTTP_401
            description = "Token signature verification failed"
            resp.media = {"error": "invalid_token", "error_description": description}
            resp.complete = True


class _TokenResource:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        form = await req.get_media()
        status, resp.media = self._tokens.issue(req.auth, form.get("grant_type"))
        resp.status = falcon.code_to_http_status(status)


class _Verification:
    """https://developer.paypal.com/docs/api/webhooks/v1/#verify-webhook-signature_post."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        try:
            text = (await req.stream.read()).decode()
        except UnicodeDecodeError as error:
            raise invalid("MALFORMED_REQUEST_JSON", "The body is not UTF-8.") from error
        status = "SUCCESS" if self._signer.verify(text) else "FAILURE"
        resp.media = {"verification_status": status}


async def _respond_with_refusal(
    _: falcon.asgi.Request, resp: falcon.asgi.Response, refusal: Refusal, _params: object
) -> None:
    resp.status = falcon.code_to_http_status(refusal.status)
    resp.media = render(refusal)
