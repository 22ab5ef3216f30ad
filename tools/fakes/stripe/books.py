"""All objects of the fake: created, found, listed, and told about by events. In memory, bounded."""

import json
import secrets
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from tools.fakes.stripe import errors
from tools.fakes.stripe.intents import Intent
from tools.fakes.stripe.refunds import Refund

MAX_OBJECTS = 500_000
"""Of a kind; then creation fails with 500."""
API_VERSION = "2026-10-28.fake"


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


ObjectT = TypeVar("ObjectT", bound=_Numbered)


class Objects(Generic[ObjectT]):
    """The objects of one kind, which count from 1 in the order of their creation."""

    def __init__(self, kind: str) -> None:
        """`kind` is how errors call an object, such as "refund"."""
        self._kind = kind
        self._by_id: dict[str, ObjectT] = {}
        self._in_order: list[ObjectT] = []

    @property
    def next_number(self) -> int:
        """The number of the next object.

        Raises:
            StripeError: there is no room for it.
        """
        if len(self._in_order) >= MAX_OBJECTS:
            raise errors.StripeError("The fake is full.", status=500, error_type="api_error")
        return len(self._in_order) + 1

    def add(self, identifier: str, new: ObjectT) -> None:
        """Add an object whose number is `next_number`."""
        self._by_id[identifier] = new
        self._in_order.append(new)

    def get(self, identifier: str, param: str) -> ObjectT:
        """Return an object by its id, which the parameter `param` has.

        Raises:
            StripeError: there is none.
        """
        found = self._by_id.get(identifier)
        if found is None:
            raise errors.not_found(self._kind, identifier, param)
        return found

    def page(
        self, after: str | None, limit: int, among: Sequence[ObjectT] | None = None
    ) -> tuple[Sequence[ObjectT], bool]:
        """Return a page of all objects or of some, newest first, and whether there are more.

        `among` are in the order of their creation. https://docs.stripe.com/api/pagination
        """
        objects = self._in_order if among is None else among
        end = len(objects)
        if after:
            number = self.get(after, "starting_after").number
            end = bisect_left(objects, number, key=lambda each: each.number)
        start = max(0, end - limit)
        return objects[start:end][::-1], start > 0


class Books:
    """The intents and refunds of one account."""

    def __init__(self, send_event: Callable[[bytes], None]) -> None:
        self.intents: Objects[Intent] = Objects("payment_intent")
        self.refunds: Objects[Refund] = Objects("refund")
        self.refunds_of: dict[str, list[Refund]] = defaultdict(list)
        """By the ids of their intents, oldest first."""
        self._send_event = send_event

    def add_refund(self, refund: Refund) -> None:
        """Add a refund to its intent."""
        self.refunds.add(refund.id, refund)
        self.refunds_of[refund.intent.id].append(refund)
        refund.intent.amount_refunded += refund.amount

    def announce(
        self, event_types: Sequence[str], intent: Intent, refund: Refund | None = None
    ) -> None:
        """Send events about objects as they are now: https://docs.stripe.com/api/events/object."""
        for event_type in event_types:
            if event_type.startswith("refund."):
                described: Mapping[str, Any] = refund.to_json() if refund else {}
            elif event_type.startswith("charge."):
                described = intent.charge_to_json()
            else:
                described = intent.to_json()
            self._send_event(_make_event(event_type, described))


def new_id(prefix: str, number: int) -> str:
    """Return an id such as `pi_3...`, which cannot be guessed; later ones are greater."""
    return f"{prefix}_3{number:010d}{secrets.token_hex(7)}"


def _make_event(event_type: str, described: Mapping[str, Any]) -> bytes:
    event = {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": API_VERSION,
        "created": int(time.time()),
        "data": {"object": described},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
    }
    # Stripe sends indented JSON: whoever serialises it again breaks the signature.
    return json.dumps(event, indent=2).encode()
