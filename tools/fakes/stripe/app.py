"""A server that keeps the documented rules of Stripe and moves no money.

Here is its HTTP: the keys of the account, idempotency keys, and the API, whose requests are
form-encoded and whose responses are JSON (https://docs.stripe.com/api). All that the server knows
is in memory and is lost when it stops.
"""

import asyncio
import hmac
import json
import secrets
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import falcon
import falcon.asgi

from tools.fakes.controls import add_controls
from tools.fakes.faults import CONTROL_PATH, Faults
from tools.fakes.network import MAX_BODY_BYTES, Application, UnreliableNetwork
from tools.fakes.stripe.approval import ApprovalPage
from tools.fakes.stripe.books import Books
from tools.fakes.stripe.controls import RefundResource
from tools.fakes.stripe.errors import NotExecutedError, StripeError, make_error
from tools.fakes.stripe.idempotency_keys import IdempotencyKeys
from tools.fakes.stripe.operations import Object, Operations
from tools.fakes.webhooks import Webhooks

API_KEY = "sk_test_fake"
WEBHOOK_SECRET = "whsec_fake"  # noqa: S105

Request = falcon.asgi.Request
Response = falcon.asgi.Response
Write = Callable[[str, str], Object]
"""Performs a POST, by its form-encoded parameters and the base URL of the fake."""


@dataclass(frozen=True, slots=True)
class Fake:
    """The state of the fake, for tests that run it in their own process."""

    webhook_url: str = ""
    """Where events are sent; without one, they are dropped."""
    faults: Faults = field(default_factory=Faults)
    keys: IdempotencyKeys = field(default_factory=IdempotencyKeys)
    broken_keys: set[str] = field(default_factory=set)
    """The idempotency keys of requests that fail while they are executed."""
    processing_seconds: float = 0.0
    """How long a POST is under way, with its idempotency key in use."""


def create_app(fake: Fake) -> Application:
    """Return the application, behind its unreliable network."""
    webhooks = Webhooks(lambda body: sign(body, WEBHOOK_SECRET), fake.webhook_url)
    operations = Operations(Books(webhooks.send))
    app = falcon.asgi.App(middleware=webhooks)
    app.add_middleware(_Authentication())
    app.add_error_handler(StripeError, _send_error)
    api = _Api(fake, operations)
    app.add_route("/v1/payment_intents", api, suffix="intents")
    app.add_route("/v1/payment_intents/{intent_id}", api, suffix="intent")
    app.add_route("/v1/payment_intents/{intent_id}/{action}", api, suffix="action")
    app.add_route("/v1/refunds", api, suffix="refunds")
    app.add_route(f"{CONTROL_PATH}actions/{{intent_id}}", ApprovalPage(operations))
    add_controls(app, fake.faults, webhooks, fake.keys)
    app.add_route(f"{CONTROL_PATH}refunds/{{refund_id}}", RefundResource(operations))
    return UnreliableNetwork(app, fake.faults, make_error)


def sign(body: bytes, secret: str, timestamp: int | None = None) -> dict[str, str]:
    """Return the signature header of an event: https://docs.stripe.com/webhooks/signature.

    Each attempt has a signature of its own, of the time when it is made.
    """
    signed_at = int(time.time()) if timestamp is None else timestamp
    signature = hmac.digest(secret.encode(), b"%d.%b" % (signed_at, body), "sha256").hex()
    return {"stripe-signature": f"t={signed_at},v1={signature}"}


class _Authentication:
    """Refuses requests without the secret key: https://docs.stripe.com/api/authentication."""

    async def process_request(self, req: Request, resp: Response) -> None:
        if req.path.startswith(CONTROL_PATH):
            return
        scheme, _, given = (req.get_header("authorization") or "").partition(" ")
        if scheme.lower() == "basic":
            given = _user_of(given)
        if not hmac.compare_digest(given.encode(), API_KEY.encode()):
            raise NotExecutedError("Invalid API Key provided.", status=401)


def _user_of(credentials: str) -> str:
    try:
        return b64decode(credentials, validate=True).partition(b":")[0].decode()
    except ValueError:
        return ""


class _Api:
    """Intents and refunds."""

    def __init__(self, fake: Fake, operations: Operations) -> None:
        self._fake = fake
        self._operations = operations
        self._actions: Mapping[str, Callable[[str, str, str], Object]] = {
            "confirm": operations.confirm_intent,
            "capture": operations.capture_intent,
            "cancel": operations.cancel_intent,
        }

    async def on_get_intents(self, req: Request, resp: Response) -> None:
        _send(resp, 200, self._operations.list_intents(req.query_string))

    async def on_post_intents(self, req: Request, resp: Response) -> None:
        await self._write(req, resp, self._operations.create_intent)

    async def on_get_intent(self, req: Request, resp: Response, intent_id: str) -> None:
        _send(resp, 200, self._operations.retrieve_intent(intent_id, req.query_string))

    async def on_post_action(
        self, req: Request, resp: Response, intent_id: str, action: str
    ) -> None:
        perform = self._actions.get(action)
        if perform is None:
            raise NotExecutedError(f"Unrecognized request URL ({req.path}).", status=404)
        await self._write(
            req, resp, lambda encoded, base_url: perform(intent_id, encoded, base_url)
        )

    async def on_get_refunds(self, req: Request, resp: Response) -> None:
        _send(resp, 200, self._operations.list_refunds(req.query_string))

    async def on_post_refunds(self, req: Request, resp: Response) -> None:
        await self._write(req, resp, self._operations.create_refund)

    async def _write(self, req: Request, resp: Response, write: Write) -> None:
        """Perform a POST, or replay the response that its idempotency key has."""
        encoded = (await req.stream.read(MAX_BODY_BYTES)).decode("utf-8", "replace")
        key = req.get_header("idempotency-key")
        if not key:
            status, body, _ = await self._perform(write, encoded, req.prefix)
            _send_bytes(resp, status, body)
            return
        resp.set_header("idempotency-key", key)
        parameters = "&".join(sorted(encoded.split("&")))
        saved = self._fake.keys.begin(key, f"{req.path}?{parameters}")
        if saved is not None:
            resp.set_header("idempotent-replayed", "true")
            _send_bytes(resp, *saved)
            return
        if key in self._fake.broken_keys:
            write = _fail
        status, body, is_saved = await self._perform(write, encoded, req.prefix)
        if is_saved:
            self._fake.keys.save(key, status, body)
        else:
            self._fake.keys.release(key)
        _send_bytes(resp, status, body)

    async def _perform(self, write: Write, encoded: str, base_url: str) -> tuple[int, bytes, bool]:
        """Return the status, the body, and whether they are to be saved under the key."""
        if self._fake.processing_seconds:
            await asyncio.sleep(self._fake.processing_seconds)
        try:
            return 200, json.dumps(write(encoded, base_url)).encode(), True
        except StripeError as error:
            return error.status, json.dumps(error.body).encode(), error.is_saved


def _fail(_encoded: str, _base_url: str) -> Object:
    raise StripeError("An error occurred.", status=500, error_type="api_error")


async def _send_error(
    _req: Request, resp: Response, error: StripeError, _params: Mapping[str, object]
) -> None:
    _send(resp, error.status, error.body)


def _send(resp: Response, status: int, body: Mapping[str, object]) -> None:
    _send_bytes(resp, status, json.dumps(body).encode())


def _send_bytes(resp: Response, status: int, body: bytes) -> None:
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("request-id", f"req_{secrets.token_hex(7)}")
    resp.data = body
