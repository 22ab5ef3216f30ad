"""Runs the console blocks of a Markdown page as a reader does, and compares their output.

In a ```console block a line that begins with `$ ` is a command, with the lines that complete it;
the lines below are its output. All commands of a page run in one shell, in one directory. A
block of another language is a file, if the line above it ends with its name: "... `server.py`:".

`…` stands for anything that was cut, a time in seconds for any other, and an id for whichever comes
first in its place; from then on it is that id, in commands too.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias, cast

_BLOCK = re.compile(r"^(?P<above>[^\n]*)\n\n?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
_FILE_NAME = re.compile(r"`([^`]+)`:$")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOOSE = re.compile(rf"(…|\d+\.\d+ s\b| {{2,}}|{_ID.pattern})")
_BASH = "/bin/bash"
_MARK = "end of the command:"


Shell: TypeAlias = "subprocess.Popen[str]"


class PageError(Exception):
    """A command does not do what its page shows; the message has both."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a page, and the output that the page shows."""

    command: str
    printed: str


def replay(page: str, directory: Path, environment: Mapping[str, str]) -> None:
    """Write the files of a page into the directory and run its commands there.

    Raises:
        PageError: a command fails, or has another output than the page shows.
    """
    ids: dict[str, str] = {}
    with open_shell(directory, environment) as shell:
        for above, language, body in _BLOCK.findall(page):
            name = _FILE_NAME.search(above)
            if language == "console":
                for step in read_steps(body):
                    command = _ID.sub(lambda found: ids.get(found[0], found[0]), step.command)
                    compare(step, run(shell, command), ids)
            elif name is not None:
                path = directory / name[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(body, encoding="utf-8")


def read_steps(block: str) -> Iterator[Step]:
    """Yield the commands of a console block in their order."""
    for text in re.split(r"^\$ ", block, flags=re.M)[1:]:
        lines = text.splitlines()
        length = next(n for n in range(1, len(lines) + 1) if _is_complete("\n".join(lines[:n])))
        yield Step("\n".join(lines[:length]), "\n".join(lines[length:]))


def compare(step: Step, output: str, ids: dict[str, str]) -> None:
    """Compare the output of a command with the page, and add the ids that are new in it.

    Raises:
        PageError: they differ.
    """
    parts = _LOOSE.split(step.printed)
    loose = (_loosen(part) if index % 2 else re.escape(part) for index, part in enumerate(parts))
    found = re.fullmatch("".join(loose), output.strip(), re.S)
    new = zip(_ID.findall(step.printed), found.groups(), strict=True) if found else ()
    if found is None or any(ids.setdefault(written, actual) != actual for written, actual in new):
        raise PageError(f"$ {step.command}\nprinted:\n{output}\nbut is to print:\n{step.printed}")


@contextlib.contextmanager
def open_shell(directory: Path, environment: Mapping[str, str]) -> Iterator[Shell]:
    """Start a bash for all commands of a page, and end it with its jobs."""
    with subprocess.Popen(
        [_BASH],
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        encoding="utf-8",
    ) as shell:
        try:
            yield shell
        finally:
            os.killpg(shell.pid, signal.SIGTERM)


def run(shell: Shell, command: str) -> str:
    """Run a command and return what it prints.

    Raises:
        PageError: it fails.
    """
    commands, printed = cast("IO[str]", shell.stdin), cast("IO[str]", shell.stdout)
    # In a group with an input of its own, it cannot read the commands that follow.
    commands.write(f"{{\n{command}\n}} < /dev/null; printf '\\n%s %d\\n' '{_MARK}' $?\n")
    commands.flush()
    output = line = ""
    for line in printed:
        if line.startswith(_MARK):
            break
        output += line
    if line != f"{_MARK} 0\n":
        raise PageError(f"$ {command}\nfailed:\n{output}")
    return output


def _is_complete(command: str) -> bool:
    """Ask bash, which takes an open quotation for an error and warns of an open here-document."""
    checked = subprocess.run(
        [_BASH, "-n"], input=command, capture_output=True, check=False, encoding="utf-8"
    )
    return not (checked.returncode or checked.stderr or command.endswith("\\"))


def _loosen(part: str) -> str:
    """Return an expression for what stands for something else; an id is a group."""
    if part == "…":
        return ".*"
    if part.isspace():
        return " +"
    return r"\d+\.\d+ s" if part.endswith(" s") else f"({_ID.pattern})"
