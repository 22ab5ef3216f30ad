"""Events: what is recorded of every change of an order. No I/O, no clock, no protobuf."""

import datetime as dt
import uuid
from dataclasses import dataclass
from enum import StrEnum

from chassis.money import Amount
from services.order.domain import State
from services.order.refund import RefundState


class Cause(StrEnum):
    """What made an order change, as its events record it."""

    CLIENT = "CLIENT"
    """A request of a client."""
    WORKER = "WORKER"
    """The worker, which continues what was interrupted."""
    MIGRATION = "MIGRATION"
    """The order is older than the log of events, which begins with its state at that time."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an event is in the log of all events: by its transaction, then by its id."""

    transaction: int
    event: int


@dataclass(frozen=True, slots=True)
class RefundChange:
    """A refund that began, or got its final state."""

    number: int
    state: RefundState
    amount: Amount


@dataclass(frozen=True, slots=True)
class Event:
    """A change of an order, or of a refund of it: the version and the state of the order then."""

    position: Position
    order_id: uuid.UUID
    version: int
    state: State
    cause: Cause
    refusal_reason: str
    action_required: bool
    event_time: dt.datetime
    refund: RefundChange | None = None
