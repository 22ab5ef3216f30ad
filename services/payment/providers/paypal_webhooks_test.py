"""Webhooks of PayPal are verified byte for byte, and name the order that they are about."""

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Iterator

import falcon
import falcon.asgi
import pytest

from chassis import errors
from chassis.money import Amount
from services.payment.domain import State
from services.payment.providers.attempts import ATTEMPT_SECONDS, MAX_CONCURRENT
from services.payment.providers.paypal import PayPalProvider
from services.payment.providers.paypal_client import MAX_VERIFICATIONS
from services.payment.providers.paypal_testing import make_provider
from services.payment.providers.paypal_webhooks import SIGNATURE_HEADERS
from services.payment.providers.provider import Authorization, IntentRequest, RefundRequest
from tools.fakes.faults import Kind, Rule
from tools.fakes.paypal.testing import PayPal
from tools.fakes.serving import serve_in_thread

pytest_plugins = ("services.payment.providers.paypal_testing", "tools.fakes.paypal.testing")

WAIT_SECONDS = 20
AMOUNT = Amount(10_00, "GBP")
HEADERS = {
    "paypal-auth-algo": "SHA256withRSA",
    "paypal-cert-url": "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-0-0",
    "paypal-transmission-id": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
    "paypal-transmission-sig": "lmI95Jx3Y9nhR5SJWlHVIWpg4AgFk7n9bCHSRxbrd8A==",
    "paypal-transmission-time": "2016-02-18T20:01:35.123+00:00",
}

Delivery = tuple[dict[str, str], bytes]


class Inbox:
    """Keeps the headers and bodies of webhooks, by the types of their events."""

    def __init__(self) -> None:
        self.received: queue.Queue[Delivery] = queue.Queue()

    async def on_post(self, req: falcon.asgi.Request, _: falcon.asgi.Response) -> None:
        self.received.put((dict(req.headers), await req.stream.read()))

    def take(self, count: int) -> dict[str, Delivery]:
        taken = [self.received.get(timeout=WAIT_SECONDS) for _ in range(count)]
        return {json.loads(body)["event_type"]: (headers, body) for headers, body in taken}


@pytest.fixture
def inbox(paypal: PayPal) -> Iterator[Inbox]:
    inbox = Inbox()
    app = falcon.asgi.App()
    app.add_route("/hook", inbox)
    with serve_in_thread(app) as url:
        paypal.client.put("/_fake/webhooks", json={"url": f"{url}/hook"}).raise_for_status()
        yield inbox


async def approve(paypal: PayPal, provider: PayPalProvider) -> str:
    (intent,) = await provider.create_intents([IntentRequest("pi:7", "7", AMOUNT)])
    assert intent is not None
    paypal.act(intent.reference)
    return intent.reference


@pytest.fixture
async def delivery(paypal: PayPal, provider: PayPalProvider, inbox: Inbox) -> Delivery:
    await approve(paypal, provider)
    return inbox.take(1)["CHECKOUT.ORDER.APPROVED"]


async def test_every_event_of_a_payment_names_its_order(
    paypal: PayPal, provider: PayPalProvider, inbox: Inbox
) -> None:
    reference = await approve(paypal, provider)
    (authorization,) = await provider.authorize([reference])
    await provider.capture([Authorization(reference, authorization)])
    await provider.refund([RefundRequest("refund:7:1", reference, 1, AMOUNT)])
    deliveries = inbox.take(4)
    assert set(deliveries) == {
        "CHECKOUT.ORDER.APPROVED",
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.CAPTURE.COMPLETED",
        "PAYMENT.CAPTURE.REFUNDED",
    }
    for event_type, (headers, body) in deliveries.items():
        notification = await provider.read_webhook(headers, body)
        assert (notification.type, notification.reference) == (event_type, reference)
        assert notification.event_id == json.loads(body)["id"]


async def read_and_expect_refusal(provider: PayPalProvider, delivery: Delivery) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await provider.read_webhook(*delivery)
    assert caught.value.reason == "INVALID_SIGNATURE"


async def test_a_body_that_was_serialized_again_is_refused(
    provider: PayPalProvider, delivery: Delivery
) -> None:
    headers, body = delivery
    await read_and_expect_refusal(provider, (headers, json.dumps(json.loads(body)).encode()))


