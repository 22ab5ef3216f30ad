"""Makes the secrets of a stack that are files: `./bazelw run //deploy/stack:secrets`."""

import argparse
import errno
import os
import secrets
import sys
from pathlib import Path

from tools.certs import directories

PASSWORDS = (
    "APIGATEWAY_DATABASE_PASSWORD",
    "ORDERSERVICE_DATABASE_PASSWORD",
    "PAYMENTSERVICE_DATABASE_PASSWORD",
    "POSTGRES_PASSWORD",
    "PRODUCTSERVICE_DATABASE_PASSWORD",
    "USERSERVICE_ADMIN_PASSWORD",
    "USERSERVICE_DATABASE_PASSWORD",
    "USERSERVICE_KEY_SECRET",
)
CERTIFIED = (*directories.PROGRAMS, "nginx")
"""What gets a certificate: the programs of the shop, and what clients connect to."""
_BYTES = 32
_READABLE = 0o444
_OTHERS = 0o077


def make(root: Path) -> list[str]:
    """Make what is missing, and return the names of that.

    Passwords that exist remain, and certificates of other authorities than that for development.

    Only the owner may enter the directory. The files may be read by whatever they are mounted
    into, as Compose hands them to containers with their own modes.

    Raises:
        OSError: a file cannot be read or written, or others may enter the directory.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_mode & _OTHERS:
        raise PermissionError(errno.EACCES, "others may enter it: chmod go= first", str(root))
    made = [name for name in PASSWORDS if not (root / name).exists()]
    for name in made:
        _write(root / name, secrets.token_urlsafe(_BYTES))
    kept = [name for name in CERTIFIED if directories.is_from_elsewhere(root / "tls" / name)]
    made += directories.renew(root / "tls", CERTIFIED, kept=kept)
    for name in CERTIFIED:
        for path in (root / "tls" / name).iterdir():
            path.chmod(_READABLE)
    return made


def _write(path: Path, content: str) -> None:
    """Write a file at once, so that an interrupted run leaves no part of one."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(content)
    unfinished.chmod(_READABLE)
    unfinished.replace(path)


def main() -> None:
    """Make what is missing and print its names; exit status 1 if that fails."""
    workspace = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    parser = argparse.ArgumentParser(
        prog="secrets",
        description="Makes passwords, and certificates of a development authority, for the stack."
        " What exists is left as it is, but for certificates of that authority that are about to"
        " expire.",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=workspace / ".data" / "stack",
        help="where the files are (default: .data/stack of the workspace)",
    )
    directory: Path = parser.parse_args().directory
    # `bazel run` changes the directory.
    root = Path(os.environ.get("BUILD_WORKING_DIRECTORY", "."), directory).resolve()
    try:
        made = make(root)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    print(f"{root}: made {', '.join(made) or 'nothing, as nothing was missing'}")


if __name__ == "__main__":
    main()
