"""Which TLS directories can be used, and how the certificates follow their files."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis.testing import Events
from chassis.tls import Certificates, TlsError, server_name
from tools.certs.authority import Authority, KeyPair, spiffe_id
from tools.certs.directories import write_directory

pytest_plugins = ("chassis.testing",)

NAMES = ("user", "order")
AUTHORITY = Authority.create(NAMES)
OTHER = Authority.create(NAMES)
USER = AUTHORITY.issue("user")
USER_AGAIN = AUTHORITY.issue("user")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "user", AUTHORITY, USER)


def remove_key(directory: Path) -> None:
    (directory / "tls.key").unlink()


def empty_authorities(directory: Path) -> None:
    (directory / "ca.crt").write_bytes(b"")


def spoil_certificate(directory: Path) -> None:
    (directory / "tls.crt").write_bytes(USER.certificate[:200])


def spoil_key(directory: Path) -> None:
    (directory / "tls.key").write_bytes(USER.key[:100])


def replace(pair: KeyPair) -> Callable[[Path], object]:
    return lambda directory: write_directory(directory, AUTHORITY, pair)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (remove_key, "tls.key cannot be read: No such file or directory"),
        (empty_authorities, "ca.crt cannot be parsed as PEM without a password"),
        (spoil_certificate, "tls.crt cannot be parsed as PEM without a password"),
        (spoil_key, "tls.key cannot be parsed as PEM without a password"),
        (
            replace(KeyPair(USER.certificate, USER_AGAIN.key)),
            "tls.key is not the key of tls.crt",
        ),
        (
            replace(AUTHORITY.issue("user", lifetime=timedelta(minutes=-1))),
            "tls.crt has expired",
        ),
        (replace(OTHER.issue("user")), "tls.crt is not verified by ca.crt"),
        (replace(AUTHORITY.issue("order")), "tls.crt must have the DNS name user"),
        (
            replace(AUTHORITY.issue("user", uris=[spiffe_id("user"), spiffe_id("order")])),
            "tls.crt must have one URI among its names, a SPIFFE id",
        ),
        (
            replace(AUTHORITY.issue("user", uris=["https://bazaar/user"])),
            "tls.crt must have one URI among its names, a SPIFFE id",
        ),
        (
            replace(AUTHORITY.issue("user", uris=[])),
            "tls.crt must have one URI among its names, a SPIFFE id",
        ),
    ],
)
def test_a_directory_that_peers_would_refuse_is_refused(
    directory: Path, change: Callable[[Path], object], reason: str
) -> None:
    Certificates(directory, "user")
    change(directory)
    with pytest.raises(TlsError, match=reason):
        Certificates(directory, "user")


def test_an_authority_signs_for_no_name_but_those_that_it_was_made_for(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "payment", AUTHORITY, AUTHORITY.issue("payment"))
    with pytest.raises(TlsError, match=r"tls\.crt is not verified by ca\.crt"):
        Certificates(directory, "payment")


def test_an_authority_needs_no_extension_but_that_it_is_one(tmp_path: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "as openssl makes it")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(certificate, key)
    directory = write_directory(tmp_path / "user", authority, authority.issue("user"))
    Certificates(directory, "user")


def test_a_certificate_may_be_followed_by_others(directory: Path) -> None:
    path = directory / "tls.crt"
    path.write_bytes(path.read_bytes() + AUTHORITY.pair.certificate)
    Certificates(directory, "user")


def test_files_are_read_again_after_a_while(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(directory, "user")
    write_directory(directory, AUTHORITY, USER_AGAIN)
    assert certificates.current().key == USER.key
    monkeypatch.setattr(certificates, "_reload_time", 0.0)
    renewed = certificates.current()
    assert renewed.key == USER_AGAIN.key
    assert certificates.current() is renewed


def test_files_that_cannot_be_used_change_nothing_and_are_logged_once(
    directory: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.tls.RELOAD_SECONDS", 0.0)
    certificates = Certificates(directory, "user")
    before = certificates.current()
    (directory / "tls.key").write_bytes(USER_AGAIN.key)
    assert certificates.current() is certificates.current() is before
    (directory / "tls.crt").write_bytes(USER_AGAIN.certificate)
    assert certificates.current().certificate == USER_AGAIN.certificate
    logged = [(event["event"], event.get("reason")) for event in events]
    assert logged == [
        ("certificates_not_reloaded", "tls.key is not the key of tls.crt"),
        ("certificates_reloaded", None),
    ]


def test_unchanged_files_are_logged_never(
    directory: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.tls.RELOAD_SECONDS", 0.0)
    certificates = Certificates(directory, "user")
    assert certificates.current() is certificates.current()
    assert events == []


def test_no_representation_has_the_key(directory: Path) -> None:
    assert "PRIVATE KEY" not in repr(Certificates(directory, "user").current())


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("UserService", "user"),
        ("bazaar.user.v1.UserService", "user"),
        ("Health", "health"),
        ("Service", "service"),
    ],
)
def test_a_server_is_named_after_its_service(service: str, name: str) -> None:
    assert server_name(service) == name
