"""Shows that the linters see every file: nothing of the workspace is outside of their lists.

It is the one test that reads the workspace itself and not its declared inputs: it is never cached.
"""

import os
from pathlib import Path

from tools.lint.format import walk

SUFFIXES = (".bazel", ".bzl", ".proto", ".py", ".pyi", ".sh")


def test_every_file_of_the_workspace_is_linted() -> None:
    workspace = Path("MODULE.bazel").resolve().parent
    there = {str(Path(file).relative_to(workspace)) for file in walk(workspace, SUFFIXES)}
    linted = {os.path.normpath(file) for file in os.environ["LINTED_FILES"].split()}
    forgotten = "\n".join(sorted(there - linted))
    assert not forgotten, f"list these files' packages in //tools/lint:\n{forgotten}"
