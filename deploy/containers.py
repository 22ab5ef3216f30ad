"""What a program makes of the settings that it gets in a container, without the container.

Mounted folders are laid out in a temporary directory; variables with their paths are changed to
lead there.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from chassis.settings import Settings
from deploy.programs import Program

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - In a container.
"""What a program listens on for other containers."""
_STOP_MARGIN_SECONDS = 4.0
"""How long a program may take to end after its last call."""


@dataclass(frozen=True, slots=True)
class Container:
    """What a container hands to its program."""

    variables: Mapping[str, str]
    folders: Mapping[str, Mapping[str, str]]
    """The contents of files by their names, by the paths that their folders are mounted at."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a program makes of that."""

    settings: Settings | None
    """None if it does not start."""
    problems: Sequence[str] = ()
    """What it prints then: a line for each bad setting."""


def load_settings(program: Program, container: Container) -> Start:
    """Load the settings of a program as it does when it starts in a container."""
    printed = StringIO()
    with TemporaryDirectory() as root:
        folders = {
            mounted: _write(Path(root, str(number)), files)
            for number, (mounted, files) in enumerate(container.folders.items())
        }
        variables = {name: folders.get(value, value) for name, value in container.variables.items()}
        # Where .env would be, which no container has.
        variables["BUILD_WORKSPACE_DIRECTORY"] = root
        with mock.patch.dict(os.environ, variables, clear=True), redirect_stderr(printed):
            try:
                return Start(program.load_settings())
            except SystemExit:
                return Start(None, printed.getvalue().splitlines()[:-1])


def list_variables(config: Settings) -> set[str]:
    """Return the names of the variables that a program reads, in upper case."""
    return {name.upper() for name in type(config).model_fields}


def find_address(config: Settings, prefix: str) -> tuple[str, int]:
    """Return the host and port of the program whose variables begin with a prefix."""
    values: dict[str, Any] = config.model_dump()
    return values[f"{prefix.lower()}_host"], values[f"{prefix.lower()}_port"]


def find_grace_seconds(program: Program, config: Settings) -> float:
    """Return how much time a program needs between SIGTERM and SIGKILL, to end by itself."""
    return program.find_stop_seconds(config) + _STOP_MARGIN_SECONDS


def _write(folder: Path, files: Mapping[str, str]) -> str:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return str(folder)
