"""Mends in the workspace what the linters can mend: `./bazelw run //tools/lint:format`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.python.programs import find_program

PROTO_ROOTS = ("chassis/proto", "gateway/proto", "gateway/testing/proto", "proto")

# Links to Bazel's outputs, and folders of things that are not ours.
FOREIGN = (".", "bazel-")


def walk(directory: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Yield the workspace's files with these suffixes."""
    for parent, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(FOREIGN)]
        for name in files:
            if name.endswith(suffixes):
                yield str(Path(parent, name))


def main() -> int:
    """Run each formatter; return 0 when all of them could."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buf", type=Path, required=True)
    parser.add_argument("--buildifier", type=Path, required=True)
    programs = parser.parse_args()
    workspace = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"])
    ruff = find_program("ruff")
    commands = [
        [ruff, "check", "--fix", "--no-cache", workspace],
        [ruff, "format", "--no-cache", workspace],
        [programs.buildifier, "-lint=fix", *walk(workspace, (".bazel", ".bzl"))],
        *([programs.buf, "format", "--write", workspace / root] for root in PROTO_ROOTS),
    ]
    statuses = [subprocess.run(command, check=False).returncode for command in commands]
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main())
