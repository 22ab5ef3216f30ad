"""The certificates of a program for mutual TLS, and the server credentials that are made of them.

A TLS directory has `ca.crt`, the authorities whose certificates are accepted, `tls.crt`, the
program's own certificate followed by intermediate ones, and `tls.key`, its private key: the names
that the files have in a TLS secret of Kubernetes. All are PEM.

A program is identified by its SPIFFE id, the only URI among the names of its certificate. gRPC
offers it as `peer_spiffe_id` only if there is exactly one
(https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar, cast

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import verification

from chassis import log

CA_FILE = "ca.crt"
CERTIFICATE_FILE = "tls.crt"
KEY_FILE = "tls.key"

RELOAD_SECONDS = 1.0
"""How often the files are read at most to see whether they have changed."""

_POLICY = verification.ExtensionPolicy.webpki_defaults_ee()
# Not that of the web, by which the authorities that openssl makes by default would be refused.
_CA_POLICY = verification.ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
)

Parsed = TypeVar("Parsed")


class TlsError(Exception):
    """A TLS directory cannot be used; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The contents of a TLS directory at one time."""

    authorities: bytes
    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the files.

        Raises:
            TlsError: one of them cannot be read.
        """
        return cls(*(_read(directory, name) for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)))

    def check(self, server_name: str) -> datetime:
        """Check that peers will accept the certificate, and return when it expires.

        With a `server_name`, clients that call a server of that name have to accept it as well.

        Raises:
            TlsError: they will not.
        """
        authorities = _parse(CA_FILE, x509.load_pem_x509_certificates, self.authorities)
        chain = _parse(CERTIFICATE_FILE, x509.load_pem_x509_certificates, self.certificate)
        key = _parse(KEY_FILE, partial(load_pem_private_key, password=None), self.key)
        if key.public_key() != chain[0].public_key():
            raise TlsError(f"{KEY_FILE} is not the key of {CERTIFICATE_FILE}")
        _check_validity(chain[0])
        _check_names(chain[0], server_name)
        _check_chain(chain, authorities, server_name)
        return chain[0].not_valid_after_utc


class Certificates:
    """The key material of a program, which follows the files of its TLS directory.

    Files that cannot be used, such as a certificate whose key is not written yet, are logged, and
    the last usable ones stay in use. Clients of the program call it by `server_name`; a program
    that nobody calls has none.

    Raises:
        TlsError: the directory cannot be used.
    """

    def __init__(self, directory: Path, server_name: str = "") -> None:
        self._directory = directory
        self._server_name = server_name
        self._current = KeyMaterial.read(directory)
        self.expire_time = self._current.check(server_name)
        """When the certificate expires."""
        self._reload_time = time.monotonic() + RELOAD_SECONDS
        self._problem = ""
        self._log = log.logger()

    def current(self) -> KeyMaterial:
        """Return the key material in use: the same object until the files have changed.

        It is called before each call and each handshake, and reads the files once in RELOAD_SECONDS
        at most, in whatever thread it is called.
        """
        now = time.monotonic()
        if now >= self._reload_time:
            self._reload_time = now + RELOAD_SECONDS
            self._reload()
        return self._current

    def _reload(self) -> None:
        try:
            found = KeyMaterial.read(self._directory)
            if found != self._current:
                self.expire_time = found.check(self._server_name)
                self._current = found
                self._log.info("certificates_reloaded", expire_time=self.expire_time.isoformat())
            self._problem = ""
        except TlsError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._log.warning("certificates_not_reloaded", reason=self._problem)


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Return credentials of a server that requires certificates of its clients.

    New connections have the key material that is current then.
    """
    served = certificates.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        found = certificates.current()
        if found is served:
            return None
        served = found
        return _configure_server(found)

    return grpc.dynamic_ssl_server_credentials(
        _configure_server(served),
        # Its stub does not know that None stands for no change.
        cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch),
        require_client_authentication=True,
    )


def server_name(service: str) -> str:
    """Return the name in the certificate of a proto service's server: `user` for UserService.

    `service` is its simple name or its full one.
    """
    simple = service.rpartition(".")[2].lower()
    return simple.removesuffix("service") or simple


def _configure_server(material: KeyMaterial) -> grpc.ServerCertificateConfiguration:
    pairs = [(material.key, material.certificate)]
    return grpc.ssl_server_certificate_configuration(pairs, material.authorities)


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise TlsError(f"{name} cannot be read: {error.strerror}") from error


def _parse(name: str, parse: Callable[[bytes], Parsed], content: bytes) -> Parsed:
    try:
        return parse(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(f"{name} cannot be parsed as PEM without a password") from error


def _check_validity(certificate: x509.Certificate) -> None:
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        raise TlsError(f"{CERTIFICATE_FILE} has expired")
    if now < certificate.not_valid_before_utc:
        raise TlsError(f"{CERTIFICATE_FILE} is not valid yet")


def _check_names(certificate: x509.Certificate, server_name: str) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise TlsError(f"{CERTIFICATE_FILE} has no subject alternative names") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise TlsError(f"{CERTIFICATE_FILE} must have one URI among its names, a SPIFFE id")
    if server_name and server_name not in names.get_values_for_type(x509.DNSName):
        raise TlsError(f"{CERTIFICATE_FILE} must have the DNS name {server_name}")


def _check_chain(
    chain: list[x509.Certificate], authorities: list[x509.Certificate], server_name: str
) -> None:
    """Check a chain for both sides of a connection, as far as the program has them."""
    policies = (
        verification.PolicyBuilder()
        .store(verification.Store(authorities))
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_POLICY)
    )
    try:
        policies.build_client_verifier().verify(chain[0], chain[1:])
        if server_name:
            name = x509.DNSName(server_name)
            policies.build_server_verifier(name).verify(chain[0], chain[1:])
    except verification.VerificationError as error:
        raise TlsError(f"{CERTIFICATE_FILE} is not verified by {CA_FILE}: {error}") from error
