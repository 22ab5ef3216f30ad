"""Inflicts the scheduled faults on the programs of the shop."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tools.chaos.pace import Pace
from tools.chaos.record import Finding
from tools.chaos.schedule import WORKER_OF, Fault, FaultKind
from tools.chaos.shop import ReplicatedShop
from tools.dev.program import ProgramError

MAX_UNREADY = 3
"""While so many programs are down, the next fault waits: else all would be, and nothing happen."""
COMEBACK_SECONDS = 120.0
FREEZE_SECONDS = 35.0
"""Longer than the leases of orders, which are 30 s."""
_POLL_SECONDS = 0.02

_SIGNALS = {
    FaultKind.KILL: signal.SIGKILL,
    FaultKind.STOP_AT_ONCE: signal.SIGQUIT,
    FaultKind.FREEZE: signal.SIGSTOP,
}


class Faults:
    """Inflicts a schedule of faults in the pace of the orders."""

    def __init__(self, shop: ReplicatedShop, schedule: Sequence[Fault], pace: Pace) -> None:
        self.kills: Counter[str] = Counter()
        """How many processes of each target were killed."""
        self.freezes = 0
        self.done = 0
        self.scheduled = len(schedule)
        self._shop = shop
        self._schedule = schedule
        self._pace = pace
        self._killed: dict[str, int] = {}

    async def run(self) -> None:
        """Inflict all faults; return when what was frozen is awake.

        Raises:
            ProgramError: a program does not come back.
        """
        async with asyncio.TaskGroup() as freezes:
            for fault in self._schedule:
                await self._pace.reach(fault.orders)
                process_id = await self._signal(fault.target, _SIGNALS[fault.kind])
                if fault.kind is FaultKind.FREEZE:
                    self.freezes += 1
                    freezes.create_task(self._wake_later(process_id))
                else:
                    self.kills[fault.target] += 1
                    self._killed[fault.target] = process_id
                self.done += 1
            await self._pace.release()

    def find_other_deaths(self) -> Finding:
        """Compare the starts of programs with their kills."""
        found = Finding()
        for name, program in self._shop.programs.items():
            kills = self.kills[name]
            found.note(
                program.starts != 1 + kills, f"{name}: {program.starts} starts, {kills} kills"
            )
        return found

    async def _signal(self, target: str, number: signal.Signals) -> int:
        """Send a signal to a process, once it is there; return its id."""
        while True:
            process_id = await self._find(target)
            with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
                os.kill(process_id, number)
                return process_id

    async def _find(self, target: str) -> int:
        """Wait until the process is there and not too many others are down; return its id."""
        give_up = time.monotonic() + COMEBACK_SECONDS
        while time.monotonic() < give_up:
            process_id = self._look_for(target)
            if process_id is not None and len(self._shop.list_unready()) < MAX_UNREADY:
                return process_id
            await asyncio.sleep(_POLL_SECONDS)
        raise ProgramError(f"{target} did not come back within {COMEBACK_SECONDS:g} s")

    def _look_for(self, target: str) -> int | None:
        """Return the id of a process that is ready and alive, as far as can be seen."""
        process_id = self._shop.programs[target.removeprefix(WORKER_OF)].process_id
        if process_id is not None and target.startswith(WORKER_OF):
            process_id = next(iter(_list_children(process_id)), None)
        return process_id if process_id != self._killed.get(target) else None

    async def _wake_later(self, process_id: int) -> None:
        try:
            await asyncio.sleep(FREEZE_SECONDS)
        finally:
            # It may have been killed in its sleep.
            if any(program.process_id == process_id for program in self._shop.programs.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGCONT)


def _list_children(process_id: int) -> list[int]:
    path = Path(f"/proc/{process_id}/task/{process_id}/children")
    try:
        return [int(child) for child in path.read_text(encoding="ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
