"""Shows that nothing is forgotten: the linters see every file, and every test file is a test.

These are the only tests that read the workspace itself and not their declared inputs: they are
never cached.
"""

import os
from pathlib import Path

from tools.lint.format import walk

SUFFIXES = (".bazel", ".bzl", ".proto", ".py", ".pyi", ".sh")


WORKSPACE = Path("MODULE.bazel").resolve().parent


def find_build_file(file: Path) -> Path:
    """Return the BUILD file of the package that a file is in."""
    return next(path for parent in file.parents if (path := parent / "BUILD.bazel").is_file())


def test_every_file_of_the_workspace_is_linted() -> None:
    there = {str(Path(file).relative_to(WORKSPACE)) for file in walk(WORKSPACE, SUFFIXES)}
    linted = {os.path.normpath(file) for file in os.environ["LINTED_FILES"].split()}
    forgotten = "\n".join(sorted(there - linted))
    assert not forgotten, f"list these files' packages in //tools/lint:\n{forgotten}"


def test_every_test_file_is_named_by_a_target() -> None:
    files = [Path(file) for file in walk(WORKSPACE, ("_test.py",))]
    assert files
    builds = {file: find_build_file(file) for file in files}
    forgotten = "\n".join(
        str(file.relative_to(WORKSPACE))
        for file, build in builds.items()
        if f'"{file.relative_to(build.parent)}"' not in build.read_text()
    )
    assert not forgotten, f"make these files pytest_tests:\n{forgotten}"
