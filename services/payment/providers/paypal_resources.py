"""PayPal's resources, as far as the adapter reads them, and what they mean for a payment. No I/O.

https://developer.paypal.com/docs/api/orders/v2/, https://developer.paypal.com/docs/api/payments/v2/
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from chassis.money import MINOR_DIGITS, Amount
from services.payment.domain import Action, ChargeResult, RefundResult, RefundState, State
from services.payment.providers.attempts import Unknown

CAPTURES = "/v2/payments/captures"

WITHOUT_DECIMALS = frozenset({"HUF", "JPY", "TWD"})
"""PayPal's own exceptions: https://developer.paypal.com/api/rest/reference/currency-codes/."""
DECIMALS = 2

_CHARGED = frozenset({"COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED"})
_NOT_CHARGED = frozenset({"DECLINED", "FAILED"})
_HELD = frozenset({"CREATED", "PENDING", "PARTIALLY_CAPTURED"})
_RELEASED = frozenset({"VOIDED", "DENIED", "EXPIRED"})
_NOT_APPROVED = frozenset({"CREATED", "SAVED", "PAYER_ACTION_REQUIRED"})
_STATES = {"APPROVED": State.REQUIRES_CAPTURE, "VOIDED": State.CANCELLED}
"""The states of orders that were never authorized."""
_REFUND_STATES = {
    "COMPLETED": RefundState.SUCCEEDED,
    "PENDING": RefundState.PENDING,
    "FAILED": RefundState.FAILED,
    "CANCELLED": RefundState.FAILED,
}


ModelT = TypeVar("ModelT", bound=BaseModel)


class _Resource(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Money(_Resource):
    """An amount as PayPal writes it."""

    currency_code: str
    value: Decimal

    @model_validator(mode="after")
    def _check(self) -> Self:
        minor = self._minor()
        if minor != int(minor):
            raise ValueError("has more decimals than the currency")
        return self

    def to_amount(self) -> Amount:
        """Return the amount in minor units."""
        return Amount(int(self._minor()), self.currency_code)

    def _minor(self) -> Decimal:
        if self.currency_code not in MINOR_DIGITS or not self.value.is_finite():
            raise ValueError("is no amount of a known currency")
        return self.value.scaleb(MINOR_DIGITS[self.currency_code])


class Link(_Resource):
    """A HATEOAS link."""

    rel: str
    href: str


class Authorization(_Resource):
    """A hold."""

    id: str
    status: str


class Capture(_Resource):
    """Money that was taken, or should have been."""

    id: str
    status: str
    amount: Money | None = None

    @property
    def is_charged(self) -> bool:
        """Whether the money was taken, also if it was refunded since."""
        return self.status in _CHARGED

    def to_result(self) -> ChargeResult:
        """Return the result of a capture that has charged the payer."""
        return ChargeResult(State.SUCCEEDED, amount=_read_amount(self.amount))


class Refund(_Resource):
    """Money that went back."""

    id: str
    status: str
    invoice_id: str = ""

    def to_result(self) -> RefundResult:
        """Return the state of the refund; an unknown one is PENDING."""
        state = _REFUND_STATES.get(self.status, RefundState.PENDING)
        return RefundResult(state, self.id if state is RefundState.SUCCEEDED else "")


class Payments(_Resource):
    """What an order has led to."""

    authorizations: tuple[Authorization, ...] = ()
    captures: tuple[Capture, ...] = ()
    refunds: tuple[Refund, ...] = ()


class PurchaseUnit(_Resource):
    """What is paid for: the adapter makes one per order."""

    amount: Money | None = None
    payments: Payments = Payments()


class Order(_Resource):
    """A payment that its payer approves: an intent."""

    id: str
    status: str
    purchase_units: tuple[PurchaseUnit]
    links: tuple[Link, ...] = ()

    @property
    def payments(self) -> Payments:
        """What it has led to."""
        return self.purchase_units[0].payments

    @property
    def holds(self) -> Sequence[str]:
        """The authorizations that hold money."""
        return [each.id for each in self.payments.authorizations if each.status in _HELD]

    def find_hold(self) -> str:
        """Return the authorization to capture; one that holds nothing any more if there is none."""
        ids = [each.id for each in self.payments.authorizations]
        return [*ids, *self.holds][-1] if ids else ""

    def find_capture(self) -> Capture | None:
        """Return the capture that has charged the payer."""
        return next((each for each in self.payments.captures if each.is_charged), None)

    def find_refund(self, invoice_id: str) -> Refund | None:
        """Return the refund with this invoice id."""
        refunds = self.payments.refunds
        return next((each for each in refunds if each.invoice_id == invoice_id), None)

    def to_result(self) -> ChargeResult:
        """Return the state of the payment."""
        if capture := self.find_capture():
            return capture.to_result()
        state, reason = self._decide()
        action = self._find_action() if state is State.REQUIRES_ACTION else None
        return ChargeResult(state, reason, action, _read_amount(self.purchase_units[0].amount))

    def _decide(self) -> tuple[State, str]:
        """Return the state of a payment that is not charged, and why it was declined."""
        if self.payments.authorizations:
            return self._decide_by_holds()
        if self.status in _NOT_APPROVED:
            return State.REQUIRES_ACTION, ""
        return _STATES.get(self.status, State.PROCESSING), ""

    def _decide_by_holds(self) -> tuple[State, str]:
        """What is not known to be released may still be charged."""
        holds = {each.status for each in self.payments.authorizations}
        captures = {each.status for each in self.payments.captures}
        if holds <= _RELEASED and captures <= _NOT_CHARGED:
            if captures:
                return State.DECLINED, "capture_declined"
            if holds == {"DENIED"}:
                return State.DECLINED, "authorization_denied"
            return State.CANCELLED, ""
        if "CREATED" in holds and captures <= _NOT_CHARGED:
            return State.REQUIRES_CAPTURE, ""
        return State.PROCESSING, ""

    def _find_action(self) -> Action | None:
        urls = [link.href for link in self.links if link.rel in ("payer-action", "approve")]
        return Action(redirect_url=urls[0]) if urls else None


class Created(_Resource):
    """A resource that was made."""

    id: str


class RelatedIds(_Resource):
    """The ids of the resources that a resource belongs to."""

    order_id: str = ""


class SupplementaryData(_Resource):
    """Further data of an authorization or a capture."""

    related_ids: RelatedIds = RelatedIds()


class EventResource(_Resource):
    """The resource of a webhook event, of any type."""

    id: str = ""
    supplementary_data: SupplementaryData = SupplementaryData()
    links: tuple[Link, ...] = ()

    @property
    def order_id(self) -> str:
        """The order that it belongs to, if it says so."""
        return self.supplementary_data.related_ids.order_id


class Event(_Resource):
    """A webhook event."""

    id: str
    event_type: str
    resource: EventResource


def parse(model: type[ModelT], found: dict[str, Any]) -> ModelT:
    """Read a resource.

    Raises:
        Unknown: it is something else.
    """
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise Unknown(f"PayPal returned no {model.__name__}.") from error


def _read_amount(money: Money | None) -> Amount | None:
    return None if money is None else money.to_amount()


def make_money(amount: Amount) -> dict[str, Any] | None:
    """Return an amount as PayPal reads it, or None if its currency has too few decimals there."""
    value = Decimal(amount.minor).scaleb(-MINOR_DIGITS[amount.currency_code])
    decimals = 0 if amount.currency_code in WITHOUT_DECIMALS else DECIMALS
    rounded = round(value, decimals)
    if rounded != value:
        return None
    return {"currency_code": amount.currency_code, "value": f"{rounded:.{decimals}f}"}
