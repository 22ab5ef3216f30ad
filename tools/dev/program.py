"""A supervised program: started, awaited until it is ready, and restarted when it dies.

What the program is comes from outside. Its processes are started by the event loop's thread, which
has to be the main thread, so that they can be tethered to it (tools/postgres/tether.py).
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.dev.threads import run_in_thread

LOG_TAIL_LINES = 10
LOG_TAIL_BYTES = 8_192

Process = asyncio.subprocess.Process
Report = Callable[[str], None]


class ProgramError(Exception):
    """A program did not start; the message names it and the reason."""


@dataclass(frozen=True)
class Program:
    """What to run, and when it counts as ready.

    `prepare` is called before each start, in a thread. `wait_until_ready` gets the process id; it
    is cancelled when that process dies. `explain` returns, for people, what it still waits for.
    """

    name: str
    command: Sequence[str]
    log_path: Path
    wait_until_ready: Callable[[int], Coroutine[Any, Any, None]]
    address: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    prepare: Callable[[], None] = lambda: None
    explain: Callable[[], str] = lambda: ""
    environment: Mapping[str, str] | None = None
    """All variables of the program; None is the environment of this process."""


@dataclass(frozen=True)
class Patience:
    """How long things may take. The delay between restarts doubles from the first to the last."""

    ready_seconds: float = 60
    stop_seconds: float = 30
    first_delay_seconds: float = 0.5
    last_delay_seconds: float = 30
    # What lasted this long has recovered, and its next death is a first one.
    recovered_seconds: float = 60


class RunningProgram:
    """A program with at most one process of it at any time.

    The file descriptors in `inherited` stay open in the process. `report` gets texts for people.
    """

    def __init__(
        self,
        program: Program,
        report: Report,
        *,
        inherited: Sequence[int] = (),
        patience: Patience = Patience(),
    ) -> None:
        self.program = program
        self._report = report
        self._inherited = inherited
        self._patience = patience
        self.starts = 0
        """How many processes of it were started."""
        self._process: Process | None = None
        self._is_ready = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        """The id of its process; None while there is none that is ready."""
        process = self._process
        if process is None or process.returncode is not None or not self._is_ready:
            return None
        return process.pid

    async def start(self) -> None:
        """Start it, wait until it is ready, and from then on restart it whenever it dies.

        Raises:
            ProgramError: It died or was not ready in time. No process of it is left.
        """
        process = await self._start_process()
        self._keeper = asyncio.create_task(self._keep(process))

    async def watch(self) -> None:
        """Wait as long as the program is supervised; raise what ends the supervision by mistake."""
        if self._keeper is not None:
            await self._keeper

    async def stop(self, stop_signal: signal.Signals | None = None) -> int | None:
        """End it, by its signal, or by SIGKILL when that takes too long, until it is started again.

        A `stop_signal` takes the place of its own.

        Return the exit status of its process, if there was one. When this is cancelled, SIGKILL is
        sent at once.
        """
        try:
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.wait((self._keeper,))
        finally:
            status = await self._end_process(stop_signal or self.program.stop_signal)
        return status

    async def _start_process(self) -> Process:
        self._is_ready = False
        await run_in_thread(self.program.prepare)
        with self.program.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.program.environment,
                pass_fds=self._inherited,
                # A session of its own: Ctrl-C is for the runner, which ends things in order.
                start_new_session=True,
            )
        self._process = process
        self.starts += 1
        try:
            await self._wait_until_ready(process)
        except BaseException:
            await self._end_process(self.program.stop_signal)
            raise
        self._is_ready = True
        return process

    async def _wait_until_ready(self, process: Process) -> None:
        ready = asyncio.create_task(self.program.wait_until_ready(process.pid))
        died = asyncio.create_task(process.wait())
        timeout_seconds = self._patience.ready_seconds
        try:
            done, _ = await asyncio.wait(
                (ready, died), timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
            died.cancel()
        if died in done:
            raise ProgramError(self._describe_death(died.result()))
        if ready not in done:
            raise ProgramError(self._describe_delay(timeout_seconds))
        ready.result()

    async def _keep(self, process: Process) -> None:
        delay_seconds = self._patience.first_delay_seconds
        started = time.monotonic()
        while True:
            status = await process.wait()
            self._end_group(process)
            if time.monotonic() - started > self._patience.recovered_seconds:
                delay_seconds = self._patience.first_delay_seconds
            reason = self._describe_death(status)
            while True:
                self._report(f"{reason}\n{self.program.name} restarts in {delay_seconds:g} s")
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(2 * delay_seconds, self._patience.last_delay_seconds)
                started = time.monotonic()
                try:
                    process = await self._start_process()
                except ProgramError as error:
                    reason = str(error)
                else:
                    break
            self._report(f"{self.program.name} is ready again")

    async def _end_process(self, stop_signal: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            if process.returncode is None:
                process.send_signal(stop_signal)
                await asyncio.wait_for(process.wait(), self._patience.stop_seconds)
        except TimeoutError:
            self._report(f"{self.program.name} does not stop and is killed")
        finally:
            self._end_group(process)
            await process.wait()
        return process.returncode

    def _end_group(self, process: Process) -> None:
        """Kill what is left of a process and of those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _describe_death(self, status: int) -> str:
        if status < 0:
            end = f"was killed by {signal.Signals(-status).name}"
        else:
            end = f"ended with exit status {status}"
        return f"{self.program.name} {end}{self._tail()}"

    def _describe_delay(self, timeout_seconds: float) -> str:
        reason = self.program.explain()
        return (
            f"{self.program.name} was not ready within {timeout_seconds:g} s"
            f"{reason and ': '}{reason}{self._tail()}"
        )

    def _tail(self) -> str:
        """Return the last lines of the log, to be put after a message."""
        with self.program.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        lines = [f"    {line}" for line in text.splitlines()[-LOG_TAIL_LINES:]]
        return "\n".join([f"; its log {self.program.log_path} ends with", *lines])
