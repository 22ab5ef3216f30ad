"""The directories that are made, and which certificates are issued again."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from chassis.tls import Certificates
from tools.certs.authority import LIFETIME, Authority, KeyPair
from tools.certs.directories import PROGRAMS, RENEW_BEFORE, renew, write_directory


def load_authority(root: Path) -> Authority:
    directory = root / "authority"
    certificate, key = (directory / "ca.crt").read_bytes(), (directory / "ca.key").read_bytes()
    return Authority.load(KeyPair(certificate, key))


def test_every_program_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    assert set(renew(tmp_path)) == set(PROGRAMS)
    for name in PROGRAMS:
        material = Certificates(tmp_path / name, name).current()
        certificate = x509.load_pem_x509_certificate(material.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == [f"spiffe://bazaar/{name}"]
        assert names.get_values_for_type(x509.DNSName) == [name, "localhost"]
        addresses = names.get_values_for_type(x509.IPAddress)
        assert [str(address) for address in addresses] == ["127.0.0.1", "::1"]


def test_only_the_owner_may_read_the_keys(tmp_path: Path) -> None:
    renew(tmp_path)
    keys = [*tmp_path.glob("*/*.key")]
    assert len(keys) == len(PROGRAMS) + 1
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_no_program_has_the_key_of_the_authority(tmp_path: Path) -> None:
    renew(tmp_path)
    key = (tmp_path / "authority" / "ca.key").read_bytes()
    others = [path for name in PROGRAMS for path in (tmp_path / name).iterdir()]
    assert key not in [path.read_bytes() for path in others]


def test_what_is_usable_stays_as_it_is(tmp_path: Path) -> None:
    renew(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    assert renew(tmp_path) == {}
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before


def test_everything_is_renewed_by_the_same_authority(tmp_path: Path) -> None:
    renew(tmp_path)
    authority = (tmp_path / "authority" / "ca.crt").read_bytes()
    before = (tmp_path / "user" / "tls.crt").read_bytes()
    assert set(renew(tmp_path, everything=True)) == set(PROGRAMS)
    assert (tmp_path / "user" / "tls.crt").read_bytes() != before
    assert (tmp_path / "user" / "ca.crt").read_bytes() == authority


@pytest.mark.parametrize("left", [RENEW_BEFORE - timedelta(minutes=1), timedelta(minutes=-1)])
def test_a_certificate_is_renewed_before_it_expires(tmp_path: Path, left: timedelta) -> None:
    renew(tmp_path)
    authority = load_authority(tmp_path)
    write_directory(tmp_path / "user", authority, authority.issue("user", lifetime=left))
    almost = authority.issue("order", lifetime=RENEW_BEFORE + timedelta(minutes=1))
    write_directory(tmp_path / "order", authority, almost)
    renewed = renew(tmp_path)
    assert set(renewed) == {"user"}
    assert Certificates(tmp_path / "user").expire_time == renewed["user"]


def test_a_missing_key_is_replaced_with_its_certificate(tmp_path: Path) -> None:
    renew(tmp_path)
    (tmp_path / "user" / "tls.key").unlink()
    assert set(renew(tmp_path)) == {"user"}


def test_a_certificate_of_another_authority_is_replaced(tmp_path: Path) -> None:
    renew(tmp_path)
    other = Authority.create(PROGRAMS)
    write_directory(tmp_path / "user", other, other.issue("user"))
    assert set(renew(tmp_path)) == {"user"}


@pytest.mark.parametrize("content", [None, b"no PEM"])
def test_a_new_authority_issues_everything_anew(tmp_path: Path, content: bytes | None) -> None:
    renew(tmp_path)
    path = tmp_path / "authority" / "ca.key"
    path.unlink() if content is None else path.write_bytes(content)
    assert set(renew(tmp_path)) == set(PROGRAMS)


def test_an_authority_that_may_not_sign_for_a_new_program_is_replaced(tmp_path: Path) -> None:
    renew(tmp_path)
    names = (*PROGRAMS, "shipping")
    assert set(renew(tmp_path, names)) == set(names)
    Certificates(tmp_path / "shipping", "shipping")


def test_certificates_live_for_a_month(tmp_path: Path) -> None:
    renew(tmp_path)
    material = Certificates(tmp_path / "user").current()
    certificate = x509.load_pem_x509_certificate(material.certificate)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert LIFETIME <= life < LIFETIME + timedelta(hours=1)
