"""The lock that lets one runner at a time use a data directory.

The processes of a runner inherit it: it is free only when the last one of them has gone, so a new
runner never meets those that a killed one left behind.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tools.dev.holders import describe, find_file_holders

_WAIT_SECONDS = 40.0
_POLL_SECONDS = 0.05


class LockError(Exception):
    """Another process uses the directory; the message names it, and says what to do."""


@contextlib.asynccontextmanager
async def hold(directory: Path) -> AsyncIterator[int]:
    """Hold the lock of the directory and give its file descriptor, for processes to inherit.

    Waits for the processes of a runner that was killed to end.

    Raises:
        LockError: Another runner lives, or what a killed one left does not end.
    """
    path = directory / "lock"
    deadline = time.monotonic() + _WAIT_SECONDS
    with path.open("a+", encoding="ascii") as file:
        while not _try_lock(file.fileno()):
            _check_may_wait(path, deadline)
            await asyncio.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_may_wait(path: Path, deadline: float) -> None:
    owner = int(path.read_text(encoding="ascii") or "0")
    holders = [holder for holder in find_file_holders(path) if holder != os.getpid()]
    late = time.monotonic() > deadline
    # No holder is found if the last one has just ended, or if /proc does not show it.
    if owner in holders or (late and not holders):
        raise LockError(
            f"{path.parent} is in use by another run, {describe(owner)}:"
            f" end it with Ctrl-C in its terminal, or with kill {owner}"
        )
    if late:
        left = ", ".join(describe(holder) for holder in holders)
        raise LockError(f"a run that was killed left processes that do not end: {left}")
