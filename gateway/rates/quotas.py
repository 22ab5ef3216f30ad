"""Quotas: how many requests somebody may make in some time, in the notation of `limits`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from limits import RateLimitItem, parse_many


@dataclass(frozen=True, slots=True, eq=False)
class Quota:
    """A number of requests per time, for each of those who share a name, such as `client`."""

    name: str
    """What RateLimit headers call it: unique among the quotas of a request."""
    item: RateLimitItem
    policy: str
    """The quota as an item of a RateLimit-Policy header."""


class Subject(NamedTuple):
    """Somebody whose requests are counted, and what they may do."""

    quotas: Sequence[Quota]
    key: str
    """A digest of who it is, because the store need not know."""
    of_method: bool = False
    """Whether the quotas are those of a method, such as a login, and not of all requests."""


def parse_quotas(name: str, text: str) -> tuple[Quota, ...]:
    """Parse quotas such as `10/second; 100/minute`, the shortest first; an empty string has none.

    Raises:
        ValueError: the string is not of that kind.
    """
    if not text:
        return ()
    try:
        items = parse_many(text)
    except ValueError:
        items = []
    if not items or any(item.amount < 1 for item in items):
        raise ValueError("must be numbers of requests per time, such as 10/second; 100/minute")
    return tuple(_quota(name, item) for item in sorted(items, key=RateLimitItem.get_expiry))


def digest(*identity: str) -> str:
    """Return the key of somebody, from which nobody can tell who it is."""
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:32]


def _quota(name: str, item: RateLimitItem) -> Quota:
    seconds = item.get_expiry()
    name = f"{name}-{seconds}s"
    return Quota(name, item, f'"{name}";q={item.amount};w={seconds}')
