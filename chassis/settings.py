"""Settings of a program, from the environment and `.env`, checked before anything starts.

The environment and files of secrets win over `.env`; a setting in both of them is refused. A field
has the name of its variable, in lower case. Values are never printed, as they may be secrets. Which
unknown names are refused is in `chassis.setting_names`.
"""

import ipaddress
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar
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
from chassis.secret_files import SecretFiles, read_directory
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


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, without asking any name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


DEVELOPMENT_SECRET = "change-me-in-production"  # noqa: S105 - It is refused elsewhere.
"""What passwords and other secrets are in `.env`, and nowhere else."""


def is_development(info: ValidationInfo) -> bool:
    """Return whether BAZAAR_ENVIRONMENT is development, while a field of Settings is validated."""
    return info.data.get("bazaar_environment") == "development"


def _refuse_development_secret(password: SecretStr, info: ValidationInfo) -> SecretStr:
    if password.get_secret_value() == DEVELOPMENT_SECRET and not is_development(info):
        raise ValueError("must not be that of .env unless BAZAAR_ENVIRONMENT is development")
    return password


Password = Annotated[SecretStr, Field(min_length=1), AfterValidator(_refuse_development_secret)]
"""A password that is not DEVELOPMENT_SECRET, except in development."""


@dataclass(frozen=True, slots=True)
class OnServer:
    """A database on the server of POSTGRES_*, as the default of a field of type DatabaseUrl."""

    database: str
    """Its name; if that is empty, POSTGRES_DATABASE has it."""
    password: str
    """The setting with the password. It is declared before the field, like `user`."""
    user: str = ""
    """The setting with the role; without one, it is the app role."""

    def make_url(self, values: Mapping[str, Any]) -> str:
        """Return the URL, from the settings that are good.

        Raises:
            ValueError: one is missing.
        """
        needed = [*_SERVER, *filter(None, (self.user, self.password))]
        missing = [name.upper() for name in needed if values.get(name) is None]
        if missing:
            raise ValueError(f"must be set, or else {', '.join(missing)}")
        database = self.database or values.get("postgres_database", "")
        user = values[self.user] if self.user else app_role(database)
        password = values[self.password].get_secret_value()
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        server = address(values["postgres_host"], values["postgres_port"])
        return f"postgresql://{login}@{server}/{quote(database, safe='')}{_find_options(values)}"


def _find_options(values: Mapping[str, Any]) -> str:
    """Return the options by which the server has to prove its name, with TLS."""
    is_development = values.get("bazaar_environment") == "development"
    if is_development or is_loopback(values["postgres_host"]):
        return ""
    root = values["postgres_sslrootcert"]
    path = root if root == "system" else str(dotenv_path().parent / root)
    return f"?sslmode=verify-full&sslrootcert={quote(path, safe='')}"


def app_role(database: str) -> str:
    """Return the role that a program connects to its database as, unless a URL names another."""
    return f"{database}_app"


def _to_url(value: object, info: ValidationInfo) -> object:
    return value.make_url(info.data) if isinstance(value, OnServer) else value


def _check_url(url: SecretStr, info: ValidationInfo) -> SecretStr:
    text = url.get_secret_value()
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a postgresql:// URL")
    if DEVELOPMENT_SECRET in text:
        _refuse_development_secret(SecretStr(DEVELOPMENT_SECRET), info)
    return url


DatabaseUrl = Annotated[SecretStr, BeforeValidator(_to_url), AfterValidator(_check_url)]


def split(names: object) -> object:
    """Split a string at its commas: the validator of a field that is a tuple, with NoDecode."""
    if not isinstance(names, str):
        return names
    return [name.strip() for name in names.split(",")] if names else []


Environment = Literal["development", "production"]


