"""Logs that cannot be written: the caller goes on, and the loss is counted and logged once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, os, resource, signal, sys
from chassis import log

log.configure({log_format!r}, "info")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
structured, standard = log.logger(), logging.getLogger("gunicorn.error")
structured.info("first")


def break_output():
    {breaks}


def mend_output():
    {mends}


break_output()
for number in range(3):
    structured.info("lost")
    standard.error("lost, too")
mend_output()
standard.warning("back")
structured.info("last")
print("went on")
"""


def run(breaks: str, mends: str, stderr: Path, log_format: str = "json") -> list[str]:
    """Run a program that logs while its output is broken; return the lines of its log."""
    program = PROGRAM.format(log_format=log_format, breaks=breaks, mends=mends)
    with stderr.open("ab") as file:
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            stdout=subprocess.PIPE,
            stderr=file,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    assert (done.returncode, done.stdout) == (0, b"went on\n"), stderr.read_text()
    return [line for line in stderr.read_text().splitlines() if line]


FULL = "full = os.open('/dev/full', os.O_WRONLY); global kept; kept = os.dup(2); os.dup2(full, 2)"
MEND_FULL = "os.dup2(kept, 2)"
CLOSED = "r, w = os.pipe(); os.close(r); global kept; kept = os.dup(2); os.dup2(w, 2)"


@pytest.mark.parametrize("breaks", [FULL, CLOSED])
def test_loss_is_counted_and_logged_once(breaks: str, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run(breaks, MEND_FULL, tmp_path / "log")]
    assert [line["event"] for line in lines] == ["first", "log_events_lost", "back", "last"]
    assert (lines[1]["count"], lines[1]["level"]) == (6, "error")


def test_partly_written_event_does_not_corrupt_the_next(tmp_path: Path) -> None:
    breaks = "used = os.fstat(2).st_size; resource.setrlimit(resource.RLIMIT_FSIZE, (used + 9, -1))"
    mends = "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))"
    lines = run(breaks, mends, tmp_path / "log")
    assert len(lines[1]) == 9
    assert json.loads(lines[2])["event"] == "log_events_lost"
    assert [json.loads(line)["event"] for line in lines[3:]] == ["back", "last"]


def test_loss_is_logged_in_the_configured_format(tmp_path: Path) -> None:
    lines = run(FULL, MEND_FULL, tmp_path / "log", log_format="console")
    assert "log_events_lost" in lines[1]
    assert "count=6" in lines[1]
