"""The orders, authorizations, captures and refunds of the fake, and PayPal's rules for them.

    order          CREATED | PAYER_ACTION_REQUIRED -> APPROVED -> COMPLETED | VOIDED
    authorization  CREATED -> CAPTURED | PARTIALLY_CAPTURED | VOIDED
    capture        COMPLETED -> PARTIALLY_REFUNDED -> REFUNDED; or DECLINED, or PENDING
    refund         COMPLETED

There is no way back from APPROVED but by expiry: the API has no call that cancels an order.
https://developer.paypal.com/docs/api/orders/v2/, https://developer.paypal.com/docs/api/payments/v2/
"""

import datetime as dt
import secrets
from collections.abc import Callable
from decimal import Decimal

from tools.fakes.paypal.clock import Clock
from tools.fakes.paypal.errors import PayPalError, not_found, unprocessable
from tools.fakes.paypal.money import Money
from tools.fakes.paypal.resources import Authorization, Capture, Instrument, Order, Refund

ORDER_LIFETIME = dt.timedelta(hours=3)
"""How long an order can be approved, and an approved one can be paid."""
AUTHORIZATION_LIFETIME = dt.timedelta(days=29)
REFUND_PERIOD = dt.timedelta(days=180)
OVERAGE = Decimal("1.15")
"""All captures of an authorization may be up to 115 % of it (MAX_CAPTURE_AMOUNT_EXCEEDED)."""
MAX_RESOURCES = 2_000_000
"""More are refused, which is no rule of PayPal but of the fake's memory."""


Notify = Callable[[str, Order | Authorization | Capture | Refund], None]
"""Sends an event of this type about a resource."""


