import warnings

import pytest

from tools.testing.pytest_main import pytest_arguments


def test_passes_the_test_files_last() -> None:
    assert pytest_arguments(["a_test.py", "-s"], {})[-2:] == ["a_test.py", "-s"]


def test_takes_filter_report_and_temporary_directory_from_bazel() -> None:
    environment = {
        "TESTBRIDGE_TEST_ONLY": "stock and not slow",
        "TEST_TMPDIR": "/somewhere",
        "XML_OUTPUT_FILE": "/reports/test.xml",
    }
    arguments = pytest_arguments([], environment)
    assert "-k=stock and not slow" in arguments
    assert "--junit-xml=/reports/test.xml" in arguments
    assert "--basetemp=/somewhere/pytest" in arguments


def test_warnings_are_errors() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


async def test_coroutines_run_without_a_mark() -> None:
    pass