@pytest.mark.parametrize("header", SIGNATURE_HEADERS.values())
async def test_a_header_that_is_missing_is_refused_without_a_call(
    paypal: PayPal, provider: PayPalProvider, delivery: Delivery, header: str
) -> None:
    headers, body = delivery
    del headers[header]
    paypal.faults.set(Rule(Kind.LOSE_REQUEST))
    await read_and_expect_refusal(provider, (headers, body))
    assert paypal.faults.happened == {}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("paypal-auth-algo", "a" * 101),
        ("paypal-auth-algo", "SHA256 with RSA"),
        ("paypal-cert-url", "http://api.paypal.com/v1/notifications/certs/CERT-0-0"),
        ("paypal-cert-url", "https://api.paypal.com.example/CERT-0-0"),
        ("paypal-cert-url", "https://example/api.paypal.com/CERT-0-0"),
        ("paypal-cert-url", "https://mypaypal.com/CERT-0-0"),
        ("paypal-cert-url", "https://x@api.paypal.com/CERT-0-0"),
        ("paypal-cert-url", "https://api.paypal.com/" + "a" * 501),
        ("paypal-transmission-id", "a" * 51),
        ("paypal-transmission-sig", "a" * 501),
        ("paypal-transmission-sig", "two words"),
        ("paypal-transmission-time", "yesterday"),
        ("paypal-transmission-time", "2020-01-01T00:00:00Z\n"),
    ],
)
async def test_a_header_that_paypal_would_not_send_is_refused_without_a_call(
    header: str, value: str
) -> None:
    nobody = make_provider("http://127.0.0.1:1")
    await read_and_expect_refusal(nobody, ({**HEADERS, header: value}, b"{}"))
    await nobody.close()


@pytest.mark.parametrize(
    "header",
    ["paypal-transmission-id", "paypal-transmission-sig", "paypal-transmission-time"],
)
async def test_a_header_that_was_changed_is_refused(
    provider: PayPalProvider, delivery: Delivery, header: str
) -> None:
    headers, body = delivery
    await read_and_expect_refusal(provider, ({**headers, header: "2020-01-01T00:00:00Z"}, body))


async def test_an_event_for_another_webhook_is_refused(paypal: PayPal, delivery: Delivery) -> None:
    other = make_provider(paypal.url, "0ANOTHERWEBHOOK01")
    await read_and_expect_refusal(other, delivery)
    await other.close()


@pytest.mark.parametrize(
    "body", [b"", b"7", b"[]", b"{", b"\xff", b'{}, "webhook_id": {}', b'{"a": NaN}']
)
async def test_a_body_that_is_not_one_object_never_reaches_paypal(
    paypal: PayPal, provider: PayPalProvider, delivery: Delivery, body: bytes
) -> None:
    paypal.faults.set(Rule(Kind.LOSE_REQUEST))
    await read_and_expect_refusal(provider, (delivery[0], body))
    assert paypal.faults.happened == {}


async def test_an_event_is_unavailable_while_paypal_does_not_verify_it(
    paypal: PayPal, provider: PayPalProvider, delivery: Delivery
) -> None:
    paypal.faults.set(Rule(Kind.FAIL_BEFORE, "verify-webhook-signature"))
    with pytest.raises(errors.Unavailable):
        await provider.read_webhook(*delivery)
    paypal.faults.set(Rule(Kind.FAIL_BEFORE, "verify-webhook-signature", nth=1))
    assert (await provider.read_webhook(*delivery)).reference


class BusyPayPal:
    """Responds to no call before all that it expects are in progress at once."""

    def __init__(self, expected: int) -> None:
        self._missing = expected
        self._all_here = asyncio.Event()

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **_: str) -> None:
        if req.path.endswith("/token"):
            resp.media = {"access_token": "A", "expires_in": 3600}
            return
        await self._wait()
        resp.media = {"verification_status": "FAILURE"}

    async def on_get(self, _: falcon.asgi.Request, resp: falcon.asgi.Response, **__: str) -> None:
        await self._wait()
        resp.media = {"id": "7", "status": "APPROVED", "purchase_units": [{}]}

    async def _wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._all_here.set()
        await self._all_here.wait()


@pytest.fixture
async def busy() -> AsyncIterator[PayPalProvider]:
    app = falcon.asgi.App()
    app.add_route("/{path:path}", BusyPayPal(MAX_VERIFICATIONS + MAX_CONCURRENT))
    with serve_in_thread(app) as url:
        provider = make_provider(url)
        yield provider
        await provider.close()


async def test_webhooks_that_anybody_sends_leave_the_connections_of_charges_free(
    busy: PayPalProvider,
) -> None:
    async with asyncio.timeout(ATTEMPT_SECONDS / 2):
        # A webhook that is one too many is refused at once, and not when others have ended.
        readings = [
            asyncio.create_task(busy.read_webhook(HEADERS, b"{}"))
            for _ in range(MAX_VERIFICATIONS + 1)
        ]
        (refused,), _ = await asyncio.wait(readings, return_when=asyncio.FIRST_COMPLETED)
        found = await busy.find([str(number) for number in range(MAX_CONCURRENT)])
        ended = await asyncio.gather(*readings, return_exceptions=True)
    assert [each.state for each in found] == [State.REQUIRES_CAPTURE] * MAX_CONCURRENT
    assert isinstance(refused.exception(), errors.Unavailable)
    reasons = [each.reason for each in ended if isinstance(each, errors.Error)]
    assert sorted(reasons) == ["INVALID_SIGNATURE"] * MAX_VERIFICATIONS + ["TOO_MANY_WEBHOOKS"]
