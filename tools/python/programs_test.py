"""Programs of wheels are found in each layout that rules_python gives them."""

import sys
from pathlib import Path

import pytest

from tools.python.programs import find_program


def _put_program(directory: Path) -> Path:
    directory.mkdir(parents=True)
    program = directory / "lamp"
    program.touch(mode=0o755)
    return program


def test_a_program_beside_its_wheels_packages_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _put_program(tmp_path / "lamp" / "bin")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lamp" / "site-packages")])
    assert find_program("lamp") == program


def test_a_program_of_the_virtual_environment_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _put_program(tmp_path / "bin")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib" / "python3.11" / "site-packages")])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert find_program("lamp") == program


def test_a_program_of_no_wheel_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/", "site-packages"])
    with pytest.raises(FileNotFoundError, match="lamp"):
        find_program("lamp")
