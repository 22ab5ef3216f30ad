"""Events are sent with a signature of their raw body, and describe objects as they were."""

import hmac
import json
import queue
import time
from collections.abc import Iterator
from typing import Any

import falcon.asgi
import pytest

from tools.fakes.serving import serve_in_thread
from tools.fakes.stripe.app import WEBHOOK_SECRET
from tools.fakes.stripe.testing import Stripe

Object = dict[str, Any]

pytest_plugins = ("tools.fakes.stripe.testing",)

WAIT_SECONDS = 20


class Receiver:
    def __init__(self) -> None:
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        signature = req.get_header("stripe-signature", required=True)
        self.received.put((signature, await req.stream.read()))

    def take(self, *event_types: str) -> dict[str, Object]:
        """Wait for one event of each type."""
        events: dict[str, Object] = {}
        while not events.keys() >= set(event_types):
            event = json.loads(self.received.get(timeout=WAIT_SECONDS)[1])
            events[event["type"]] = event
        return events


@pytest.fixture
def receiver(stripe: Stripe) -> Iterator[Receiver]:
    receiver = Receiver()
    app = falcon.asgi.App()
    app.add_route("/hook", receiver)
    with serve_in_thread(app) as url:
        stripe.client.put("/_fake/webhooks", json={"url": f"{url}/hook"}).raise_for_status()
        yield receiver


def create(fake: Stripe, method: str, **parameters: str) -> str:
    given = {"amount": "1000", "currency": "gbp", "payment_method": method, "confirm": "true"}
    given["return_url"] = "https://shop.example/back"
    body = fake.client.post("/v1/payment_intents", data={**given, **parameters}).json()
    intent = body if "id" in body else body["error"]["payment_intent"]
    return str(intent["id"])


def test_the_signature_is_of_the_time_and_the_raw_body(stripe: Stripe, receiver: Receiver) -> None:
    create(stripe, "pm_card_visa")
    signature, body = receiver.received.get(timeout=WAIT_SECONDS)
    signed_at, found = (part.partition("=")[2] for part in signature.split(","))
    signed = b"%s.%b" % (signed_at.encode(), body)
    assert found == hmac.digest(WEBHOOK_SECRET.encode(), signed, "sha256").hex()
    assert abs(int(signed_at) - time.time()) < 60
    assert json.dumps(json.loads(body)).encode() != body


@pytest.mark.parametrize(
    ("method", "event_type", "status"),
    [
        ("pm_card_visa", "payment_intent.succeeded", "succeeded"),
        ("pm_card_chargeDeclined", "payment_intent.payment_failed", "requires_payment_method"),
        ("pm_card_threeDSecure2Required", "payment_intent.requires_action", "requires_action"),
        ("pm_usBankAccount_processing", "payment_intent.processing", "processing"),
    ],
)
def test_an_attempt_is_announced(
    stripe: Stripe, receiver: Receiver, method: str, event_type: str, status: str
) -> None:
    intent = create(stripe, method)
    described = receiver.take(event_type)[event_type]["data"]["object"]
    assert (described["id"], described["status"]) == (intent, status)


def test_an_authorization_and_its_end_are_announced(stripe: Stripe, receiver: Receiver) -> None:
    intent = create(stripe, "pm_card_visa", capture_method="manual")
    receiver.take("payment_intent.amount_capturable_updated")
    stripe.client.post(f"/v1/payment_intents/{intent}/cancel")
    receiver.take("payment_intent.canceled")


def test_a_refund_is_announced(stripe: Stripe, receiver: Receiver) -> None:
    intent = create(stripe, "pm_card_pendingRefund")
    data = {"payment_intent": intent, "amount": "400"}
    refund = stripe.client.post("/v1/refunds", data=data).json()
    events = receiver.take("refund.created", "charge.refunded")
    assert events["refund.created"]["data"]["object"]["status"] == "pending"
    assert events["charge.refunded"]["data"]["object"]["amount_refunded"] == 400
    stripe.settle_refund(refund["id"], "succeeded")
    updated = receiver.take("refund.updated")["refund.updated"]["data"]["object"]
    assert (updated["id"], updated["status"]) == (refund["id"], "succeeded")
