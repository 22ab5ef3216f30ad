"""The cases of the schedule: a path, the step of it that a fault hits, and who goes on.

Every case is run while prices change, with a payment provider that forgets every key at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.order.domain import State
from services.order.schedule.faults import LATE, REPEATED, REPEATED_AT_ONCE, Fault, faults_of
from services.order.schedule.paths import (
    ACCEPTED,
    CANCELLING,
    Driver,
    Message,
    Path,
    Step,
    walk,
)

_FINISHERS = {
    # A message is only late once the order was compensated for.
    LATE: (Driver.CANCEL,),
    REPEATED: (Driver.WORKER,),
    REPEATED_AT_ONCE: (Driver.WORKER,),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A fault that hits a step of a path, after which `finisher` drives the order."""

    path: Path
    step: Step
    fault: Fault
    finisher: Driver

    def __str__(self) -> str:
        """Return what the test is called by."""
        return f"{self.path.name}, {self.step.name}: {self.fault.name}, then {self.finisher}"

    @property
    def final_state(self) -> State:
        """The only state that the order may end in: the first decision that takes effect counts."""
        happened = self._happened()
        for step in happened:
            if step == CANCELLING:
                return State.CANCELLED
            if self.path.can_be_charged and isinstance(step, Message) and step.charges:
                return State.CONFIRMED
        is_accepted = self.path.is_placed or ACCEPTED in happened
        is_cancelled = self.finisher is Driver.CANCEL and is_accepted
        can_be_confirmed = self.path.can_be_charged and not is_cancelled
        return State.CONFIRMED if can_be_confirmed else State.CANCELLED

    def _happened(self) -> list[Step]:
        """Return the steps that take effect before the finisher does anything."""
        steps = list(walk(self.path.steps))
        if self.fault in {REPEATED, REPEATED_AT_ONCE}:
            return steps
        happened = steps[: steps.index(self.step)]
        return [*happened, *walk([self.step])] if self.fault.happens else happened


def list_cases(*paths: Path) -> list[Case]:
    """List every case of paths."""
    return [
        Case(path, step, fault, finisher)
        for path in paths
        for step in walk(path.steps)
        for fault in faults_of(step)
        for finisher in _list_finishers(path, fault)
    ]


def _list_finishers(path: Path, fault: Fault) -> Sequence[Driver]:
    if path.driver is Driver.REFUND:
        return (Driver.WORKER, Driver.REFUND)
    return _FINISHERS.get(fault, (Driver.WORKER, Driver.CANCEL))
