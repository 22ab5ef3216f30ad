"""Supervised programs as real processes: short shell scripts in place of servers."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tools.dev.program import Patience, Program, ProgramError, RunningProgram
from tools.postgres.tether import tether

# Reports that it is ready by a file with its process id, and then keeps running.
_STAY = 'echo "last words"; echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 1000'


class Reports:
    """What people get to read, as it comes."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, text: str) -> None:
        self.texts.append(text)
        self._changed.set()

    async def wait_for(self, part: str) -> str:
        async with asyncio.timeout(20):
            while True:
                for text in self.texts:
                    if part in text:
                        return text
                self._changed.clear()
                await self._changed.wait()


def _is_alive(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # It ended before, or while it was read.
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - other processes are at work.
            await asyncio.sleep(0.005)


def _describe(
    directory: Path, script: str, *, prepare: Callable[[], None] = lambda: None
) -> Program:
    marker = directory / "ready"

    async def wait_until_ready(process_id: int) -> None:
        await _until(lambda: marker.exists() and marker.read_text() == f"{process_id}\n")

    command = ["sh", "-c", script, str(marker)]
    return Program("lamp", command, directory / "lamp.log", wait_until_ready, prepare=prepare)


def _read_process_id(directory: Path) -> int:
    return int((directory / "ready").read_text())


_QUICK = Patience(first_delay_seconds=0.01, last_delay_seconds=0.04)


async def test_what_dies_is_restarted_and_the_reason_is_reported(tmp_path: Path) -> None:
    reports = Reports()
    running = RunningProgram(_describe(tmp_path, _STAY), reports, patience=_QUICK)
    await running.start()
    first = _read_process_id(tmp_path)
    os.kill(first, signal.SIGKILL)
    death = await reports.wait_for("lamp was killed by SIGKILL")
    assert "    last words" in death
    assert death.endswith("lamp restarts in 0.01 s")
    await reports.wait_for("lamp is ready again")
    second = _read_process_id(tmp_path)
    assert second != first
    assert _is_alive(second)
    await running.stop()
    assert not _is_alive(second)


async def test_only_a_process_that_is_ready_has_an_id(tmp_path: Path) -> None:
    reports = Reports()
    running = RunningProgram(_describe(tmp_path, _STAY), reports, patience=_QUICK)
    seen = [(running.process_id, running.starts)]
    await running.start()
    seen.append((running.process_id, running.starts))
    first = _read_process_id(tmp_path)
    os.kill(first, signal.SIGKILL)
    await reports.wait_for("restarts in")
    seen.append((running.process_id, running.starts))
    await reports.wait_for("lamp is ready again")
    seen.append((running.process_id, running.starts))
    await running.stop()
    seen.append((running.process_id, running.starts))
    second = _read_process_id(tmp_path)
    assert seen == [(None, 0), (first, 1), (None, 1), (second, 2), (None, 2)]


async def test_a_program_may_have_an_environment_of_its_own(tmp_path: Path) -> None:
    described = _describe(tmp_path, f'echo "$LAMP $HOME"; {_STAY}')
    environment = {"PATH": os.environ["PATH"], "LAMP": "lit"}
    running = RunningProgram(replace(described, environment=environment), Reports())
    await running.start()
    await running.stop()
    assert described.log_path.read_text().startswith("lit \n")


async def test_what_the_dead_left_behind_ends_before_the_restart(tmp_path: Path) -> None:
    reports = Reports()
    script = f'sleep 1000 & echo $! > "$0.child"; {_STAY}'
    running = RunningProgram(_describe(tmp_path, script), reports, patience=_QUICK)
    await running.start()
    child = int((tmp_path / "ready.child").read_text())
    os.kill(_read_process_id(tmp_path), signal.SIGKILL)
    await reports.wait_for("restarts in")
    await _until(lambda: not _is_alive(child))
    await running.stop()


async def test_delays_double_up_to_the_last(tmp_path: Path) -> None:
    reports = Reports()
    script = f'[ -e "$0" ] && exit 3; {_STAY}'
    running = RunningProgram(_describe(tmp_path, script), reports, patience=_QUICK)
    await running.start()
    os.kill(_read_process_id(tmp_path), signal.SIGKILL)
    await _until(lambda: len(reports.texts) >= 5)
    await running.stop()
    delays = [text.rpartition("restarts in ")[2] for text in reports.texts[:5]]
    assert delays == ["0.01 s", "0.02 s", "0.04 s", "0.04 s", "0.04 s"]
    assert "lamp ended with exit status 3" in reports.texts[1]


async def test_what_lasted_begins_with_the_first_delay_again(tmp_path: Path) -> None:
    reports = Reports()
    patience = Patience(first_delay_seconds=0.01, recovered_seconds=0)
    running = RunningProgram(_describe(tmp_path, _STAY), reports, patience=patience)
    await running.start()
    for _ in range(3):
        reports.texts.clear()
        os.kill(_read_process_id(tmp_path), signal.SIGKILL)
        assert (await reports.wait_for("killed")).endswith("restarts in 0.01 s")
        await reports.wait_for("ready again")
    await running.stop()


async def test_an_obstacle_before_a_restart_is_a_failed_restart(tmp_path: Path) -> None:
    reports = Reports()
    obstacles = iter((None, ProgramError("in the way"), None))

    def prepare() -> None:
        if obstacle := next(obstacles):
            raise obstacle

    program = _describe(tmp_path, _STAY, prepare=prepare)
    running = RunningProgram(program, reports, patience=_QUICK)
    await running.start()
    os.kill(_read_process_id(tmp_path), signal.SIGKILL)
    assert (await reports.wait_for("in the way")).endswith("restarts in 0.02 s")
    await reports.wait_for("ready again")
    await running.stop()


async def test_death_before_it_is_ready_is_an_error(tmp_path: Path) -> None:
    program = _describe(tmp_path, "echo APIGATEWAY_PORT is bad >&2; exit 78")
    running = RunningProgram(program, Reports())
    with pytest.raises(ProgramError, match=r"lamp ended with exit status 78(?s:.*)PORT is bad"):
        await running.start()


async def test_what_is_never_ready_is_an_error_and_ends(tmp_path: Path) -> None:
    script = f"{_STAY.replace('$0', '$0.other')}"
    running = RunningProgram(
        _describe(tmp_path, script), Reports(), patience=Patience(ready_seconds=0.3)
    )
    with pytest.raises(ProgramError, match=r"lamp was not ready within 0\.3 s"):
        await running.start()
    assert not _is_alive(int((tmp_path / "ready.other").read_text()))


async def test_what_is_never_ready_says_what_it_waits_for(tmp_path: Path) -> None:
    program = replace(_describe(tmp_path, "exec sleep 1000"), explain=lambda: "no oil")
    running = RunningProgram(program, Reports(), patience=Patience(ready_seconds=0.1))
    with pytest.raises(ProgramError, match=r"lamp was not ready within 0\.1 s: no oil; its log"):
        await running.start()


async def test_cancelling_does_not_wait_for_preparations(tmp_path: Path) -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def prepare() -> None:
        began.set()
        go_on.wait(timeout=10)
        ended.set()

    program = _describe(tmp_path, _STAY, prepare=prepare)
    start = asyncio.create_task(RunningProgram(program, Reports()).start())
    await _until(began.is_set)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not ended.is_set()
    go_on.set()


async def test_what_does_not_stop_is_killed_with_all_it_started(tmp_path: Path) -> None:
    reports = Reports()
    script = f'trap "" TERM; sleep 1000 & echo $! > "$0.child"; {_STAY}'
    patience = Patience(stop_seconds=0.2)
    running = RunningProgram(_describe(tmp_path, script), reports, patience=patience)
    await running.start()
    process_ids = [_read_process_id(tmp_path), int((tmp_path / "ready.child").read_text())]
    await running.stop()
    assert "lamp does not stop and is killed" in reports.texts
    await _until(lambda: not any(map(_is_alive, process_ids)))


async def test_cancelling_the_stop_kills_at_once(tmp_path: Path) -> None:
    wait = "while :; do sleep 1000 & wait; done"
    script = """trap 'echo > "$0.terminated"' TERM; """ + _STAY.replace("exec sleep 1000", wait)
    patience = Patience(stop_seconds=1000)
    running = RunningProgram(_describe(tmp_path, script), Reports(), patience=patience)
    await running.start()
    stop = asyncio.create_task(running.stop())
    await _until((tmp_path / "ready.terminated").exists)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    await _until(lambda: not _is_alive(_read_process_id(tmp_path)))


async def test_stop_ends_the_process_of_a_keeper_that_failed(tmp_path: Path) -> None:
    obstacles = iter((None, ValueError("nobody thought of this")))

    def prepare() -> None:
        if obstacle := next(obstacles):
            raise obstacle

    program = _describe(tmp_path, _STAY, prepare=prepare)
    running = RunningProgram(program, Reports(), patience=_QUICK)
    await running.start()
    os.kill(_read_process_id(tmp_path), signal.SIGKILL)
    with pytest.raises(ValueError, match="nobody thought"):
        await running.watch()
    await running.stop()


async def test_cancelling_the_start_leaves_no_process(tmp_path: Path) -> None:
    script = _STAY.replace("$0", "$0.other")
    running = RunningProgram(_describe(tmp_path, script), Reports())
    start = asyncio.create_task(running.start())
    await _until((tmp_path / "ready.other").exists)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not _is_alive(int((tmp_path / "ready.other").read_text()))


_RUN_TETHERED = """
import signal, subprocess, sys
from tools.postgres.tether import tether
subprocess.run(tether(sys.argv[1:], signal.SIGTERM))
"""


async def test_a_tethered_command_ends_with_a_killed_runner(tmp_path: Path) -> None:
    marker = tmp_path / "ready"
    runner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _RUN_TETHERED, "sh", "-c", _STAY, str(marker)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    await _until(marker.exists)
    assert _is_alive(_read_process_id(tmp_path))
    runner.kill()
    await runner.wait()
    await _until(lambda: not _is_alive(_read_process_id(tmp_path)))


def test_a_command_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    marker = tmp_path / "ready"
    command = tether(["sh", "-c", _STAY, str(marker)], signal.SIGTERM)
    command[command.index(str(os.getpid()))] = "1"
    assert subprocess.run(command, check=False).returncode == 1
    assert not marker.exists()
