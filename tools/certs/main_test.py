"""The command line: what it prints, and its exit statuses."""

import re
import subprocess
from pathlib import Path

PROGRAM = Path("tools/certs/certs").absolute()


def run(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "BUILD_WORKING_DIRECTORY": str(workspace / "folder"),
        "BUILD_WORKSPACE_DIRECTORY": str(workspace),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(
        [PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_directories_are_made_once_and_renewed_on_demand(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert (tmp_path / ".data" / "tls" / "gateway" / "tls.key").exists()
    issued = re.findall(r"^  (\w+) +issued, expires \d{4}-\d\d-\d\d$", first.stdout, re.M)
    assert issued == ["user", "product", "order", "payment", "gateway"]
    assert run(tmp_path).stdout.count("still usable") == 5
    assert run(tmp_path, "--renew").stdout.count("issued") == 5


def test_a_relative_directory_begins_where_bazel_was_called(tmp_path: Path) -> None:
    assert run(tmp_path, "--directory", "tls").returncode == 0
    assert (tmp_path / "folder" / "tls" / "gateway" / "tls.key").exists()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(tmp_path, "--directory", str(tmp_path / "file" / "tls"))
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/file/tls/authority/ca.crt: Not a directory\n"


def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path, "--nonsense").returncode == 2
    assert not (tmp_path / ".data").exists()
