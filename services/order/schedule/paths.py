"""The paths of orders through the protocol: who drives an order, and the steps that this takes.

A step is a message from one party to another, or a commit of one of them. A new step of the
protocol is a line in every path that takes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from services.order.testing import CARD, DECLINED_CARD


@dataclass(frozen=True, slots=True)
class Message:
    """A call of another service or of the payment provider, and the steps that serve it."""

    name: str
    steps: tuple[Step, ...] = ()
    """They happen before the response."""
    charges: bool = False
    """Whether this is what charges an order that can be charged."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a service, by what it writes."""

    name: str
    steps: tuple[Step, ...] = ()


Step: TypeAlias = Message | Commit


class Driver(StrEnum):
    """Who drives an order: a client that places, cancels or refunds it, or the worker."""

    PLACE = "place"
    CANCEL = "cancel"
    REFUND = "refund"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Path:
    """A path of a new order, or of one whose placement ended with less than a final order."""

    name: str
    driver: Driver
    steps: tuple[Step, ...]
    payment_method: str = CARD
    approved: bool = False
    """Whether the order was placed, and its customer has approved the payment."""
    lost: str = ""
    """The message whose loss interrupted the placement."""
    lost_again: bool = False
    """Whether that message is lost on the path as well."""

    @property
    def is_placed(self) -> bool:
        """Whether the order was placed before."""
        return self.approved or self.lost != "" or self.driver is Driver.REFUND

    @property
    def can_be_charged(self) -> bool:
        """Whether the payment method is good."""
        return self.payment_method != DECLINED_CARD


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield all steps in the order in which they begin."""
    for step in steps:
        yield step
        yield from walk(step.steps)


ACCEPTED = Commit("accept_orders")
CHARGED = Message("confirm", charges=True)
CANCELLING = Commit("save_orders CANCELLING")

_RESERVED = (
    Message("reserve_stock", (Commit("reserve"),)),
    Commit("save_orders PAYING"),
)
_CAPTURED = (
    Message("pin_stock", (Commit("pin"),)),
    Message(
        "capture_payments",
        (Message("capture", charges=True), Commit("update_payments SUCCEEDED")),
    ),
)
_CONFIRMED = (
    Message("commit_stock", (Commit("commit"),)),
    Commit("save_orders CONFIRMED"),
)
_CANCELLED = (
    Message("release_stock", (Commit("release"),)),
    Commit("save_orders CANCELLED"),
)

CONFIRMATION = Path(
    "confirmation",
    Driver.PLACE,
    (
        Message("find_users"),
        ACCEPTED,
        *_RESERVED,
        Message(
            "charge",
            (
                Message("create_intents"),
                Commit("insert_payments PROCESSING"),
                CHARGED,
                Commit("update_payments SUCCEEDED"),
            ),
        ),
        *_CONFIRMED,
    ),
)
MANUAL_CAPTURE = Path(
    "manual capture",
    Driver.PLACE,
    (
        Message("find_users"),
        ACCEPTED,
        *_RESERVED,
        Message(
            "charge",
            (
                Message("create_intents"),
                Commit("insert_payments PROCESSING"),
                Message("confirm"),
            ),
        ),
        *_CAPTURED,
        *_CONFIRMED,
    ),
    payment_method="sandbox:pm_card_visa",
)
APPROVAL = Path(
    "approval",
    Driver.WORKER,
    (
        Commit("claim"),
        Message("charge", (Message("confirm"),)),
        *_CAPTURED,
        *_CONFIRMED,
    ),
    payment_method="sandbox:pm_sandbox_action",
    approved=True,
)
DECLINE = Path(
    "decline",
    Driver.PLACE,
    (
        Message("find_users"),
        ACCEPTED,
        *_RESERVED,
        Message(
            "charge",
            (
                Message("create_intents"),
                Commit("insert_payments PROCESSING"),
                CHARGED,
                Commit("update_payments DECLINED"),
            ),
        ),
        CANCELLING,
        Message("cancel_payments", (Commit("insert_payments CANCELLED"), Message("cancel"))),
        *_CANCELLED,
    ),
    payment_method=DECLINED_CARD,
)
CANCELLATION = Path(
    "cancellation",
    Driver.CANCEL,
    (
        CANCELLING,
        Message(
            "cancel_payments",
            (
                Commit("insert_payments CANCELLED"),
                Message("cancel"),
                Commit("update_payments CANCELLED"),
            ),
        ),
        *_CANCELLED,
    ),
    lost="confirm",
)
TOMBSTONES = Path(
    "tombstones",
    Driver.CANCEL,
    (
        CANCELLING,
        Message("cancel_payments", (Commit("insert_payments CANCELLED"),)),
        *_CANCELLED,
    ),
    lost="reserve_stock",
)
RECOVERY = Path(
    "recovery",
    Driver.WORKER,
    (
        Commit("claim"),
        Message("charge", (CHARGED, Commit("update_payments SUCCEEDED"))),
        *_CONFIRMED,
    ),
    lost="confirm",
)
POSTPONEMENT = Path(
    "postponement",
    Driver.WORKER,
    (Commit("claim"), Message("reserve_stock"), Commit("postpone")),
    lost="reserve_stock",
    lost_again=True,
)
REFUND = Path(
    "refund",
    Driver.REFUND,
    (
        Commit("accept_refund"),
        Message(
            "refund_payments",
            (
                Commit("insert_refunds PENDING"),
                Message("refund"),
                # In one transaction.
                Commit("update_refunds SUCCEEDED"),
                Commit("update_payments SUCCEEDED"),
            ),
        ),
        Message("return_stock", (Commit("return_units"),)),
        Commit("settle_refunds SUCCEEDED"),
    ),
)
