"""Settings of a program, from the environment and `.env`, checked before anything starts.

The environment wins. A field has the name of its variable, in lower case. Values are never printed,
as they may be secrets. Which unknown names are refused is in `chassis.setting_names`.
"""

import ipaddress
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from chassis import log
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


class _OnServer(str):
    """The name of a database on the server of POSTGRES_*, in place of a URL."""

    __slots__ = ()


def _to_url(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, _OnServer):
        return value
    missing = [name.upper() for name in _SERVER if info.data.get(name) is None]
    if missing:
        raise ValueError(f"must be set, or else {', '.join(missing)}")
    host, port, user, password = (info.data[name] for name in _SERVER)
    login = f"{quote(user, safe='')}:{quote(password.get_secret_value(), safe='')}"
    database = value or info.data.get("postgres_database")
    return f"postgresql://{login}@{address(host, port)}/{database}"


def _check_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a postgresql:// URL")
    return url


DatabaseUrl = Annotated[SecretStr, BeforeValidator(_to_url), AfterValidator(_check_url)]


def split(names: object) -> object:
    """Split a text at its commas: validates a field that is a tuple, and is not decoded before."""
    if not isinstance(names, str):
        return names
    return [name.strip() for name in names.split(",")] if names else []


class Settings(BaseSettings):
    """Settings of every program."""

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
    """The least severe events that are logged: `debug`, `info`, `warning` or `error`."""


class DatabaseSettings(Settings):
    """Where the PostgreSQL server is: not needed by a program whose databases all have URLs."""

    postgres_host: Host | None = None
    """Where the PostgreSQL server listens."""
    postgres_port: Port | None = None
    """The port of the PostgreSQL server."""
    postgres_user: Annotated[str, Field(min_length=1)] | None = None
    """The role that owns the databases."""
    postgres_password: SecretStr | None = None
    """The password of that role."""


_SERVER = tuple(DatabaseSettings.__annotations__)


def own_database(name: str = "") -> Any:
    """Declare a field of type DatabaseUrl for a database of the program's own.

    By default it is the database of this name on the server of POSTGRES_*; without a name, that of
    the setting POSTGRES_DATABASE.
    """
    return Field(default=_OnServer(name), validate_default=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(cls: type[SettingsT], given: Mapping[str, str] = MappingProxyType({})) -> SettingsT:
    """Read the settings, or end the program with status 78 and a line for each bad variable.

    Values that are `given`, by the names of their variables, win over the environment.
    """
    problems = list(_find_unknown(cls))
    values: dict[str, Any] = {name.lower(): value for name, value in given.items()}
    try:
        found = cls(_env_file=dotenv_path(), **values)
    except ValidationError as error:
        _exit([*_describe(error), *problems])
    if problems:
        _exit(problems)
    return found


def dotenv_path() -> Path:
    """Return the path of `.env`: in the workspace under `bazel run`, else the current directory."""
    return Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / ".env"


def _find_unknown(cls: type[Settings]) -> Iterable[str]:
    known = {name.upper() for name in cls.model_fields}
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
