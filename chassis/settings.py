"""Settings of a program: the environment over one `.env`, checked before anything starts.

A field is named as its variable, in lower case. Values are never shown: they may be secrets. Which
unknown names are refused is in setting_names.py.
"""

import ipaddress
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, NoReturn, TypeVar
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from chassis import log
from chassis.limits import DEFAULT_LIMITS, Limits
from chassis.setting_names import find_misspelt

EX_CONFIG = 78
"""The exit status for bad settings, from BSD's sysexits(3)."""


def _check_host(host: str) -> str:
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ValueError("must be a name or an address, without brackets or a port") from error
    return host


Host = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:-]+$"),
    AfterValidator(_check_host),
]
"""A name, an IPv4 address or an IPv6 address such as `::1`."""
Port = Annotated[int, Field(ge=1, le=65535)]


def address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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

    own_prefix: ClassVar[str] = ""
    """The prefix of the settings that only this program has, such as `APIGATEWAY_`."""

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
        server = address(self.postgres_host, self.postgres_port)
        return f"postgresql://{user}:{password}@{server}/{database}"


class ServiceSettings(PostgresSettings):
    """Settings of every service, each of which reads them from its own environment."""

    service_database_connections: Annotated[int, Field(ge=1, le=1_000)] = 10
    """How many connections to its database a service holds at most, beside one for probes."""
    service_max_calls: Annotated[int, Field(ge=1, le=100_000)] = DEFAULT_LIMITS.max_calls
    """How many calls a service has in flight at most; one more is refused."""
    service_max_send_seconds: Annotated[float, Field(gt=0, le=3_600)] = (
        DEFAULT_LIMITS.max_send_seconds
    )
    """How long a client may take to read one message of a response."""
    service_grace_seconds: Annotated[float, Field(ge=0, le=3_600)] = DEFAULT_LIMITS.grace_seconds
    """How long calls may go on when a service stops."""

    def limits(self) -> Limits:
        """Return the limits of the service's server."""
        return Limits(
            max_calls=self.service_max_calls,
            max_send_seconds=self.service_max_send_seconds,
            grace_seconds=self.service_grace_seconds,
        )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(cls: type[SettingsT]) -> SettingsT:
    """Read the settings, or end the program with status 78 and a line for each bad variable."""
    problems = list(_find_unknown(cls))
    try:
        found = cls(_env_file=dotenv_path())
    except ValidationError as error:
        _exit([*_describe(error), *problems])
    if problems:
        _exit(problems)
    return found


def dotenv_path() -> Path:
    """Return where `.env` belongs: the workspace under `bazel run`, else the current directory."""
    return Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / ".env"


def _find_unknown(cls: type[Settings]) -> Iterable[str]:
    known = {
        str(field.validation_alias or name).upper() for name, field in cls.model_fields.items()
    }
    in_file = DotEnvSettingsSource(cls, dotenv_path()).env_vars
    names = {name.upper() for name in (*os.environ, *in_file)}
    for name, meant in find_misspelt(names, known, cls.own_prefix):
        yield f"{name} is unknown" + (f": did you mean {meant}?" if meant else "")


def _describe(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_input=False, include_url=False):
        yield f"{str(problem['loc'][0]).upper()}: {problem['msg']}"


def _exit(problems: Iterable[str]) -> NoReturn:
    for problem in problems:
        print(problem, file=sys.stderr)
    print("Correct these in the environment or in .env and start again.", file=sys.stderr)
    raise SystemExit(EX_CONFIG) from None
