"""Runs the commands of the gateway's README in an empty directory, with wheels instead of pip.

And compares the limits that its page on production names with those of the program.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from tools.dev.testing import find_ports
from tools.testing.console import replay

GATEWAY = Path("gateway/gateway").absolute()
PYTHON = f"""\
#!/bin/sh
case "$*" in
"-m pip install "*) ;;
*) exec {sys.executable} "$@" ;;
esac
"""
BAZELW = f"""\
#!/bin/sh
[ "$1 $2" = "run //gateway" ] || exit 1
shift 2
[ "$1" != -- ] || shift
BUILD_WORKSPACE_DIRECTORY=$PWD exec {GATEWAY} "$@"
"""


def test_the_commands_of_the_gateways_readme_print_what_it_says(tmp_path: Path) -> None:
    pages = [Path(name).read_text(encoding="utf-8") for name in ("gateway/README.md", ".env")]
    written = ["5433", "8080", "50060"]
    for port, free in zip(written, find_ports(len(written)), strict=True):
        pages = [re.sub(rf"(?<=[:=]){port}\b", str(free), page) for page in pages]
    readme, dotenv = pages
    write_program(tmp_path / "bin" / "python3", PYTHON)
    write_program(tmp_path / "home" / "bazaar" / "bazelw", BAZELW)
    (tmp_path / "home" / "bazaar" / ".env").write_text(dotenv)
    directory = tmp_path / "library"
    install(readme, directory / "wheels")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    replay(readme, directory, {"HOME": f"{tmp_path}/home", "PATH": path})


def test_the_limits_in_the_page_on_production_are_the_defaults() -> None:
    page = Path("gateway/PRODUCTION.md").read_text(encoding="utf-8")
    limits = re.findall(r"\b(\d+)(?: seconds)?\s\(`(APIGATEWAY_\w+)`\)", page)
    assert len(limits) == page.count("(`APIGATEWAY_")
    wide = {**os.environ, "COLUMNS": "1000"}
    explained = subprocess.check_output((GATEWAY, "--help"), env=wide, encoding="utf-8")
    for default, name in limits:
        assert re.search(rf"{name}\n.* Default: {default}(\.0)?\.\n", explained), name


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)


def install(readme: str, target: Path) -> None:
    """Do what the README has pip do."""
    command = re.search(r"pip install --quiet --target=wheels (.*)", readme)
    assert command
    for directory in {find for name in command[1].split() for find in find_wheels(name)}:
        shutil.copytree(directory, target, copy_function=os.symlink, dirs_exist_ok=True)


def find_wheels(name: str) -> Iterator[Path]:
    """Yield the directories of an installed distribution and of those that it requires."""
    distribution = metadata.distribution(name)
    yield Path(str(distribution.locate_file("")))
    for requirement in distribution.requires or ():
        if "extra ==" not in requirement:
            found = re.match(r"[\w.-]+", requirement)
            assert found
            yield from find_wheels(found[0])
