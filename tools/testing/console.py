"""Runs the console blocks of a Markdown page as a reader does, and compares what they print.

In a ```console block a line that begins with `$ ` is a command, with the lines that complete it;
the lines below are what it prints. All commands of a page run in one shell, in one directory. A
block of another language is a file, if the line above it ends with its name: "... `server.py`:".

`…` stands for anything that was cut, a time in seconds for any other, and an id for whichever comes
first in its place; from then on it is that id, in commands too.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

_BLOCK = re.compile(r"^(?P<above>[^\n]*)\n\n?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
_FILE_NAME = re.compile(r"`([^`]+)`:$")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOOSE = re.compile(rf"(…|\d+\.\d+ s\b| {{2,}}|{_ID.pattern})")
_BASH = "/bin/bash"
_MARK = "end of the command:"


class PageError(Exception):
    """A command does not do what its page says; the message has both."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a page, and what the page says that it prints."""

    command: str
    printed: str


def replay(page: str, directory: Path, environment: Mapping[str, str]) -> None:
    """Write the files of a page into the directory and run its commands there.

    Raises:
        PageError: a command fails, or prints something else than the page says.
    """
    ids: dict[str, str] = {}
    with Shell(directory, environment) as shell:
        for above, language, body in _BLOCK.findall(page):
            name = _FILE_NAME.search(above)
            if language == "console":
                for step in read_steps(body):
                    compare(step, shell.run(_replace_ids(step.command, ids)), ids)
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
    written = [each for each in dict.fromkeys(_ID.findall(step.printed)) if each not in ids]
    groups = {each: f"id{number}" for number, each in enumerate(written)}
    pattern = _make_pattern(_replace_ids(step.printed, ids), groups)
    found = re.fullmatch(pattern, output.strip(), re.S)
    if found is None:
        raise PageError(f"$ {step.command}\nprinted:\n{output}\nbut is to print:\n{step.printed}")
    ids |= {each: found[group] for each, group in groups.items()}


class Shell:
    """One bash, for all commands of a page. Use it in a `with` block, which ends its jobs too."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [_BASH],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            encoding="utf-8",
        )
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)

    def run(self, command: str) -> str:
        """Run a command and return what it prints.

        Raises:
            PageError: it fails.
        """
        # In a group with an input of its own, it cannot read the commands that follow.
        self._input.write(f"{{\n{command}\n}} < /dev/null; printf '\\n%s %d\\n' '{_MARK}' $?\n")
        self._input.flush()
        output = line = ""
        for line in self._output:
            if line.startswith(_MARK):
                break
            output += line
        if line != f"{_MARK} 0\n":
            raise PageError(f"$ {command}\nfailed:\n{output}")
        return output

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.communicate()


def _is_complete(command: str) -> bool:
    """Ask bash, which takes an open quotation for an error and warns of an open here-document."""
    checked = subprocess.run(
        [_BASH, "-n"], input=command, capture_output=True, check=False, encoding="utf-8"
    )
    return not (checked.returncode or checked.stderr or command.endswith("\\"))


def _replace_ids(text: str, ids: Mapping[str, str]) -> str:
    return _ID.sub(lambda found: ids.get(found[0], found[0]), text)


def _make_pattern(printed: str, groups: Mapping[str, str]) -> str:
    """Return an expression for what is printed, with a group for each id that has a name for it."""
    seen = set[str]()

    def loosen(part: str) -> str:
        if part == "…":
            return ".*"
        if part.isspace():
            return " +"
        if part.endswith(" s"):
            return r"\d+\.\d+ s"
        if part not in groups:
            return part
        if part in seen:
            return f"(?P={groups[part]})"
        seen.add(part)
        return f"(?P<{groups[part]}>{_ID.pattern})"

    parts = _LOOSE.split(printed)
    return "".join(
        loosen(part) if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
