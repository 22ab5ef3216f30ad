"""Webhooks are verified byte for byte before anything else, with the real server and Stripe."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.api import httpbody_pb2

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import refusal, serving_service
from services.payment.main import SERVICE
from services.payment.providers.registry import Providers
from services.payment.providers.stripe import StripeProvider
from services.payment.servicer import PaymentServicer
from services.payment.testing import count
from tools.fakes.stripe.app import API_KEY, WEBHOOK_SECRET, sign

pytest_plugins = ("tools.postgres.testing", "services.payment.testing")
DATABASE = "payment"

COUNT_RECEIVED = "SELECT count(*) FROM webhook_inbox"
# The payment is unknown here, so Stripe is never called.
EVENT = json.dumps(
    {
        "id": "evt_1",
        "object": "event",
        "type": "payment_intent.succeeded",
        "data": {"object": {"id": "pi_unknown", "object": "payment_intent"}},
    },
    indent=2,
).encode()


@pytest.fixture
async def stub(database: Database) -> AsyncIterator[Any]:
    stripe = StripeProvider("http://127.0.0.1:1", API_KEY, WEBHOOK_SECRET, "")
    providers = Providers([stripe])
    servicer = PaymentServicer(database, providers)
    service = replace(SERVICE, make_servicer=lambda _: servicer)
    async with serving_service(service, Resources(database)) as channel:
        yield payment_pb2_grpc.PaymentServiceStub(channel)
    await providers.close()


def call(stub: Any, headers: Mapping[str, str], body: bytes) -> Any:
    sent = httpbody_pb2.HttpBody(data=body)
    request = payment_pb2.HandleWebhookRequest(provider="stripe", body=sent)
    return stub.HandleWebhook(request, metadata=tuple(headers.items()))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, EVENT),
        (sign(EVENT, "whsec_other"), EVENT),
        (sign(EVENT, WEBHOOK_SECRET), json.dumps(json.loads(EVENT)).encode()),
        (sign(EVENT, WEBHOOK_SECRET, int(time.time()) - 301), EVENT),
    ],
)
async def test_a_webhook_without_a_valid_signature_changes_nothing(
    stub: Any, clean_database_url: str, headers: Mapping[str, str], body: bytes
) -> None:
    refused = await refusal(call(stub, headers, body))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_SIGNATURE",
    )
    assert count(clean_database_url, COUNT_RECEIVED) == 0
    await call(stub, sign(EVENT, WEBHOOK_SECRET), EVENT)
    assert count(clean_database_url, COUNT_RECEIVED) == 1
