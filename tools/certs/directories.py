"""The TLS directories of the programs of a shop, and the authority behind them, as files.

Each program has a directory of its own name; the key of the authority is in `authority`, where no
program looks.
"""

import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chassis.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Certificates, TlsError
from tools.certs.authority import Authority, KeyPair, is_for_development

PROGRAMS = ("user", "product", "order", "payment", "gateway")
AUTHORITY = "authority"
RENEW_BEFORE = timedelta(days=10)
"""How long before its end a certificate is renewed: a third of its life."""

_AUTHORITY_KEY_FILE = "ca.key"


def renew(
    root: Path,
    names: Collection[str] = PROGRAMS,
    *,
    kept: Collection[str] = (),
    everything: bool = False,
) -> Mapping[str, datetime]:
    """Issue the certificates that are missing, unusable or about to expire, or `everything`.

    The certificates of `kept` programs remain as they are.

    Programs that run may read the files at any time: each is replaced at once, the key first.
    Return when the new certificates expire, by the names of their programs.

    Raises:
        OSError: a file cannot be read or written.
    """
    authority = _find_authority(root / AUTHORITY, names)
    renewed = {}
    for name in names:
        directory = root / name
        if name in kept:
            continue
        if everything or not _is_usable(directory, name, authority):
            write_directory(directory, authority, authority.issue(name))
            renewed[name] = Certificates(directory, name).expire_time
    return renewed


def is_from_elsewhere(directory: Path) -> bool:
    """Return whether a TLS directory has a certificate that was not made here."""
    try:
        return not is_for_development((directory / CERTIFICATE_FILE).read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True


def write_directory(directory: Path, authority: Authority, pair: KeyPair) -> Path:
    """Write a TLS directory in which the authority is trusted, and return it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(directory / CA_FILE, authority.pair.certificate)
    _write(directory / KEY_FILE, pair.key)
    _write(directory / CERTIFICATE_FILE, pair.certificate)
    return directory


def _find_authority(directory: Path, names: Collection[str]) -> Authority:
    """Return the authority of the directory, or a new one if it cannot be used."""
    certificate_path, key_path = directory / CA_FILE, directory / _AUTHORITY_KEY_FILE
    try:
        found = Authority.load(KeyPair(certificate_path.read_bytes(), key_path.read_bytes()))
        if found.can_issue(names):
            return found
    except (FileNotFoundError, ValueError):
        pass
    made = Authority.create(names)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(key_path, made.pair.key)
    _write(certificate_path, made.pair.certificate)
    return made


def _is_usable(directory: Path, name: str, authority: Authority) -> bool:
    try:
        found = Certificates(directory, name)
    except TlsError:
        return False
    is_ours = found.current().authorities == authority.pair.certificate
    return is_ours and found.expire_time - datetime.now(UTC) > RENEW_BEFORE


def _write(path: Path, content: bytes) -> None:
    """Replace a file at once by one that only its owner may read."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    unfinished.replace(path)