class Settings(BaseSettings):
    """Settings of every program."""

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8",
        env_ignore_empty=False,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    own_prefix: ClassVar[str] = ""
    """The prefix of the settings that only this program has, such as `APIGATEWAY_`."""

    bazaar_environment: Environment = "production"
    """Where the shop runs: known passwords, test keys and the like are for `development` only."""
    log_format: log.Format = "json"
    """`json` for programs, or `console` for people."""
    log_level: log.Level = "info"
    """The least severe events that are logged: `debug`, `info`, `warning` or `error`."""
    bazaar_secrets_directory: Path | None = None
    """A directory with files whose names are those of settings, and whose contents are the values,
    such as secrets of Docker and Kubernetes. A setting with a file must not be a variable of the
    environment as well. A relative path begins where .env is."""


class DatabaseSettings(Settings):
    """Where the PostgreSQL server is: not needed by a program whose databases all have URLs."""

    postgres_host: Host | None = None
    """Where the PostgreSQL server listens."""
    postgres_port: Port | None = None
    """The port of the PostgreSQL server."""
    postgres_sslrootcert: str = Field(default="system", min_length=1)
    """A file with the authorities one of which must have signed the certificate of the server, in
    production unless the server is on this machine. A relative path begins where .env is; `system`
    are those that SSL_CERT_FILE or SSL_CERT_DIR names, or else OpenSSL has."""


_SERVER = tuple(DatabaseSettings.__annotations__)


def own_database(password: str, name: str = "") -> Any:
    """Declare a field of type DatabaseUrl for a database of the program's own.

    By default it is the database of this name on the server of POSTGRES_*, as its app role, whose
    password is in a setting that is declared before; without a name, the name is in the setting
    POSTGRES_DATABASE.
    """
    return Field(default=OnServer(name, password), validate_default=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(cls: type[SettingsT], given: Mapping[str, str] = MappingProxyType({})) -> SettingsT:
    """Read the settings, or end the program with status 78 and a line for each bad variable.

    Values that are `given`, by the names of their variables, win over the environment.
    """
    secrets = _read_secrets(cls)
    problems = [*secrets.problems, *_find_unknown(cls, secrets.names)]
    values: dict[str, Any] = {
        name.lower(): value for name, value in {**secrets.values, **given}.items()
    }
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


_SECRETS_DIRECTORY = "BAZAAR_SECRETS_DIRECTORY"


def _read_secrets(cls: type[Settings]) -> SecretFiles:
    in_file = _read_dotenv(cls).get(_SECRETS_DIRECTORY.lower())
    path = os.environ.get(_SECRETS_DIRECTORY, in_file)
    if path is None:
        return SecretFiles()
    try:
        found = read_directory(dotenv_path().parent / path, _names(cls))
    except OSError as error:
        return SecretFiles(problems=[f"{_SECRETS_DIRECTORY}: cannot be read: {error.strerror}"])
    twice = sorted(found.values.keys() & {name.upper() for name in os.environ})
    again = [f"{name}: must not be in the environment, because it is a file" for name in twice]
    return replace(found, problems=[*found.problems, *again])


def _read_dotenv(cls: type[Settings]) -> Mapping[str, str | None]:
    """Return the variables of `.env`, by their names in lower case."""
    return DotEnvSettingsSource(cls, dotenv_path()).env_vars


def _names(cls: type[Settings]) -> set[str]:
    return {name.upper() for name in cls.model_fields}


def _find_unknown(cls: type[Settings], files: Iterable[str]) -> Iterable[str]:
    known = _names(cls)
    names = {name.upper() for name in (*os.environ, *_read_dotenv(cls), *files)}
    for name, meant in find_misspelt(names, known, cls.own_prefix):
        yield f"{name} is unknown" + (f": did you mean {meant}?" if meant else "")


def _describe(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_input=False, include_url=False):
        yield f"{str(problem['loc'][0]).upper()}: {problem['msg']}"


def _exit(problems: Iterable[str]) -> NoReturn:
    for problem in problems:
        print(problem, file=sys.stderr)
    print("Correct these where they are set and start again.", file=sys.stderr)
    raise SystemExit(EX_CONFIG) from None
