"""What of a call's metadata goes back to the client: an allow-list, never whatever a service sends.

A value that cannot stand in its header is passed over, as if the service had not sent it.
"""

import re
from collections.abc import Iterable, Mapping

Pairs = Iterable[tuple[str, str | bytes]]

ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
"""RFC 9110 §8.8.3."""

_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_RETRY_AFTER = re.compile(
    r"[0-9]{1,9}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)
"""Seconds or a date (RFC 9110 §10.2.3)."""

_SUCCESS = {"etag": ("ETag", ENTITY_TAG), "location": ("Location", _URI_REFERENCE)}
_FAILURE = {"retry-after": ("Retry-After", _RETRY_AFTER)}

_Headers = Mapping[str, tuple[str, re.Pattern[str]]]


def success_headers(*metadata: Pairs) -> dict[str, str]:
    """Return the headers that a call which succeeded brings with it; later metadata wins."""
    return _allowed(_SUCCESS, metadata)


def failure_headers(*metadata: Pairs) -> dict[str, str]:
    """Return the headers that a call which failed brings with it; later metadata wins."""
    return _allowed(_FAILURE, metadata)


def _allowed(headers: _Headers, metadata: Iterable[Pairs]) -> dict[str, str]:
    found = {}
    for pairs in metadata:
        for key, value in pairs:
            if key in headers and isinstance(value, str):
                name, pattern = headers[key]
                if pattern.fullmatch(value) is not None:
                    found[name] = value
    return found
