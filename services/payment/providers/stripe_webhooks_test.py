"""Webhooks of Stripe are verified byte for byte, and name the intent that they are about."""

import json
import time

import pytest

from chassis import errors
from services.payment.providers.provider import Notification
from services.payment.providers.stripe import StripeProvider
from tools.fakes.stripe.app import API_KEY, WEBHOOK_SECRET, sign


@pytest.fixture
def provider() -> StripeProvider:
    """Webhooks are read without a call."""
    return StripeProvider("http://127.0.0.1:1", API_KEY, WEBHOOK_SECRET, "https://shop.example")


def make_event(event_type: str, **described: str) -> bytes:
    event = {"id": "evt_1", "type": event_type, "data": {"object": {"id": "pi_1", **described}}}
    return json.dumps(event, indent=2).encode()


EVENT = make_event("payment_intent.succeeded")


@pytest.mark.parametrize(
    ("event_type", "reference"),
    [
        ("payment_intent.succeeded", "pi_1"),
        ("payment_intent.payment_failed", "pi_1"),
        ("payment_intent.created", ""),
        ("charge.refunded", ""),
    ],
)
async def test_a_webhook_names_the_intent_that_was_confirmed_or_cancelled(
    provider: StripeProvider, event_type: str, reference: str
) -> None:
    body = make_event(event_type)
    found = await provider.read_webhook(sign(body, WEBHOOK_SECRET), body)
    assert found == Notification("evt_1", event_type, reference)


async def test_a_webhook_names_the_refund_that_has_failed(provider: StripeProvider) -> None:
    body = make_event("refund.failed", id="re_1", payment_intent="pi_1", status="failed")
    found = await provider.read_webhook(sign(body, WEBHOOK_SECRET), body)
    assert found == Notification("evt_1", "refund.failed", "pi_1", failed_refund="re_1")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, EVENT),
        ({"stripe-signature": "nonsense"}, EVENT),
        (sign(EVENT, "whsec_other"), EVENT),
        (sign(EVENT, WEBHOOK_SECRET), EVENT.replace(b"pi_1", b"pi_2")),
        (sign(EVENT, WEBHOOK_SECRET), json.dumps(json.loads(EVENT)).encode()),
        (sign(EVENT, WEBHOOK_SECRET, int(time.time()) - 301), EVENT),
        (sign(b"\xff", WEBHOOK_SECRET), b"\xff"),
    ],
)
async def test_a_webhook_without_a_valid_signature_is_refused(
    provider: StripeProvider, headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        await provider.read_webhook(headers, body)
    assert refused.value.reason == "INVALID_SIGNATURE"


async def test_a_webhook_of_four_minutes_ago_is_valid(provider: StripeProvider) -> None:
    headers = sign(EVENT, WEBHOOK_SECRET, int(time.time()) - 240)
    assert (await provider.read_webhook(headers, EVENT)).event_id == "evt_1"
