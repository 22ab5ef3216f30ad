"""Faults of calls that come in spells, as those of networks do.

A call whose repetitions fail as well leaves an order where only recovery, or compensation, gets it
on; faults that are spread evenly do that too rarely.
"""

import time
from collections.abc import Callable
from random import Random

from tools.chaos.proxy import CallFault

CALM_SECONDS, SPELL_SECONDS = 8.0, 2.0
"""How long it is calm, and how long a spell of faults of one kind lasts, on average."""
CALM_RATE, SPELL_RATE = 0.03, 0.6
"""The shares of calls that have a fault."""


class Spells:
    """Chooses the fault of each call of one service."""

    def __init__(self, random: Random, clock: Callable[[], float] = time.monotonic) -> None:
        self._random = random
        self._clock = clock
        self._spell: CallFault | None = None
        self._end = 0.0

    def __call__(self) -> CallFault | None:
        """Return the fault of the next call; None for none."""
        if self._clock() > self._end:
            self._change()
        if self._spell is not None:
            return self._spell if self._random.random() < SPELL_RATE else None
        return self._draw() if self._random.random() < CALM_RATE else None

    def _change(self) -> None:
        was_calm = self._spell is None
        self._spell = self._draw() if was_calm else None
        seconds = SPELL_SECONDS if was_calm else CALM_SECONDS
        self._end = self._clock() + self._random.expovariate(1 / seconds)

    def _draw(self) -> CallFault:
        return self._random.choice(list(CallFault))
