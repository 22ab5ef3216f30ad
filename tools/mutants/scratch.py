"""A scratch copy of the checkout, which bugs are put into, and test runs in it.

The path of the copy is the same in every run, so that Bazel reuses its output base.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

TEST_TIMEOUT_SECONDS = 300

_EVENTS = "events.json"
_OPTIONS = (
    f"--build_event_json_file=../{_EVENTS}",
    f"--test_timeout={TEST_TIMEOUT_SECONDS}",
    "--test_tag_filters=",  # Those that a plain run leaves out as well.
    "--test_arg=-x",
    # Tests that need more than a build brings are run as well, where a bug names them.
    "--test_tag_filters=",
    "--test_output=summary",
    "--color=no",
    "--curses=no",
)


class ScratchError(Exception):
    """The scratch copy cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class TestRun:
    """The result of a run: failed cases as `file::test`, and targets that timed out."""

    output: str
    passed: bool
    failed_cases: tuple[str, ...]
    timed_out: tuple[str, ...]


@contextlib.contextmanager
def scratch_copy(checkout: Path) -> Iterator[Path]:
    """Copy what git does not ignore, as it is now; stop the copy's Bazel server at the end.

    Raises:
        ScratchError: another run uses the copy.
    """
    directory = _cache_directory() / hashlib.sha256(bytes(checkout)).hexdigest()[:12]
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ScratchError(f"Another run of this checkout uses {directory}.") from error
        workspace = directory / "workspace"
        shutil.rmtree(workspace, ignore_errors=True)
        _copy(checkout, workspace)
        try:
            yield workspace
        finally:
            subprocess.run(["./bazelw", "shutdown"], check=False, cwd=workspace)


def run_tests(workspace: Path, targets: Sequence[str], *options: str) -> TestRun:
    """Run test targets, with further options of Bazel; each stops at its first failure."""
    events = workspace.parent / _EVENTS
    events.unlink(missing_ok=True)
    done = subprocess.run(
        ["./bazelw", "test", *_OPTIONS, *options, *targets],
        check=False,
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    results = list(_read_results(events))
    failed = [case for _, result in results for case in _failed_cases(result)]
    timed_out = [label for label, result in results if result["status"] == "TIMEOUT"]
    return TestRun(done.stdout, done.returncode == 0, tuple(failed), tuple(timed_out))


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bazaar" / "mutants"


def _copy(checkout: Path, workspace: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, cwd=checkout, stdout=subprocess.PIPE, text=True)
    # A person's own options of Bazel, such as a disk cache, are good for the copy too.
    for name in {*listed.stdout.split("\0"), "user.bazelrc"}:
        source, target = checkout / name, workspace / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _read_results(events: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the label and the result of each test that was run or cached."""
    lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    for event in map(json.loads, lines):
        if "testResult" in event:
            yield event["id"]["testResult"]["label"], event["testResult"]


def _failed_cases(result: dict[str, Any]) -> Iterator[str]:
    """Yield the test cases that failed; errors of set-up, such as of a fixture, do not count."""
    outputs = result.get("testActionOutput", [])
    reports = [Path(unquote(urlsplit(o["uri"]).path)) for o in outputs if o["name"] == "test.xml"]
    for report in reports:
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own tests wrote it.
            if case.find("failure") is not None:
                yield f"{case.get('classname')}::{case.get('name')}"
