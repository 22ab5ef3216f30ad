"""The catalogue of seeded bugs: one TOML file per area, read and checked against the sources.

A TOML file has groups of bugs, each group in one source file and with the test targets that should
notice them. A bug is a triple: the behaviour that it breaks, a string that occurs once in the
source file, and its replacement.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: `find`, which must occur once in `file`, becomes `replacement`."""

    area: str
    behaviour: str
    file: str
    find: str
    replacement: str
    targets: tuple[str, ...]

    def __str__(self) -> str:
        """Return what people and `--only` read: area, file and behaviour."""
        return f"{self.area}: {self.file}: {self.behaviour}"


def read_catalogue(directory: Path) -> list[Mutant]:
    """Read all files of a directory, in the order of their names."""
    return [
        Mutant(path.stem, behaviour, group["file"], find, replacement, tuple(group["targets"]))
        for path in sorted(directory.glob("*.toml"))
        for group in tomllib.loads(path.read_text(encoding="utf-8"))["groups"]
        for behaviour, find, replacement in group["bugs"]
    ]


def find_stale(mutants: Iterable[Mutant], workspace: Path) -> list[str]:
    """Return a line for each mutant that cannot be put into its file, which says why."""
    return [
        f"{mutant}: {mutant.find!r} occurs {count} times, not once"
        for mutant in mutants
        if (count := _read(mutant, workspace).count(mutant.find)) != 1
    ]


def apply(mutant: Mutant, workspace: Path) -> str:
    """Put a bug into its file, and return what the file was before."""
    source = _read(mutant, workspace)
    mutated = source.replace(mutant.find, mutant.replacement)
    (workspace / mutant.file).write_text(mutated, encoding="utf-8")
    return source


def _read(mutant: Mutant, workspace: Path) -> str:
    path = workspace / mutant.file
    return path.read_text(encoding="utf-8") if path.is_file() else ""
