"""The resources of the APIs Orders v2 and Payments v2. Their rules are in `books`."""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from tools.fakes.paypal.money import Money


class Instrument(StrEnum):
    """What happens to the funding source that the payer has chosen."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    """The authorization is refused with INSTRUMENT_DECLINED, and the payer may choose again.

    https://developer.paypal.com/docs/checkout/standard/customize/handle-funding-failures/
    """
    CHALLENGED = "challenged"
    """The authorization is refused with PAYER_ACTION_REQUIRED."""
    CAPTURE_DECLINED = "capture_declined"
    CAPTURE_PENDING = "capture_pending"


@dataclass(slots=True)
class Refund:
    """Money of a capture that went back."""

    id: str
    capture: "Capture"
    amount: Money
    invoice_id: str
    create_time: dt.datetime
    status: str = "COMPLETED"


@dataclass(slots=True)
class Capture:
    """Money that was taken."""

    id: str
    order: "Order"
    amount: Money
    invoice_id: str
    final: bool
    status: str
    create_time: dt.datetime
    refunds: list[Refund] = field(default_factory=list)

    @property
    def refunded(self) -> Decimal:
        """What was refunded of it."""
        return sum((refund.amount.value for refund in self.refunds), Decimal())


@dataclass(slots=True)
class Authorization:
    """A hold on money of the payer."""

    id: str
    order: "Order"
    amount: Money
    create_time: dt.datetime
    expiration_time: dt.datetime
    status: str = "CREATED"
    captures: list[Capture] = field(default_factory=list)


@dataclass(slots=True)
class Order:
    """A payment that a payer approves."""

    id: str
    intent: str
    amount: Money
    custom_id: str
    invoice_id: str
    return_url: str
    cancel_url: str
    status: str
    create_time: dt.datetime
    expiration_time: dt.datetime
    instrument: Instrument = Instrument.ACCEPTED
    authorizations: list[Authorization] = field(default_factory=list)
    captures: list[Capture] = field(default_factory=list)

    @property
    def refunds(self) -> list[Refund]:
        """All refunds of its captures."""
        return [refund for capture in self.captures for refund in capture.refunds]
