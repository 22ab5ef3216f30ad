"""Where the programs are that come inside of wheels, such as ruff and uv."""

import sys
from pathlib import Path


def find_program(name: str) -> Path:
    """Return a program out of the wheels that this process has on its path.

    A wheel's programs are unpacked beside its site-packages, in `bin`.

    Raises:
        FileNotFoundError: no wheel on the path has it.
    """
    packages = [Path(entry) for entry in sys.path if Path(entry).name == "site-packages"]
    for directory in packages:
        program = directory.with_name("bin") / name
        if program.is_file():
            return program
    raise FileNotFoundError(name)
