"""pytest_test: a Bazel test that runs pytest."""

load("@rules_python//python:py_test.bzl", "py_test")

_DATABASES = "//tools/postgres:testing"
_MAIN = "//tools/testing:pytest_main.py"

def pytest_test(name, srcs, deps = [], args = [], tags = [], **kwargs):
    """A py_test that runs pytest over its own files.

    `--test_filter=NAME` selects tests by pytest's -k expression, and a file in which it selects
    nothing fails; further `args` go to pytest.

    Args:
        name: of the target; for foo_test.py, foo_test.
        srcs: the test files, *_test.py, with the conftest.py that they need, if any.
        deps: what the tests import; pytest and pytest-asyncio are there already.
        args: arguments for pytest.
        tags: as for py_test; a test with databases of its own gets the tag `databases`, and has
          `embedded-postgres` if it stops, freezes or copies the server, or needs no password.
        **kwargs: as for py_test.
    """
    py_test(
        name = name,
        srcs = srcs + [_MAIN],
        args = ["$(rootpath {})".format(src) for src in srcs if src.endswith("_test.py")] + args,
        main = _MAIN,
        tags = tags + (["databases"] if _DATABASES in deps else []),
        deps = deps + ["//tools/testing:pytest"],
        **kwargs
    )
