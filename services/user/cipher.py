"""Encryption of what the database holds and may not know: AES-256-GCM."""

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12


class Cipher:
    """Encrypts with a key that is derived from a secret of high entropy."""

    def __init__(self, secret: str) -> None:
        derivation = HKDF(SHA256(), length=32, salt=None, info=b"bazaar signing keys")
        self._cipher = AESGCM(derivation.derive(secret.encode()))

    def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """Return a random nonce and the ciphertext, which decrypts in the same context only."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def decrypt(self, encrypted: bytes, context: bytes) -> bytes:
        """Return what was encrypted.

        Raises:
            cryptography.exceptions.InvalidTag: the secret or the context is another one, or the
                ciphertext was changed.
        """
        return self._cipher.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], context)
