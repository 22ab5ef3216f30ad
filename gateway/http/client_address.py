"""The address of the client: that of the socket, unless the peer is a proxy that is trusted.

Only X-Forwarded-For is read, and only as far as trusted proxies have written it: anything to the
left of the first address that is not theirs may be forged. `Forwarded` (RFC 7239) is ignored.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
"""An address as some proxies write it (RFC 7239 section 6)."""

_MAX_LENGTH = 64
"""The longest text that is read as an address, with a zone and a port."""

_CLIENT_PREFIX = 64
"""One client has all IPv6 addresses of a network of this size, at least (RFC 6177)."""


class TrustedProxies:
    """The networks of proxies whose X-Forwarded-For is believed."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks: Sequence[Network] = tuple(networks)

    def find_client(self, peer: str, forwarded_for: str | None) -> str:
        """Return the address of the client behind a peer; empty for a peer without an address.

        It is the right-most address of X-Forwarded-For that is not a trusted proxy's, or the
        left-most one if all are. What is not an address ends the search at the proxy before it.
        """
        address = _read(peer)
        if address is None:
            return ""
        if self._networks and forwarded_for and self._trusts(address):
            for text in reversed(forwarded_for.split(",")):
                found = _read(text.strip())
                if found is None:
                    break
                address = found
                if not self._trusts(address):
                    break
        return str(address)

    def trusts(self, peer: str) -> bool:
        """Return whether a peer is a trusted proxy."""
        address = _read(peer)
        return address is not None and self._trusts(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(maxsize=4096)
def network_of(client: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    address = _read(client)
    if not isinstance(address, IPv6Address):
        return client
    return str(IPv6Network((address, _CLIENT_PREFIX), strict=False))


def _read(text: str) -> Address | None:
    return _parse(text) if len(text) <= _MAX_LENGTH else None


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    """Parse an address, with or without a port; one of IPv4 within IPv6 is that of IPv4."""
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        text = found[1] or found[2]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
