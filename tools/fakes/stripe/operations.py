"""The operations of the API on intents and refunds: parameters in, an object out. No HTTP."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.fakes.faults import CONTROL_PATH
from tools.fakes.stripe import currencies, errors
from tools.fakes.stripe.books import Books, new_id
from tools.fakes.stripe.intents import CANCELLATION_REASONS, Intent
from tools.fakes.stripe.parameters import Parameters
from tools.fakes.stripe.refunds import REASONS, Refund, check_refund, first_status

Object = Mapping[str, Any]

MAX_PAGE = 100
DEFAULT_PAGE = 10

_CREATE = (
    "amount", "currency", "capture_method", "automatic_payment_methods", "payment_method",
    "payment_method_types", "return_url", "metadata", "confirm", "description", "expand",
)  # fmt: skip
_LIST = ("limit", "starting_after", "expand")


class Operations:
    """The operations on the books of one account."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def create_intent(self, encoded: str, base_url: str) -> Object:
        """https://docs.stripe.com/api/payment_intents/create."""
        given = Parameters(encoded, _CREATE)
        amount = given.find_integer("amount")
        if amount is None:
            raise errors.missing("amount")
        currency = given.get("currency").lower()
        currencies.check_amount(amount, currency)
        capture_method = given.find_choice(
            "capture_method", ("automatic", "automatic_async", "manual")
        )
        redirects = given.find_choice(
            "automatic_payment_methods[allow_redirects]", ("always", "never")
        )
        is_automatic = given.flag("automatic_payment_methods[enabled]")
        number = self._books.intents.next_number
        identifier = new_id("pi", number)
        intent = Intent(
            id=identifier,
            number=number,
            amount=amount,
            currency=currency,
            manual_capture=capture_method == "manual",
            allows_redirects=is_automatic and redirects != "never",
            metadata=given.metadata(),
            client_secret=f"{identifier}_secret_{secrets.token_hex(12)}",
            return_url=given.find("return_url"),
        )
        intent.attach(given.find("payment_method"))
        self._books.intents.add(identifier, intent)
        self._books.announce(["payment_intent.created"], intent)
        if given.flag("confirm"):
            return self._confirm(intent, None, None, base_url)
        return intent.to_json()

    def retrieve_intent(self, identifier: str, encoded: str) -> Object:
        """https://docs.stripe.com/api/payment_intents/retrieve."""
        given = Parameters(encoded, ("expand", "client_secret"))
        intent = self._books.intents.get(identifier, "intent")
        return intent.to_json(expand_charge=given.expands("latest_charge"))

    def list_intents(self, encoded: str) -> Object:
        """https://docs.stripe.com/api/payment_intents/list."""
        given = Parameters(encoded, _LIST)
        page, has_more = self._books.intents.page(given.find("starting_after"), _limit(given))
        expand = given.expands("data.latest_charge")
        data = [intent.to_json(expand_charge=expand) for intent in page]
        return _make_list("/v1/payment_intents", data, has_more=has_more)

    def confirm_intent(self, identifier: str, encoded: str, base_url: str) -> Object:
        """https://docs.stripe.com/api/payment_intents/confirm."""
        given = Parameters(encoded, ("payment_method", "return_url", "expand"))
        intent = self._books.intents.get(identifier, "intent")
        return self._confirm(
            intent, given.find("payment_method"), given.find("return_url"), base_url
        )

    def _confirm(
        self, intent: Intent, payment_method: str | None, return_url: str | None, base_url: str
    ) -> Object:
        action_url = f"{base_url}{CONTROL_PATH}actions/{intent.id}"
        self._books.announce(intent.confirm(payment_method, return_url, action_url), intent)
        if intent.last_payment_error is not None:
            raise errors.card_error(**intent.last_payment_error, intent=intent.to_json())
        return intent.to_json()

    def capture_intent(self, identifier: str, encoded: str, _: str) -> Object:
        """https://docs.stripe.com/api/payment_intents/capture."""
        given = Parameters(encoded, ("amount_to_capture", "expand"))
        amount = given.find_integer("amount_to_capture")
        return self.change_intent(identifier, lambda intent: intent.capture(amount))

    def cancel_intent(self, identifier: str, encoded: str, _: str) -> Object:
        """https://docs.stripe.com/api/payment_intents/cancel."""
        given = Parameters(encoded, ("cancellation_reason", "expand"))
        reason = given.find_choice("cancellation_reason", CANCELLATION_REASONS)
        return self.change_intent(identifier, lambda intent: intent.cancel(reason))

    def change_intent(self, identifier: str, change: Callable[[Intent], list[str]]) -> Object:
        """Change an intent, and send the events that `change` returns."""
        intent = self._books.intents.get(identifier, "intent")
        self._books.announce(change(intent), intent)
        return intent.to_json()

    def create_refund(self, encoded: str, _: str) -> Object:
        """https://docs.stripe.com/api/refunds/create."""
        given = Parameters(encoded, ("payment_intent", "amount", "reason", "metadata", "expand"))
        intent = self._books.intents.get(given.get("payment_intent"), "payment_intent")
        reason = given.find_choice("reason", REASONS)
        metadata = given.metadata()
        amount = check_refund(intent, given.find_integer("amount"))
        number = self._books.refunds.next_number
        refund = Refund(
            id=new_id("re", number),
            number=number,
            intent=intent,
            amount=amount,
            reason=reason,
            metadata=metadata,
            status=first_status(intent),
        )
        self._books.add_refund(refund)
        self._books.announce(["refund.created", "charge.refunded"], intent, refund)
        return refund.to_json()

    def list_refunds(self, encoded: str) -> Object:
        """https://docs.stripe.com/api/refunds/list."""
        given = Parameters(encoded, (*_LIST, "payment_intent"))
        intent_id = given.find("payment_intent")
        among = None
        if intent_id is not None:
            among = self._books.refunds_of[self._books.intents.get(intent_id, "payment_intent").id]
        page, has_more = self._books.refunds.page(
            given.find("starting_after"), _limit(given), among
        )
        return _make_list("/v1/refunds", [each.to_json() for each in page], has_more=has_more)

    def settle_refund(self, identifier: str, status: str) -> Object:
        """Let a refund succeed or fail, as its bank does later."""
        refund = self._books.refunds.get(identifier, "refund")
        self._books.announce(refund.settle(status), refund.intent, refund)
        return refund.to_json()


def _limit(given: Parameters) -> int:
    limit = given.find_integer("limit")
    if limit is None:
        return DEFAULT_PAGE
    if not 1 <= limit <= MAX_PAGE:
        message = f"limit must be between 1 and {MAX_PAGE}."
        raise errors.NotExecutedError(message, code="parameter_invalid_integer", param="limit")
    return limit


def _make_list(url: str, data: Sequence[Object], *, has_more: bool) -> Object:
    return {"object": "list", "url": url, "has_more": has_more, "data": data}
