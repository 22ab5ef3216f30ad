"""Settings of a program: the environment over one `.env`, checked before anything starts.

A field is named as its variable, in lower case. Values are never shown: they may be secrets.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis import log

EX_CONFIG = 78
"""The exit status for bad settings, from BSD's sysexits(3)."""

Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]


def _check_database_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a postgresql:// URL")
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]


class Settings(BaseSettings):
    """What every program needs to know."""

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8",
        env_ignore_empty=False,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    log_format: log.Format = "json"
    """`json` for programs, or `console` for people."""
    log_level: log.Level = "info"
    """The least that is worth a log event: `debug`, `info`, `warning` or `error`."""


class PostgresSettings(Settings):
    """Where the PostgreSQL server is."""

    postgres_host: Host
    """Where the PostgreSQL server listens."""
    postgres_port: Port
    """The port of the PostgreSQL server."""
    postgres_user: Annotated[str, Field(min_length=1)]
    """The role that owns the databases."""
    postgres_password: SecretStr
    """The password of that role."""

    def database_url(self, database: str, override: SecretStr | None = None) -> str:
        """Return the URL of a database on this server, or the override where there is one."""
        if override is not None:
            return override.get_secret_value()
        user = quote(self.postgres_user, safe="")
        password = quote(self.postgres_password.get_secret_value(), safe="")
        return (
            f"postgresql://{user}:{password}@{self.postgres_host}:{self.postgres_port}/{database}"
        )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(cls: type[SettingsT]) -> SettingsT:
    """Read the settings, or end the program with status 78 and a line for each bad variable."""
    try:
        return cls(_env_file=dotenv_path())
    except ValidationError as error:
        _exit(error)


def dotenv_path() -> Path:
    """Return where `.env` belongs: the workspace under `bazel run`, else the current directory."""
    return Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / ".env"


def _exit(error: ValidationError) -> NoReturn:
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]).upper()
        print(f"{name}: {problem['msg']}", file=sys.stderr)
    print("Set these in the environment or in .env and start again.", file=sys.stderr)
    raise SystemExit(EX_CONFIG) from None
