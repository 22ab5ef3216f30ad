"""Where the programs are that come inside of wheels, such as ruff and uv."""

import sys
from collections.abc import Iterator
from pathlib import Path


def find_program(name: str) -> Path:
    """Return a program out of the wheels that this process has on its path.

    Raises:
        FileNotFoundError: no wheel on the path has it.
    """
    for directory in _list_directories():
        program = directory / name
        if program.is_file():
            return program
    raise FileNotFoundError(name)


def _list_directories() -> Iterator[Path]:
    """Yield where programs may be, in the layouts of rules_python.

    An unpacked wheel has its programs in `bin` beside its `site-packages`. With
    `--@rules_python//python/config_settings:venvs_site_packages=yes` a binary has a virtual
    environment of its own, and the programs of all wheels are in the environment's `bin`.
    """
    for entry in map(Path, sys.path):
        if entry.name == "site-packages":
            yield entry.with_name("bin")
    yield Path(sys.prefix) / "bin"
