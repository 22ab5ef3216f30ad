"""Webhooks of PayPal: which of them PayPal has signed, and which order they are about.

Anybody can send one, and PayPal has to be asked about its signature. What cannot be PayPal's is
therefore refused without a call, and the calls have a limit of their own.
"""

import asyncio
import re
from collections.abc import Mapping
from functools import partial

import orjson
from pydantic import ValidationError

from chassis import errors
from services.payment.providers.attempts import Attempts, Unknown
from services.payment.providers.paypal_client import MAX_VERIFICATIONS, PayPalClient, Refused
from services.payment.providers.paypal_resources import CAPTURES, Event, EventResource, parse
from services.payment.providers.provider import Notification

VERIFICATION = "/v1/notifications/verify-webhook-signature"

SIGNATURE_HEADERS = {
    "auth_algo": "paypal-auth-algo",
    "cert_url": "paypal-cert-url",
    "transmission_id": "paypal-transmission-id",
    "transmission_sig": "paypal-transmission-sig",
    "transmission_time": "paypal-transmission-time",
}
_FORMATS = {
    "auth_algo": re.compile(r"[A-Za-z0-9]{1,100}"),
    "cert_url": re.compile(r"https://(?:[a-z0-9-]+\.)*paypal\.com/[!-~]{1,450}"),
    "transmission_id": re.compile(r"[!-~]{1,50}"),
    "transmission_sig": re.compile(r"[!-~]{1,500}"),
    "transmission_time": re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{5,20}(?:Z|[+-]\d\d:?\d\d)", re.ASCII),
}
"""What PayPal would send, with the lengths that it documents:
https://developer.paypal.com/docs/api/webhooks/v1/#verify-webhook-signature_post."""

_CAPTURE_LINK = re.compile(r"/v2/payments/captures/([0-9A-Z]+)$")


class PayPalWebhooks:
    """Reads the webhooks that PayPal sends for one webhook id."""

    def __init__(self, client: PayPalClient, attempts: Attempts, webhook_id: str) -> None:
        self._client = client
        self._attempts = attempts
        self._webhook_id = webhook_id
        self._verifications = asyncio.Semaphore(MAX_VERIFICATIONS)

    async def read(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """Let PayPal verify a webhook, and parse it.

        Raises:
            errors.InvalidArgument: PayPal has not signed it, or it is malformed.
            errors.Unavailable: PayPal did not respond, or too many webhooks are being verified.
        """
        signature = {name: headers.get(header, "") for name, header in SIGNATURE_HEADERS.items()}
        if not _is_possible(signature) or not _is_object(body):
            raise _invalid_signature()
        if self._verifications.locked():
            # PayPal will send its own again; a forged one is not worth a wait.
            message = "Too many webhooks are being verified."
            raise errors.Unavailable("TOO_MANY_WEBHOOKS", message)
        try:
            async with self._verifications:
                await self._verify(signature, body)
                event = Event.model_validate_json(body)
                reference = await self._find_reference(event)
        except Unknown as error:
            message = "PayPal did not respond."
            raise errors.Unavailable("PROVIDER_UNAVAILABLE", message) from error
        except ValidationError as error:
            raise errors.InvalidArgument("INVALID_WEBHOOK", "The event is malformed.") from error
        return Notification(event.id, event.event_type, reference)

    async def _verify(self, signature: Mapping[str, str], body: bytes) -> None:
        """Ask PayPal. The body is sent as it came, because its bytes are what is signed."""
        members = orjson.dumps({**signature, "webhook_id": self._webhook_id})
        request = members[:-1] + b',"webhook_event":' + body + b"}"
        try:
            verified = await self._attempts.repeat(
                partial(self._client.post_bytes, VERIFICATION, request)
            )
        except Refused as refused:
            raise _invalid_signature() from refused
        if verified.get("verification_status") != "SUCCESS":
            raise _invalid_signature()

    async def _find_reference(self, event: Event) -> str:
        """Return the order that an event is about. A refund names its capture only."""
        if event.event_type.startswith("CHECKOUT.ORDER."):
            return event.resource.id
        if order_id := event.resource.order_id:
            return order_id
        urls = [link.href for link in event.resource.links if link.rel == "up"]
        match = _CAPTURE_LINK.search(urls[0]) if urls else None
        if match is None:
            return ""
        try:
            capture = await self._attempts.repeat(
                partial(self._client.get, f"{CAPTURES}/{match[1]}")
            )
        except Refused:
            return ""
        return parse(EventResource, capture).order_id


def _is_possible(signature: Mapping[str, str]) -> bool:
    """Return whether all parts of a signature are as PayPal would send them."""
    return all(_FORMATS[name].fullmatch(value) for name, value in signature.items())


def _is_object(body: bytes) -> bool:
    """Return whether a body is exactly one JSON object, which can be a part of another."""
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False


def _invalid_signature() -> errors.InvalidArgument:
    return errors.InvalidArgument("INVALID_SIGNATURE", "PayPal has not signed this event.")
