"""Headers that keep browsers from misusing responses; a response may have its own instead."""

from gateway.http.asgi import Headers

ALWAYS: Headers = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
"""JSON is no page: nothing in it is loaded, and nothing shows it in a frame."""

_TLS = (b"strict-transport-security", b"max-age=31536000")
"""For a year, browsers do not try without TLS (RFC 6797)."""

_CONFIDENTIAL = (b"cache-control", b"no-store")
"""What only somebody may see is stored by nobody (RFC 9111 section 5.2.2.5)."""

_HEADERS: dict[tuple[bool, bool], Headers] = {
    (tls, confidential): [*ALWAYS, *([_TLS] * tls), *([_CONFIDENTIAL] * confidential)]
    for tls in (False, True)
    for confidential in (False, True)
}


def security_headers(headers: Headers, *, tls: bool, confidential: bool) -> Headers:
    """Return the headers that a response lacks."""
    present = {name for name, _ in headers}
    return [header for header in _HEADERS[tls, confidential] if header[0] not in present]
