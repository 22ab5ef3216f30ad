"""The fake sends the webhooks of what happens, and verifies them byte for byte."""

import json
import queue
from collections.abc import Iterator

import falcon
import falcon.asgi
import pytest

from tools.fakes.paypal.app import WEBHOOK_ID
from tools.fakes.paypal.testing import PayPal
from tools.fakes.serving import serve_in_thread

pytest_plugins = ("tools.fakes.paypal.testing",)

WAIT_SECONDS = 20
VERIFY = "/v1/notifications/verify-webhook-signature"


class Inbox:
    """Keeps the headers and bodies of webhooks."""

    def __init__(self) -> None:
        self._received: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    async def on_post(self, req: falcon.asgi.Request, _: falcon.asgi.Response) -> None:
        self._received.put((dict(req.headers), await req.stream.read()))

    def take(self) -> tuple[dict[str, str], bytes]:
        return self._received.get(timeout=WAIT_SECONDS)

    def take_types(self, count: int) -> list[str]:
        return sorted(json.loads(self.take()[1])["event_type"] for _ in range(count))


@pytest.fixture
def inbox(paypal: PayPal) -> Iterator[Inbox]:
    inbox = Inbox()
    app = falcon.asgi.App()
    app.add_route("/hook", inbox)
    with serve_in_thread(app) as url:
        paypal.client.put("/_fake/webhooks", json={"url": f"{url}/hook"}).raise_for_status()
        yield inbox


def pay(paypal: PayPal, instrument: str = "accepted") -> str:
    unit = {"amount": {"currency_code": "USD", "value": "100.00"}}
    body = {"intent": "AUTHORIZE", "purchase_units": [unit]}
    order_id = paypal.post("/v2/checkout/orders", body).json()["id"]
    paypal.act(order_id, instrument=instrument)
    order = paypal.post(f"/v2/checkout/orders/{order_id}/authorize").json()
    authorization_id = order["purchase_units"][0]["payments"]["authorizations"][0]["id"]
    return f"/v2/payments/authorizations/{authorization_id}"


def make_verification(headers: dict[str, str], event: bytes, **changed: str) -> bytes:
    members = {
        "auth_algo": headers["paypal-auth-algo"],
        "cert_url": headers["paypal-cert-url"],
        "transmission_id": headers["paypal-transmission-id"],
        "transmission_sig": headers["paypal-transmission-sig"],
        "transmission_time": headers["paypal-transmission-time"],
        "webhook_id": WEBHOOK_ID,
        **changed,
    }
    return json.dumps(members)[:-1].encode() + b', "webhook_event": ' + event + b"}"


def verify(paypal: PayPal, body: bytes) -> str:
    headers = {**paypal.make_authorization(), "content-type": "application/json"}
    response = paypal.client.post(VERIFY, content=body, headers=headers)
    return str(response.raise_for_status().json()["verification_status"])


def test_each_step_of_a_payment_has_its_event(paypal: PayPal, inbox: Inbox) -> None:
    captured, voided = pay(paypal), pay(paypal)
    assert inbox.take_types(4) == [
        "CHECKOUT.ORDER.APPROVED",
        "CHECKOUT.ORDER.APPROVED",
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.AUTHORIZATION.CREATED",
    ]
    capture = paypal.post(f"{captured}/capture", {"final_capture": True}).json()
    paypal.post(f"{voided}/void")
    paypal.post(f"/v2/payments/captures/{capture['id']}/refund")
    assert inbox.take_types(3) == [
        "PAYMENT.AUTHORIZATION.VOIDED",
        "PAYMENT.CAPTURE.COMPLETED",
        "PAYMENT.CAPTURE.REFUNDED",
    ]


def test_a_declined_capture_has_its_event(paypal: PayPal, inbox: Inbox) -> None:
    paypal.post(f"{pay(paypal, 'capture_declined')}/capture", {"final_capture": True})
    assert "PAYMENT.CAPTURE.DENIED" in inbox.take_types(3)


def test_an_event_is_verified_as_it_was_sent(paypal: PayPal, inbox: Inbox) -> None:
    pay(paypal)
    headers, event = inbox.take()
    assert verify(paypal, make_verification(headers, event)) == "SUCCESS"


def test_an_event_that_was_serialized_again_is_not_verified(paypal: PayPal, inbox: Inbox) -> None:
    pay(paypal)
    headers, event = inbox.take()
    for again in (json.dumps(json.loads(event)), json.dumps(json.loads(event), indent=1)):
        assert verify(paypal, make_verification(headers, again.encode())) == "FAILURE"


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook_id": "another"},
        {"transmission_id": "another"},
        {"transmission_time": "2020-01-01T00:00:00Z"},
        {"transmission_sig": "another"},
    ],
)
def test_what_is_signed_cannot_be_changed(
    paypal: PayPal, inbox: Inbox, changed: dict[str, str]
) -> None:
    pay(paypal)
    headers, event = inbox.take()
    assert verify(paypal, make_verification(headers, event, **changed)) == "FAILURE"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a" 1}', b'{"a": 1,}', b"\xff"])
def test_a_malformed_verification_is_refused(paypal: PayPal, body: bytes) -> None:
    headers = {**paypal.make_authorization(), "content-type": "application/json"}
    assert paypal.client.post(VERIFY, content=body, headers=headers).status_code == 400
