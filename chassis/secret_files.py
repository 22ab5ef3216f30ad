"""Settings whose values are files, as Docker and Kubernetes hand secrets to a program.

A file has the name of its variable, in upper or lower case. Other files of the directory are of
other programs, or of Kubernetes, which has folders of its own there. Files are read once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 65_536
"""How large a file may be."""


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """What is in a directory of secrets."""

    names: Collection[str] = ()
    """The names of all files, in upper case."""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The values of settings, by the names of their variables."""
    problems: Collection[str] = ()
    """A line for each file that cannot be used, without anything of its contents."""


def read_directory(directory: Path, known: Collection[str]) -> SecretFiles:
    """Read the files of `known` variables, whose names are in upper case.

    Raises:
        OSError: the directory cannot be read.
    """
    paths = sorted(directory.iterdir())
    names = {path.name.upper() for path in paths}
    values, problems = {}, []
    for name in sorted(names & set(known)):
        path, *others = (path for path in paths if path.name.upper() == name)
        if others:
            problems.append(f"{name}: must not be in {path.name} and in {others[0].name}")
            continue
        try:
            values[name] = _read_value(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problems.append(f"{name}: the file {path} cannot be used: {reason}")
    return SecretFiles(names, values, problems)


def _read_value(path: Path) -> str:
    """Return the text of a file, without the newline at its end that an editor leaves there.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no value of a setting.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"It has more than {MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("It is not UTF-8") from None
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ValueError("It is empty")
    if "\0" in value:
        raise ValueError("It has a NUL character")
    return value
