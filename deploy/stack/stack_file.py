"""Stack files, read as Compose and `docker stack deploy` read them: merged and interpolated."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import yaml

from deploy.containers import Container

Node: TypeAlias = dict[str, Any]

SECRETS = "/run/secrets"
"""Where the files of secrets are that have no path of their own."""

# https://docs.docker.com/reference/compose-file/interpolation/
_VARIABLE = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")


class MissingError(Exception):
    """A service refers to something that there is not."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One deployment."""

    directory: Path
    """Where the files are, which relative paths begin at."""
    content: Node

    @property
    def services(self) -> Mapping[str, Node]:
        """The services by their names."""
        services: Node = self.content["services"]
        return services

    def container(self, service: Node) -> Container:
        """Return what a container of a service hands to its program.

        Raises:
            MissingError: there is no secret of a name, or no file of it.
        """
        folders: dict[str, dict[str, str]] = {}
        for source, target in targets(service):
            folders.setdefault(str(target.parent), {})[target.name] = self._read_secret(source)
        return Container(service.get("environment", {}), folders)

    def _read_secret(self, name: str) -> str:
        secret: dict[str, str] | None = self.content["secrets"].get(name)
        if secret is None:
            raise MissingError(f"there is no secret {name}")
        try:
            return (self.directory / secret["file"]).read_text()
        except OSError as error:
            raise MissingError(f"{secret['file']}: {error.strerror}") from error


def targets(service: Node) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield the names of the secrets that a service gets, and the paths of their files."""
    for each in service.get("secrets", ()):
        source, target = (each, each) if isinstance(each, str) else (each["source"], each["target"])
        yield source, PurePosixPath(SECRETS, target)


def read_files(paths: Sequence[Path], variables: Mapping[str, str]) -> Stack:
    """Return what the files are together; the later ones win."""
    content: Node = {}
    for path in paths:
        content = _merge(content, _interpolate(yaml.safe_load(path.read_text()), variables))
    return Stack(paths[0].parent, content)


def _interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolate(each, variables) for each in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: variables.get(found["name"], found["default"]), value)
    return value


def _merge(first: Any, second: Any) -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: _merge(first[key], second[key]) for key in first.keys() & second.keys()}
        return {**first, **second, **both}
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    return second
