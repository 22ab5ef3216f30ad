"""The program, with a run that is short enough for every change."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("chaos")
SHORT = ("--orders=200", "--kills=8", "--database-restarts=1", "--freezes=1", "--keep")


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """An environment whose temporary directory is the test's own."""
    # One database of another shop must not be touched.
    other = "postgresql://nobody@127.0.0.1:1/none"
    return {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "ORDERSERVICE_DATABASE_URL": other}


def find_processes(directory: Path) -> list[str]:
    """Return the processes that have the directory in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(directory).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # It has ended, or belongs to somebody else.
            continue
    return found


def test_a_short_run_finds_no_violation_and_leaves_nothing(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [PROGRAM, *SHORT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No violation was found." in done.stdout
    assert "Seed " in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert find_processes(tmp_path) == []


def test_an_interrupted_run_stops_everything_and_leaves_nothing(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    arguments = ["--orders=1000000", "--freezes=1000"]
    with subprocess.Popen(
        [PROGRAM, *arguments], env=environment, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        said = ""
        # Lines of progress: with the first one that has a fault, a program is frozen.
        while not re.search(r" orders, (?!0 of)", said):
            line = running.stderr.readline()
            assert line, f"It ended by itself: {said}"
            said += line
        running.send_signal(signal.SIGINT)
        assert "Interrupted" in running.stderr.read()
        assert running.wait() == 1
    assert list(tmp_path.iterdir()) == []
    assert find_processes(tmp_path) == []


@pytest.mark.parametrize("arguments", [["--orders=0"], ["--kills=-1"]])
def test_bad_numbers_are_refused(environment: Mapping[str, str], arguments: list[str]) -> None:
    done = subprocess.run(
        [PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "error:" in done.stderr


def test_help_names_the_options(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [PROGRAM, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    for option in ("--orders", "--kills", "--database-restarts", "--freezes", "--seed", "--keep"):
        assert option in done.stdout
