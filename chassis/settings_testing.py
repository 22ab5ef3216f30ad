"""Settings in tests: loaded from the environment, where there is no `.env`.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from chassis import settings
from chassis.settings import SettingsT

SECRET = "hunter2"  # noqa: S105 - Made up.
"""What secrets have in them in tests, so that it is seen where one is printed."""


@dataclass(frozen=True)
class Environment:
    """The environment of a test, and what is printed about it."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def load(self, cls: type[SettingsT], **variables: str) -> SettingsT:
        """Set variables, and load settings."""
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)
        return settings.load(cls)

    def refuse(self, cls: type[SettingsT], **variables: str) -> set[str]:
        """Set variables with which settings are refused, and return the names of the bad ones."""
        with pytest.raises(SystemExit, match=f"^{settings.EX_CONFIG}$"):
            self.load(cls, **variables)
        printed = self.capsys.readouterr().err
        if SECRET in printed:
            pytest.fail(f"a secret is printed: {printed}")
        return {line.partition(":")[0] for line in printed.splitlines()[:-1]}


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Environment:
    """Return the environment of a workspace without a `.env`."""
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    return Environment(monkeypatch, capsys)
