"""Makes a development CA and a TLS directory for each program: `./bazelw run //tools/certs`."""

import argparse
import os
import sys
from pathlib import Path

from tools.certs.directories import AUTHORITY, PROGRAMS, RENEW_BEFORE, renew

_DESCRIPTION = f"""\
Makes a certificate authority for development and, for each program of the shop, a directory with
ca.crt, tls.crt and tls.key, which its setting <SERVICE>_TLS_DIRECTORY or APIGATEWAY_TLS_DIRECTORY
names. What is usable for another {RENEW_BEFORE.days} days is left as it is. Programs that run take
new certificates by themselves. ./bazelw run //:bazaar does the same when it starts.
"""
_EPILOG = """\
exit status: 0 if all certificates are usable, 1 if a file cannot be read or written, 2 for a wrong
command line
"""


def main() -> None:
    """Make what is missing and print what was made; exit status 1 if that fails."""
    arguments = _parse_arguments()
    # `bazel run` changes the directory.
    root = Path(os.environ.get("BUILD_WORKING_DIRECTORY", "."), arguments.directory).resolve()
    try:
        renewed = renew(root, everything=arguments.renew)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    print(f"{root}, with the key of the authority in {AUTHORITY}/")
    for name in PROGRAMS:
        made = renewed.get(name)
        print(f"  {name:10} {f'issued, expires {made:%Y-%m-%d}' if made else 'still usable'}")


def _parse_arguments() -> argparse.Namespace:
    workspace = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    parser = argparse.ArgumentParser(
        prog="certs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--renew", action="store_true", help="issue all certificates anew")
    parser.add_argument(
        "--directory",
        type=Path,
        default=workspace / ".data" / "tls",
        help="where the directories are (default: .data/tls of the workspace)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
