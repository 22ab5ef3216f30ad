"""Which faults happen at which order of a run: decided by a seed, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

_TARGETS = {
    "order-1": 3,
    "order-2": 3,
    "payment-1": 2,
    "payment-2": 2,
    "product-1": 2,
    "product-2": 2,
    "user-1": 1,
    "user-2": 1,
    "gateway-1": 1,
    "gateway-2": 1,
    "worker of gateway-1": 1,
    "worker of gateway-2": 1,
}
"""How often programs are killed, in proportion; those that an order spends more time in, more."""
_FROZEN = ("order-1", "order-2", "payment-1", "product-2")
WORKER_OF = "worker of "
"""Begins the name of a target that is not a program but a worker process of one."""


class FaultKind(StrEnum):
    """What is done to a program."""

    KILL = "kill"
    STOP_AT_ONCE = "immediate stop"
    """PostgreSQL's immediate shutdown: without a checkpoint, so that the next start recovers."""
    FREEZE = "freeze"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that happens when so many orders have begun."""

    orders: int
    kind: FaultKind
    target: str


def make_schedule(
    seed: int, orders: int, *, kills: int, database_restarts: int, freezes: int
) -> Sequence[Fault]:
    """Return the faults of a run in their order, spread evenly over its orders."""
    random = Random(f"schedule {seed}")
    names, weights = list(_TARGETS), list(_TARGETS.values())
    chosen = [(FaultKind.KILL, name) for name in random.choices(names, weights, k=kills)]
    chosen += [
        (random.choice((FaultKind.KILL, FaultKind.STOP_AT_ONCE)), "postgres")
        for _ in range(database_restarts)
    ]
    random.shuffle(chosen)
    # The first of them has to end, and its effects to be seen, before the orders do.
    frozen = [(FaultKind.FREEZE, _FROZEN[number % len(_FROZEN)]) for number in range(freezes)]
    for number, freeze in enumerate(frozen):
        chosen.insert(number * len(chosen) // len(frozen), freeze)
    step = orders / (len(chosen) + 1)
    return [
        Fault(int(number * step), kind, target)
        for number, (kind, target) in enumerate(chosen, start=1)
    ]
