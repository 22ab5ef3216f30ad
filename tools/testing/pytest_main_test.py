import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tools.testing import pytest_main
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


@pytest.mark.parametrize(
    ("expression", "status"),
    [("stock", pytest.ExitCode.OK), ("stick", pytest.ExitCode.NO_TESTS_COLLECTED)],
)
def test_filter_that_selects_nothing_fails(
    tmp_path: Path, expression: str, status: pytest.ExitCode
) -> None:
    file = tmp_path / "example_test.py"
    file.write_text("def test_stock(): pass")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {"PYTHONPATH": path, "TESTBRIDGE_TEST_ONLY": expression}
    command = [sys.executable, pytest_main.__file__, str(file)]
    done = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
    assert done.returncode == status


def test_warnings_are_errors() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


async def test_coroutines_run_without_a_mark() -> None:
    pass
