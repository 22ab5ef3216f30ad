"""What a program makes of the settings that it gets in a container, without the container.

The folders that are mounted are laid out elsewhere; variables with their paths lead there.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from chassis.settings import Settings
from deploy.programs import Program


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


def _write(folder: Path, files: Mapping[str, str]) -> str:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return str(folder)
