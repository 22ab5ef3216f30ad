"""A server that keeps the documented rules of PayPal and moves no money.

Each rule is in the module of its resource, with the page of PayPal's documentation. All that the
server knows is in memory and is lost when it stops.
"""

import falcon
import falcon.asgi

from tools.fakes.controls import add_controls
from tools.fakes.faults import CONTROL_PATH, Faults
from tools.fakes.network import Application, UnreliableNetwork
from tools.fakes.paypal import controls
from tools.fakes.paypal.approval import ApprovalPage
from tools.fakes.paypal.books import Books
from tools.fakes.paypal.clock import Clock
from tools.fakes.paypal.errors import PayPalError, invalid, make_error, render
from tools.fakes.paypal.events import Signer, make_event
from tools.fakes.paypal.idempotency_keys import IdempotencyKeys
from tools.fakes.paypal.orders import Orders
from tools.fakes.paypal.payments import Authorizations, Captures, Refunds
from tools.fakes.paypal.resources import Authorization, Capture, Order, Refund
from tools.fakes.paypal.tokens import Tokens
from tools.fakes.webhooks import Webhooks

CLIENT_ID = "fake-client-id"
CLIENT_SECRET = "fake-client-secret"  # noqa: S105
WEBHOOK_ID = "0FAKEWEBHOOK00001"
EVENT_BASE = "https://api.paypal.com"
"""The server in the links of events."""

Router = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]

_TOKEN_PATH = "/v1/oauth2/token"  # noqa: S105


class Fake:
    """The state of the fake, for tests that run it in their own process."""

    def __init__(self, webhook_url: str = "") -> None:
        """`webhook_url` is where events are sent; without one, they are dropped."""
        self.webhook_url = webhook_url
        self.faults = Faults()
        self.clock = Clock()
        self.keys = IdempotencyKeys(self.clock)


def create_app(fake: Fake) -> Application:
    """Return the application, behind its unreliable network."""
    signer = Signer(fake.clock, WEBHOOK_ID)
    webhooks = Webhooks(signer.sign, fake.webhook_url)
    tokens = Tokens(fake.clock, CLIENT_ID, CLIENT_SECRET)

    def notify(event_type: str, resource: Order | Authorization | Capture | Refund) -> None:
        webhooks.send(make_event(event_type, resource, fake.clock, EVENT_BASE))

    books = Books(fake.clock, notify)
    app = falcon.asgi.App(middleware=webhooks)
    app.add_middleware(_Authentication(tokens))
    app.add_error_handler(PayPalError, _send_error)
    app.add_route(_TOKEN_PATH, _TokenResource(tokens))
    app.add_route("/v1/notifications/verify-webhook-signature", _Verification(signer))
    app.add_route("/checkoutnow", ApprovalPage(books))
    _add_orders(app, Orders(books, fake.keys, fake.clock))
    _add_payments(app, books, fake.keys)
    add_controls(app, fake.faults, webhooks, fake.keys)
    app.add_route(f"{CONTROL_PATH}clock", controls.ClockResource(fake.clock))
    app.add_route(f"{CONTROL_PATH}tokens", controls.TokensResource(tokens))
    app.add_route(f"{CONTROL_PATH}books", controls.BooksResource(books))
    return UnreliableNetwork(app, fake.faults, make_error)


def _add_orders(app: Router, orders: Orders) -> None:
    path = "/v2/checkout/orders"
    app.add_route(path, orders)
    app.add_route(f"{path}/{{order_id}}", orders, suffix="order")
    app.add_route(f"{path}/{{order_id}}/authorize", orders, suffix="authorize")
    app.add_route(f"{path}/{{order_id}}/capture", orders, suffix="capture")


def _add_payments(app: Router, books: Books, keys: IdempotencyKeys) -> None:
    authorizations, captures = Authorizations(books, keys), Captures(books, keys)
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


async def _send_error(
    _: falcon.asgi.Request, resp: falcon.asgi.Response, error: PayPalError, _params: object
) -> None:
    resp.status = falcon.code_to_http_status(error.status)
    resp.media = render(error)
