"""The settings of a program for TLS between the processes of a shop.

They are the last fields of its settings: whether plain text is allowed depends on the addresses,
which are before them.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from chassis import settings, targets
from chassis.tls import Certificates, TlsError

PLAINTEXT = "bazaar_plaintext"

_PLAINTEXT_DESCRIPTION = """\
Whether the processes call each other without TLS, by which any local process is taken for one of \
them. All addresses must be loopback, and the TLS directory is not read."""
_DIRECTORY_DESCRIPTION = """\
The directory with ca.crt, tls.crt and tls.key, for TLS between the processes. A relative path \
begins where .env is. New files are read without a restart."""


def tls_fields(prefix: str, services: Collection[str], server_name: str = "") -> dict[str, Any]:
    """Return the fields, as for `pydantic.create_model`.

    `prefix` is that of the program's settings, and `services` are those of the services that it is
    or calls, whose targets are among the fields. A program with a server has its `server_name`.
    """
    check = AfterValidator(partial(_check_plaintext, services))
    read = BeforeValidator(partial(_read_directory, server_name))
    return {
        PLAINTEXT: (
            Annotated[bool, check],
            Field(default=False, description=_PLAINTEXT_DESCRIPTION),
        ),
        f"{prefix}_tls_directory": (
            Annotated[Any, read],
            Field(default=None, validate_default=True, description=_DIRECTORY_DESCRIPTION),
        ),
    }


def find_certificates(config: settings.Settings, prefix: str) -> Certificates | None:
    """Return the certificates of a program whose settings have the fields; None for plain text."""
    found: Certificates | None = getattr(config, f"{prefix}_tls_directory")
    return found


def _check_plaintext(services: Collection[str], plaintext: bool, info: ValidationInfo) -> bool:
    remote = [name for prefix in services for name in _find_remote(prefix, info.data)]
    if plaintext and remote:
        names = ", ".join(map(str.upper, remote))
        raise ValueError(f"must be false, because not every address is loopback: see {names}")
    return plaintext


def _find_remote(prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the settings with another machine; bad ones have lines of their own."""
    host, target = values.get(f"{prefix}_host"), values.get(f"{prefix}_target")
    if host and not settings.is_loopback(host):
        yield f"{prefix}_host"
    if target and not targets.is_local(target):
        yield f"{prefix}_target"


def _read_directory(server_name: str, value: object, info: ValidationInfo) -> Certificates | None:
    if info.data.get(PLAINTEXT):
        return None
    if not isinstance(value, str) or not value:
        raise ValueError(
            "must be a directory with ca.crt, tls.crt and tls.key, such as"
            " ./bazelw run //tools/certs makes, unless BAZAAR_PLAINTEXT is true"
        )
    try:
        return Certificates(settings.dotenv_path().parent / value, server_name)
    except TlsError as error:
        raise ValueError(str(error)) from error
