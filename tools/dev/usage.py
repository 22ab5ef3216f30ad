"""What processes use of a machine, as /proc shows it.

A process that ends while it is read is passed over: its parent has its CPU time from then on.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.dev.running_shop import process_name

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
# In /proc/PID/stat, after the name, which may contain anything: the time of the process, and that
# of its children that have ended, each in user and in system mode.
_TICKS = slice(11, 15)
_ENDED = contextlib.suppress(FileNotFoundError, ProcessLookupError)


@dataclass(slots=True)
class Usage:
    """What processes of one name used."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def find_family(process: int) -> Iterator[int]:
    """Yield the ids of a process and of all its descendants."""
    yield process
    with _ENDED:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in children.read_text(encoding="ascii").split():
                yield from find_family(int(child))


def read_cpu_seconds(processes: Iterable[int]) -> dict[int, float]:
    """Return the CPU time that each process has had, with that of children that have ended."""
    found = {}
    for process in processes:
        with _ENDED:
            found[process] = _cpu_seconds(process)
    return found


def read_usage(processes: Iterable[int], before: Mapping[int, float]) -> dict[str, Usage]:
    """Return what processes have used since, by the names of their programs."""
    found: dict[str, Usage] = {}
    for process in processes:
        with _ENDED:
            usage = found.setdefault(process_name(process), Usage())
            usage.cpu_seconds += _cpu_seconds(process) - before.get(process, 0.0)
            usage.peak_bytes = max(usage.peak_bytes, _peak_bytes(process))
    return found


def _cpu_seconds(process: int) -> float:
    stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[_TICKS])) * _TICK_SECONDS


def _peak_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("VmHWM", "0").split()[0]) * 1024
