"""TLS between clients and the gateway, by a certificate that may be replaced at any time."""

import ssl
from pathlib import Path

from chassis import log

FOLLOW_SECONDS = 1.0
"""How often the files of a certificate are looked at."""


class CertificateError(Exception):
    """A certificate or its key cannot be used; the message says why, without their content."""


class ServerCertificate:
    """The certificate of a server, which follows its files.

    New files take effect for new connections. Files that cannot be used, such as a certificate
    whose key is not written yet, are logged, and what was loaded before stays in use.

    Raises:
        CertificateError: the files cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Take the files, in PEM: the certificate and those that it is issued by, and its key."""
        self._certificate = certificate
        self._key = key
        self.context = _make_context(certificate, key)
        """What a server listens with."""
        self._state = self._read_state()

    async def follow(self) -> None:
        """Load the files again if they have changed."""
        state = self._read_state()
        if state == self._state:
            return
        self._state = state
        try:
            # In a new context first: one that fails to load has lost the certificate it had.
            _make_context(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
        except CertificateError as error:
            log.logger().error("certificate_not_reloaded", cause=str(error))
        else:
            log.logger().info("certificate_reloaded")

    def _read_state(self) -> object:
        """Return what changes when a file is replaced, or written again."""
        try:
            stats = [path.stat() for path in (self._certificate, self._key)]
        except OSError as error:
            return error.errno
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]


def _make_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The password is asked for on the terminal, unless there is one.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "not PEM, or encrypted").replace("_", " ").lower()
        raise CertificateError(f"certificate and key cannot be used: {reason}") from error
    except OSError as error:
        raise CertificateError(f"a file cannot be read: {error.strerror}") from error
    return context
