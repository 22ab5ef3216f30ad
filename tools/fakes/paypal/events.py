"""Webhook events: what they say, and how they are signed and verified.

https://developer.paypal.com/api/rest/webhooks/rest/: the signature is over
`transmission id|transmission time|webhook id|CRC32 of the raw body`. PayPal signs with RSA and a
certificate; the fake has a secret key instead, so only its own verify call can verify.
https://developer.paypal.com/docs/api/webhooks/v1/#verify-webhook-signature_post
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import uuid
import zlib
from collections.abc import Mapping

from tools.fakes.paypal.clock import Clock, to_text
from tools.fakes.paypal.errors import invalid
from tools.fakes.paypal.representations import (
    Json,
    show_authorization,
    show_capture,
    show_order,
    show_refund,
)
from tools.fakes.paypal.resources import Authorization, Capture, Order, Refund

AUTH_ALGORITHM = "SHA256withRSA"

_SPACE = re.compile(r"\s*")


def make_event(
    event_type: str,
    resource: Order | Authorization | Capture | Refund,
    clock: Clock,
    base: str,
) -> bytes:
    """Return an event. No JSON library writes the same bytes again: it has spaces of its own."""
    event = {
        "id": f"WH-{uuid.uuid4().hex.upper()}",
        "event_version": "1.0",
        "create_time": to_text(clock.now()),
        "resource_type": _name_type(resource),
        "event_type": event_type,
        "summary": f"{event_type}: caf\u00e9",
        "resource": _show(resource, base),
    }
    return json.dumps(event, separators=(" ,", " : ")).encode()


def _name_type(resource: Order | Authorization | Capture | Refund) -> str:
    return "checkout-order" if isinstance(resource, Order) else type(resource).__name__.lower()


def _show(resource: Order | Authorization | Capture | Refund, base: str) -> Json:
    match resource:
        case Order():
            return show_order(resource, base)
        case Authorization():
            return show_authorization(resource, base)
        case Capture():
            return show_capture(resource, base)
        case Refund():
            return show_refund(resource, base)


class Signer:
    """Signs deliveries of events to one webhook, and verifies what claims to be one."""

    def __init__(self, clock: Clock, webhook_id: str) -> None:
        self.webhook_id = webhook_id
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def sign(self, event: bytes) -> Mapping[str, str]:
        """Return the headers of a delivery."""
        transmission_id, time = str(uuid.uuid4()), to_text(self._clock.now())
        return {
            "PAYPAL-AUTH-ALGO": AUTH_ALGORITHM,
            "PAYPAL-CERT-URL": "https://api.paypal.com/v1/notifications/certs/CERT-0-0",
            "PAYPAL-TRANSMISSION-ID": transmission_id,
            "PAYPAL-TRANSMISSION-TIME": time,
            "PAYPAL-TRANSMISSION-SIG": self._compute(transmission_id, time, event),
        }

    def verify(self, body: str) -> bool:
        """Return whether a request to verify has the signature of its event, byte for byte."""
        members = split_object(body)
        event = members.pop("webhook_event", "").encode()
        given = {name: json.loads(value) for name, value in members.items()}
        expected = self._compute(
            str(given.get("transmission_id")), str(given.get("transmission_time")), event
        )
        return given.get("webhook_id") == self.webhook_id and hmac.compare_digest(
            expected, str(given.get("transmission_sig"))
        )

    def _compute(self, transmission_id: str, time: str, event: bytes) -> str:
        message = f"{transmission_id}|{time}|{self.webhook_id}|{zlib.crc32(event)}".encode()
        return base64.b64encode(hmac.digest(self._key, message, hashlib.sha256)).decode()


def split_object(text: str) -> dict[str, str]:
    """Return the members of a JSON object, with their values as they are written.

    Raises:
        PayPalError: it is no object.
    """
    decoder, members, position = json.JSONDecoder(), {}, _skip(text, 0)
    try:
        delimiter = text[position]
        if delimiter != "{":
            raise ValueError(text)
        while delimiter != "}":
            name, colon = decoder.raw_decode(text, _skip(text, position + 1))
            start = _skip(text, _skip(text, colon) + 1)
            _, end = decoder.raw_decode(text, start)
            members[str(name)] = text[start:end]
            position = _skip(text, end)
            delimiter = text[position]
    except (IndexError, ValueError) as error:
        raise invalid("MALFORMED_REQUEST_JSON", "The body is no JSON object.") from error
    return members


def _skip(text: str, position: int) -> int:
    """Return the position after white space."""
    match = _SPACE.match(text, position)
    return position if match is None else match.end()
