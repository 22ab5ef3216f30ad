"""A certificate authority for development and tests, and the certificates that it issues."""

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = timedelta(days=3_650)
LIFETIME = timedelta(days=30)
"""How long the certificate of a program is valid."""

_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bazaar development CA")])
_CLOCK_SKEW = timedelta(minutes=5)
_LOCALHOST = "localhost"
_LOOPBACK = ("127.0.0.1", "::1")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def spiffe_id(name: str) -> str:
    """Return the SPIFFE id of a program of the shop."""
    return f"spiffe://bazaar/{name}"


def is_for_development(certificate: bytes) -> bool:
    """Return whether any authority of ours has issued a certificate, which is in PEM.

    Raises:
        ValueError: it is no certificate.
    """
    return x509.load_pem_x509_certificate(certificate).issuer == _SUBJECT


class Authority:
    """A certificate authority, which can sign for no DNS names but localhost and those of programs.

    So its key is of little use to a thief, even where browsers trust it.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, names: Collection[str]) -> Self:
        """Make a new authority for programs of these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _begin(_SUBJECT, _SUBJECT, key.public_key(), AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(_constraints(names), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, pair: KeyPair) -> Self:
        """Make an authority of what `pair` has returned.

        Raises:
            ValueError: it is something else.
        """
        key = load_pem_private_key(pair.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key is not one for ECDSA")
        return cls(x509.load_pem_x509_certificate(pair.certificate), key)

    @property
    def pair(self) -> KeyPair:
        """Its certificate and private key."""
        return _to_pair(self._certificate, self._key)

    def can_issue(self, names: Collection[str]) -> bool:
        """Return whether it may sign for programs of these names, and outlives what it signs."""
        constraints = self._certificate.extensions.get_extension_for_class(x509.NameConstraints)
        outlives = self._certificate.not_valid_after_utc > datetime.now(UTC) + LIFETIME
        return outlives and constraints.value == _constraints(names)

    def issue(
        self, name: str, *, uris: Sequence[str] | None = None, lifetime: timedelta = LIFETIME
    ) -> KeyPair:
        """Issue a certificate to a program, for its calls and for its server.

        Its names are the program's, those of loopback, and the `uris`, by default the program's
        SPIFFE id. With a negative lifetime it has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = _names(name, [spiffe_id(name)] if uris is None else uris)
        authority_key = self._key.public_key()
        certificate = (
            _begin(x509.Name([]), self._certificate.subject, key.public_key(), lifetime)
            # Critical, because there is no subject (RFC 5280 section 4.2.1.6).
            .add_extension(names, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return _to_pair(certificate, key)


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*used: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in used for usage in _USAGES})


def _names(name: str, uris: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [
            *map(x509.UniformResourceIdentifier, uris),
            *map(x509.DNSName, (name, _LOCALHOST)),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in _LOOPBACK),
        ]
    )


def _constraints(names: Collection[str]) -> x509.NameConstraints:
    # gRPC's TLS library refuses constraints on addresses, and cryptography those on URIs.
    permitted = [x509.DNSName(name) for name in (*names, _LOCALHOST)]
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)


def _to_pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
