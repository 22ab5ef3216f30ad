"""What a backup consists of: a file for each database, and a manifest that vouches for them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

NAME = "manifest.json"


class ManifestError(Exception):
    """A directory is no complete backup; the message has the file and what is wrong with it."""


class Dump(BaseModel):
    """The file of a database, in the custom format of pg_dump."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str
    """The revision that the schema is at."""
    sha256: str


class Manifest(BaseModel):
    """The manifest, which is written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    time: AwareDatetime
    """The moment of which all databases are."""
    databases: Mapping[str, Dump]


def find_file(directory: Path, database: str) -> Path:
    """Return the path of the file of a database."""
    return directory / f"{database}.dump"


def compute_sha256(path: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(manifest: Manifest, directory: Path) -> None:
    """Write the manifest of a backup."""
    (directory / NAME).write_text(f"{manifest.model_dump_json(indent=2)}\n", encoding="utf-8")


def read(directory: Path) -> Manifest:
    """Read the manifest of a backup, and see that its files are those that it names.

    Raises:
        ManifestError: it cannot be read, or a file is missing or another one.
    """
    try:
        manifest = Manifest.model_validate_json((directory / NAME).read_bytes())
        for database, dump in manifest.databases.items():
            path = find_file(directory, database)
            if compute_sha256(path) != dump.sha256:
                raise ManifestError(f"{path} is not the file that was written: its SHA-256 differs")
    except OSError as error:
        raise ManifestError(f"{directory} is no complete backup: {error}") from error
    except ValidationError as error:
        raise ManifestError(f"{directory / NAME} cannot be read: {error}") from error
    return manifest
