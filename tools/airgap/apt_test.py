"""Where an apt of its own takes packages from, with a made-up apt-get that reaches no network."""

import os
import subprocess
from pathlib import Path

import pytest

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR, SECURITY, OTHER = "http://mirror/debian/", "http://mirror/debian-security/", "http://other/"

# Knows the mirrors from a file; without a file it has no package lists before the first update.
_APT_GET = """#!/bin/sh
echo "$@" >>"{machine}/asked"
case $* in
  *indextargets*) cat "{machine}/mirrors" 2>/dev/null ;;
  *machine-lists*) mv "{machine}/mirrors.new" "{machine}/mirrors" 2>/dev/null ;;
esac
exit 0
"""

pytestmark = pytest.mark.skipif(not KEYRING.exists(), reason="this is not a Debian system")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(_APT_GET.format(machine=tmp_path))
    program.chmod(0o755)
    return tmp_path


def run(machine: Path, suite: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": f"{machine / 'bin'}:{os.environ['PATH']}"}
    command = ["tools/airgap/apt.sh", suite, str(machine / "apt")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def read_sources(machine: Path, suite: str) -> list[str]:
    result = run(machine, suite)
    assert result.returncode == 0, result.stderr
    lines = (machine / "apt" / "sources.list").read_text().splitlines()
    return [line.replace(f"[signed-by={KEYRING}] ", "") for line in lines]


@pytest.mark.parametrize(
    ("suite", "sources"),
    [
        (
            "bookworm",
            [f"deb {SECURITY} bookworm-security main", f"deb {MIRROR} bookworm main"],
        ),
        ("sid", [f"deb {MIRROR} sid main"]),
    ],
)
def test_packages_come_from_the_mirrors_of_the_machine(
    machine: Path, suite: str, sources: list[str]
) -> None:
    lines = [f"Debian {MIRROR}", f"Debian {SECURITY}", f"Debian {MIRROR}", f"Other {OTHER}"]
    (machine / "mirrors").write_text("\n".join(lines))
    assert sorted(read_sources(machine, suite)) == sorted(sources)


def test_a_machine_without_package_lists_fetches_them_elsewhere(machine: Path) -> None:
    (machine / "mirrors.new").write_text(f"Debian {MIRROR}\n")
    assert read_sources(machine, "sid") == [f"deb {MIRROR} sid main"]
    assert f"Dir::State::lists={machine}/apt/machine-lists" in (machine / "asked").read_text()


def test_a_machine_without_a_mirror_is_told(machine: Path) -> None:
    result = run(machine, "sid")
    assert result.returncode == 1
    assert "apt knows no Debian mirror" in result.stderr