class Books:
    """All that the fake knows, by id."""

    def __init__(self, clock: Clock, notify: Notify) -> None:
        self.orders: dict[str, Order] = {}
        """In the order of their ids."""
        self.authorizations: dict[str, Authorization] = {}
        self.captures: dict[str, Capture] = {}
        self.refunds: dict[str, Refund] = {}
        self._clock = clock
        self._notify = notify
        self._prefix = secrets.token_hex(4).upper()
        self._count = 0

    def make_id(self) -> str:
        """Return a new id of 17 characters, as PayPal's have; later ones sort after it."""
        if self._count >= MAX_RESOURCES:
            raise PayPalError(500, "INTERNAL_SERVER_ERROR", description="The fake is full.")
        self._count += 1
        return f"{self._prefix}{self._count:09}"

    def add_order(self, order: Order) -> Order:
        """Keep a new order."""
        self.orders[order.id] = order
        return order

    def find_order(self, order_id: str) -> Order:
        """Return an order; one that was not paid in time is gone."""
        order = self.orders.get(order_id)
        if order is None or self._is_expired(order):
            raise not_found()
        return order

    def approve(self, order: Order, instrument: Instrument) -> None:
        """Let the payer approve an order; a second time changes nothing."""
        if order.status not in ("CREATED", "PAYER_ACTION_REQUIRED"):
            return
        order.status = "APPROVED"
        order.instrument = instrument
        order.expiration_time = self._clock.now() + ORDER_LIFETIME
        self._notify("CHECKOUT.ORDER.APPROVED", order)

    def authorize(self, order_id: str, payer_link: str) -> Order:
        """Hold the money of an approved order."""
        order = self._find_payable(order_id, "AUTHORIZE", payer_link)
        now = self._clock.now()
        authorization = Authorization(
            self.make_id(), order, order.amount, now, now + AUTHORIZATION_LIFETIME
        )
        self.authorizations[authorization.id] = authorization
        order.authorizations.append(authorization)
        order.status = "COMPLETED"
        self._notify("PAYMENT.AUTHORIZATION.CREATED", authorization)
        return order

    def capture_order(self, order_id: str, payer_link: str) -> Order:
        """Take the money of an approved order with the intent CAPTURE, without holding it first."""
        order = self._find_payable(order_id, "CAPTURE", payer_link)
        self._add_capture(order, order.amount, order.invoice_id, final=True)
        order.status = "COMPLETED"
        return order

    def capture(
        self, authorization: Authorization, amount: Money | None, invoice_id: str, *, final: bool
    ) -> Capture:
        """Take money that is held: all of it without an amount."""
        amount = amount or authorization.amount
        self._check_capture(authorization, amount)
        order = authorization.order
        capture = self._add_capture(order, amount, invoice_id or order.invoice_id, final=final)
        authorization.captures.append(capture)
        if capture.status != "DECLINED":
            complete = final or _sum(authorization) >= authorization.amount.value
            authorization.status = "CAPTURED" if complete else "PARTIALLY_CAPTURED"
        return capture

    def void(self, authorization: Authorization) -> None:
        """Release money that is held."""
        if authorization.status == "VOIDED":
            raise unprocessable("PREVIOUSLY_VOIDED")
        if authorization.status == "CAPTURED":
            raise unprocessable("PREVIOUSLY_CAPTURED")
        authorization.status = "VOIDED"
        if not authorization.captures:
            authorization.order.status = "VOIDED"
        self._notify("PAYMENT.AUTHORIZATION.VOIDED", authorization)

    def refund(self, capture: Capture, amount: Money | None, invoice_id: str) -> Refund:
        """Give money back: all that remains without an amount. An invoice id may be repeated."""
        remaining = capture.amount.value - capture.refunded
        amount = amount or capture.amount.with_value(remaining)
        self._check_refund(capture, amount, remaining)
        refund = Refund(self.make_id(), capture, amount, invoice_id, self._clock.now())
        self.refunds[refund.id] = refund
        capture.refunds.append(refund)
        capture.status = "REFUNDED" if amount.value == remaining else "PARTIALLY_REFUNDED"
        self._notify("PAYMENT.CAPTURE.REFUNDED", refund)
        return refund

    def _is_expired(self, order: Order) -> bool:
        unpaid = order.status not in ("COMPLETED", "VOIDED")
        return unpaid and self._clock.now() >= order.expiration_time

    def _find_payable(self, order_id: str, intent: str, payer_link: str) -> Order:
        order = self.orders.get(order_id)
        if order is None:
            raise not_found()
        if order.intent != intent:
            raise unprocessable("ACTION_DOES_NOT_MATCH_INTENT")
        if order.authorizations:
            raise unprocessable("ORDER_ALREADY_AUTHORIZED")
        if order.captures:
            raise unprocessable("ORDER_ALREADY_CAPTURED")
        if self._is_expired(order):
            raise unprocessable("ORDER_EXPIRED")
        if order.status != "APPROVED":
            raise unprocessable("ORDER_NOT_APPROVED", payer_link)
        self._check_instrument(order, payer_link)
        return order

    def _check_instrument(self, order: Order, payer_link: str) -> None:
        issues = {
            Instrument.DECLINED: "INSTRUMENT_DECLINED",
            Instrument.CHALLENGED: "PAYER_ACTION_REQUIRED",
        }
        if issue := issues.get(order.instrument):
            order.status = "PAYER_ACTION_REQUIRED"
            raise unprocessable(issue, payer_link)

    def _check_capture(self, authorization: Authorization, amount: Money) -> None:
        if error := _find_capture_error(authorization, amount, self._clock.now()):
            raise error

    def _add_capture(self, order: Order, amount: Money, invoice_id: str, *, final: bool) -> Capture:
        statuses = {
            Instrument.CAPTURE_DECLINED: "DECLINED",
            Instrument.CAPTURE_PENDING: "PENDING",
        }
        status = statuses.get(order.instrument, "COMPLETED")
        capture = Capture(
            self.make_id(), order, amount, invoice_id, final, status, self._clock.now()
        )
        self.captures[capture.id] = capture
        order.captures.append(capture)
        events = {"DECLINED": "DENIED", "PENDING": "PENDING", "COMPLETED": "COMPLETED"}
        self._notify(f"PAYMENT.CAPTURE.{events[status]}", capture)
        return capture

    def _check_refund(self, capture: Capture, amount: Money, remaining: Decimal) -> None:
        if capture.status in ("DECLINED", "PENDING"):
            raise unprocessable("TRANSACTION_REFUSED")
        if amount.currency_code != capture.amount.currency_code:
            raise unprocessable("REFUND_CAPTURE_CURRENCY_MISMATCH")
        if remaining == 0:
            raise unprocessable("CAPTURE_FULLY_REFUNDED")
        if amount.value > remaining:
            raise unprocessable("REFUND_AMOUNT_EXCEEDED")
        if self._clock.now() >= capture.create_time + REFUND_PERIOD:
            raise unprocessable("REFUND_TIME_LIMIT_EXCEEDED")


def _sum(authorization: Authorization) -> Decimal:
    """Return what was taken of an authorization."""
    taken = (each for each in authorization.captures if each.status != "DECLINED")
    return sum((capture.amount.value for capture in taken), Decimal())


def _find_capture_error(
    authorization: Authorization, amount: Money, now: dt.datetime
) -> PayPalError | None:
    if authorization.status == "VOIDED":
        return unprocessable("AUTHORIZATION_VOIDED")
    if authorization.status == "CAPTURED":
        return unprocessable("AUTHORIZATION_ALREADY_CAPTURED")
    if now >= authorization.expiration_time:
        return unprocessable("AUTHORIZATION_EXPIRED")
    if amount.currency_code != authorization.amount.currency_code:
        return unprocessable("AUTH_CAPTURE_CURRENCY_MISMATCH")
    if _sum(authorization) + amount.value > authorization.amount.value * OVERAGE:
        return unprocessable("MAX_CAPTURE_AMOUNT_EXCEEDED")
    return None
