"""Shows that nothing is forgotten: the linters see every file, and every test file is a test.

These are the only tests that read the workspace itself and not their declared inputs: they are
never cached.
"""

import os
from pathlib import Path

from tools.lint.dependencies import read_targets
from tools.lint.format import walk

SUFFIXES = (".bazel", ".bzl", ".proto", ".py", ".pyi", ".sh")

WORKSPACE = Path("MODULE.bazel").resolve().parent


def find_files(suffixes: tuple[str, ...]) -> set[str]:
    return {str(Path(file).relative_to(WORKSPACE)) for file in walk(WORKSPACE, suffixes)}


def test_every_file_of_the_workspace_is_linted() -> None:
    linted = {os.path.normpath(file) for file in os.environ["LINTED_FILES"].split()}
    forgotten = "\n".join(sorted(find_files(SUFFIXES) - linted))
    assert not forgotten, f"list these files' packages in //tools/lint:\n{forgotten}"


def test_every_test_file_is_named_by_a_target() -> None:
    targets = read_targets(os.environ["PYTHON_TARGETS"].split())
    files = find_files(("_test.py",))
    assert files
    forgotten = "\n".join(sorted(files - {str(src) for target in targets for src in target.srcs}))
    assert not forgotten, f"make these files pytest_tests:\n{forgotten}"
