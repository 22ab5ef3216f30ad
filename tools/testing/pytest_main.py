"""Runs pytest as Bazel expects a test to behave; pytest_test makes it the main of each test.

The arguments are the test files, as runfiles paths, and pytest's options. Bazel's filter, report
file and temporary directory are passed on from the environment.
"""

import os
import sys
from collections.abc import Mapping, Sequence

import pytest


def pytest_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Translate Bazel's test environment into arguments of pytest."""
    result = ["--config-file=pyproject.toml", "--rootdir=.", "-p", "no:cacheprovider"]
    if temporary := environment.get("TEST_TMPDIR"):
        result.append(f"--basetemp={temporary}/pytest")
    if report := environment.get("XML_OUTPUT_FILE"):
        result.append(f"--junit-xml={report}")
    if expression := environment.get("TESTBRIDGE_TEST_ONLY"):
        result.append(f"-k={expression}")
    return [*result, *arguments]


if __name__ == "__main__":
    # No test calls the internet. Without its authorities httpx makes a client in 0.2 ms, not in 19.
    os.environ.setdefault("SSL_CERT_DIR", os.devnull)
    # A filter that selects nothing fails, with pytest's status of its own for that: a misspelt one
    # must not look like success.
    sys.exit(pytest.main(pytest_arguments(sys.argv[1:], os.environ)))
