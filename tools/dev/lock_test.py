"""One runner at a time, also right after one was killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.dev import lock
from tools.dev.lock import LockError

# Holds the lock, lets a child inherit it, prints the child's process id and waits.
_HOLD = """
import asyncio, subprocess, sys
from pathlib import Path
from tools.dev import lock

async def main():
    async with lock.hold(Path(sys.argv[1])) as descriptor:
        child = subprocess.Popen(["sleep", "1000"], pass_fds=[descriptor])
        print(child.pid, flush=True)
        child.wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def _run_holder(directory: Path) -> Iterator[tuple[int, int]]:
    """Yield the process ids of one who holds the lock and of its child, who inherited it."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    with holder:
        assert holder.stdout is not None
        try:
            yield holder.pid, int(holder.stdout.readline())
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


async def test_another_runner_is_refused_by_name(tmp_path: Path) -> None:
    with _run_holder(tmp_path) as (holder, _):
        message = rf"another run, process {holder} \((?s:.*)kill {holder}"
        with pytest.raises(LockError, match=message):
            async with lock.hold(tmp_path):
                pass


async def test_what_a_killed_runner_left_is_waited_for(tmp_path: Path) -> None:
    async def take() -> None:
        async with lock.hold(tmp_path):
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"

    with _run_holder(tmp_path) as (holder, child):
        os.kill(holder, signal.SIGKILL)
        # Blocks for no longer than the kernel takes to end it.
        os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        taking = asyncio.create_task(take())
        done, _ = await asyncio.wait((taking,), timeout=0.5)
        assert not done, "its child still runs"
        os.kill(child, signal.SIGKILL)
        await asyncio.wait_for(taking, 20)


async def test_the_lock_is_free_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        async with lock.hold(tmp_path):
            pass
