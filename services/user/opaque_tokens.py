"""Opaque tokens: 256 random bits for whoever holds them, and a digest for the database."""

import hashlib
import secrets

TOKEN_BYTES = 32


def make() -> str:
    """Return a new token, in base64url."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """Return the SHA-256 digest by which a token is found.

    No salt is needed, and no slow hash, because tokens cannot be guessed.
    """
    return hashlib.sha256(token.encode()).digest()
