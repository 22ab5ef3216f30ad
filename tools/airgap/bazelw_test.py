"""Which Bazel ./bazelw runs, with made-up programs on PATH: nothing here reaches a network."""

import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "7.6.5"
REGISTRY = "https://bcr.bazel.build"
RELEASES = "https://releases.bazel.build"
BAZELISK = "https://github.com/bazelbuild/bazelisk"

# What the script may find of the machine; a curl or a bazel of its own is not among it.
_TOOLS = ("bash", "chmod", "cut", "dirname", "env", "flock", "grep", "mkdir", "mv", "rm", "sh")
_MORE_TOOLS = ("sha256sum", "timeout", "tr", "uname")

# Knows the sites that respond from a file, and writes down what it was asked for.
_CURL = """#!/bin/sh
for url; do :; done
echo "$url" >>"{machine}/asked"
while [ "$1" != "$url" ]; do
  if [ "$1" = --output ] && [ "$2" != /dev/null ]; then echo other >"$2"; fi
  shift
done
while read -r site; do
  case $url in "$site"*) exit 0 ;; esac
done <"{machine}/sites"
exit 6
"""

_DEBIAN_BAZEL = """#!/bin/sh
mkdir -p "$2"
printf '#!/bin/sh\\necho "debian $*"\\n' >"$2/bazel"
chmod +x "$2/bazel"
"""


class Machine:
    """A machine with an empty home, a workspace, and the programs that a test puts on PATH."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.workspace = directory / "workspace"
        self._programs = directory / "bin"
        self._programs.mkdir()
        for name in (*_TOOLS, *_MORE_TOOLS):
            self._programs.joinpath(name).symlink_to(str(shutil.which(name)))
        self._write(self.workspace / "tools" / "airgap" / "debian_bazel.sh", _DEBIAN_BAZEL)
        self._write(self.workspace / "bazelw", Path("bazelw").read_text())
        (self.workspace / ".bazelversion").write_text(f"{VERSION}\n")
        (directory / "asked").touch()
        self.put("apt-get", "#!/bin/sh\n")
        self.put("curl", _CURL.format(machine=directory))
        self.open_sites()

    def put(self, name: str, script: str) -> None:
        self._write(self._programs / name, script)

    def put_bazel(self, version: str = VERSION) -> None:
        version_line = f'if [ "$*" = --version ]; then echo bazel {version}; exit; fi'
        self.put("bazel", f'#!/bin/sh\n{version_line}\necho "path $*"\n')

    def remove(self, name: str) -> None:
        (self._programs / name).unlink()

    def open_sites(self, *sites: str) -> None:
        """Let these sites respond and no others."""
        (self._directory / "sites").write_text("".join(f"{site}\n" for site in sites))

    def take_questions(self) -> list[str]:
        """Return the URLs that were asked for since the last call."""
        path = self._directory / "asked"
        asked = path.read_text().splitlines()
        path.write_text("")
        return asked

    def run(self) -> str:
        """Return what `./bazelw build` prints."""
        result = self.run_unchecked()
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def run_unchecked(self) -> "subprocess.CompletedProcess[str]":
        environment = {"HOME": str(self._directory), "PATH": str(self._programs)}
        command = [str(self.workspace / "bazelw"), "build", "//..."]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def _write(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_bazel_on_path_is_used_where_the_registry_answers(machine: Machine) -> None:
    machine.put_bazel()
    machine.open_sites(REGISTRY)
    assert machine.run() == "path build //..."


def test_a_bazel_on_path_gives_way_where_the_registry_does_not_answer(machine: Machine) -> None:
    machine.put_bazel()
    machine.open_sites(RELEASES, BAZELISK)
    assert machine.run() == "debian build //..."


def test_a_bazel_on_path_of_another_version_is_passed_over(machine: Machine) -> None:
    machine.put_bazel("9.9.9")
    machine.open_sites(REGISTRY)
    assert machine.run() == "debian build //..."


def test_release_sites_without_the_registry_are_not_enough(machine: Machine) -> None:
    machine.open_sites(RELEASES, BAZELISK)
    assert machine.run() == "debian build //..."


@pytest.mark.parametrize("sites", [[], [REGISTRY]])
def test_the_network_is_asked_once(machine: Machine, sites: list[str]) -> None:
    machine.put_bazel()
    machine.open_sites(*sites)
    first = machine.run()
    assert machine.take_questions() == [f"{REGISTRY}/bazel_registry.json"]
    machine.open_sites()
    assert machine.run() == first
    assert machine.take_questions() == []


def test_a_mirror_of_the_registry_is_trusted(machine: Machine) -> None:
    machine.put_bazel()
    (machine.workspace / "user.bazelrc").write_text("common --registry=https://mirror.example\n")
    assert machine.run() == "path build //..."


@pytest.mark.parametrize("missing", ["apt-get", "curl"])
def test_where_there_is_no_choice_a_bazel_on_path_is_used(machine: Machine, missing: str) -> None:
    machine.put_bazel()
    machine.remove(missing)
    assert machine.run() == "path build //..."


def test_another_bazelisk_than_the_pinned_one_is_refused(machine: Machine) -> None:
    machine.open_sites(REGISTRY, RELEASES, BAZELISK)
    result = machine.run_unchecked()
    assert result.returncode == 1
    assert "not the one whose checksum is pinned" in result.stderr
    assert "debian" not in result.stdout


def test_a_home_that_cannot_be_written_is_explained(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("")
    result = machine.run_unchecked()
    assert result.returncode == 1
    assert "set XDG_CACHE_HOME" in result.stderr
