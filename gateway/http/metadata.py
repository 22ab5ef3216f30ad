"""Headers to gRPC metadata and back, by allow-lists: nothing else is passed on."""

import re
from collections.abc import Iterable, Mapping
from functools import partial

from gateway.http.conditions import ENTITY_TAG
from gateway.http.exchange import Exchange
from gateway.http.problems import invalid_argument

Pairs = Iterable[tuple[str, str | bytes]]

_FORWARDED = ("authorization", "idempotency-key")
_NOT_FORWARDED = frozenset(
    {
        *_FORWARDED,
        "cookie",
        "grpc-timeout",
        "host",
        "te",
        "traceparent",
        "user-agent",
        "x-forwarded-for",
        "x-request-id",
    }
)
"""Headers that an RPC cannot ask for: each has its own rule, or says nothing about the request."""
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[ -~]*)?")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_RETRY_AFTER = re.compile(
    r"[0-9]{1,9}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)
"""Seconds or a date (RFC 9110 §10.2.3)."""

_Headers = Mapping[str, tuple[str, re.Pattern[str]]]


def may_be_requested(name: str) -> bool:
    """Return whether an RPC may ask for a header, by its name in lower case."""
    if name in _NOT_FORWARDED or name.startswith("grpc-") or name.endswith("-bin"):
        return False
    return _METADATA_NAME.fullmatch(name) is not None


def call_metadata(exchange: Exchange, request_headers: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Return the metadata of the call that a request becomes.

    `request_headers` are the names of headers that its RPC asks for, in lower case.

    Raises:
        Problem: gRPC cannot carry the value of a header.
    """
    metadata = [("x-request-id", exchange.request_id)]
    if exchange.client:
        metadata.append(("x-forwarded-for", exchange.client))
    for name in (*_FORWARDED, *request_headers):
        value = exchange.header(name.encode())
        if value:
            if not (value.isascii() and value.isprintable()):
                detail = f"The header {name} must be printable ASCII."
                raise invalid_argument(detail, "INVALID_HEADER")
            metadata.append((name, value))
    trace = exchange.header(b"traceparent")
    if trace and _TRACEPARENT.fullmatch(trace) is not None:
        metadata.append(("traceparent", trace))
    return metadata


def call_timeout_seconds(exchange: Exchange, longest: float) -> float | None:
    """Return the value of Grpc-Timeout, at most `longest`; None if there is no such header.

    Raises:
        Problem: it is malformed.
    """
    given = exchange.header(b"grpc-timeout")
    if not given:
        return None
    found = _TIMEOUT.fullmatch(given)
    if found is None:
        detail = "Grpc-Timeout must be up to 8 digits and one of H, M, S, m, u, n."
        raise invalid_argument(detail, "INVALID_HEADER")
    return min(int(found[1]) * _TIMEOUT_UNITS[found[2]], longest)


def _allowed(headers: _Headers, *metadata: Pairs) -> dict[str, str]:
    """Return the headers that metadata becomes; of two values that are valid, the later one."""
    found = {}
    for pairs in metadata:
        for key, value in pairs:
            if key in headers and isinstance(value, str):
                name, pattern = headers[key]
                if pattern.fullmatch(value) is not None:
                    found[name] = value
    return found


success_headers = partial(
    _allowed, {"etag": ("ETag", ENTITY_TAG), "location": ("Location", _URI_REFERENCE)}
)
retry_headers = partial(_allowed, {"retry-after": ("Retry-After", _RETRY_AFTER)})
