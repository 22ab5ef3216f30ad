"""The address of the client, which services get as one address and the log has too."""

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway.http.client_address import TrustedProxies, network_of
from gateway.testing.fixtures import Setup

PROXIES = frozenset(map(ipaddress.ip_network, ["10.0.0.0/8", "2001:db8:1::/48"]))
LOOPBACK = frozenset({ipaddress.ip_network("127.0.0.0/8")})
FORGED = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.8"}


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("198.51.100.7", None, "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "192.0.2.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "192.0.2.1,203.0.113.9,10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "192.0.2.1, ", "10.0.0.1"),
        ("10.0.0.1", "1" * 65, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::9]:4711", "2001:db8::9"),
        ("10.0.0.1", "2001:DB8:0::9", "2001:db8::9"),
        ("2001:db8:1::1", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("::ffff:198.51.100.7", None, "198.51.100.7"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("", "203.0.113.9", ""),
    ],
)
def test_client_is_the_last_address_that_no_trusted_proxy_has(
    peer: str, forwarded_for: str | None, client: str
) -> None:
    assert TrustedProxies(PROXIES).find_client(peer, forwarded_for) == client


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::9", "2001:db8:0:1::/64"),
        ("", ""),
    ],
)
def test_addresses_of_one_ipv6_network_are_one_client(client: str, network: str) -> None:
    assert network_of(client) == network


async def test_address_that_a_client_forges_is_ignored(events: list[Any]) -> None:
    async with Setup.serve() as setup:
        await setup.client.get("/v1/probes/7", headers=FORGED)
        assert setup.metadata()["x-forwarded-for"] == "127.0.0.1"
    assert [each["client"] for each in events if each["event"] == "request"] == ["127.0.0.1"]


async def test_address_that_a_trusted_proxy_names_is_passed_on_and_logged(
    events: list[Any],
) -> None:
    async with Setup.serve(apigateway_trusted_proxies=LOOPBACK) as setup:
        headers = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "203.0.113.9, 127.0.0.1")]
        await setup.client.get("/v1/probes/7", headers=headers)
        assert setup.metadata()["x-forwarded-for"] == "203.0.113.9"
        await setup.client.get("/v1/probes:watch?count=1", headers=headers)
        assert setup.metadata()["x-forwarded-for"] == "203.0.113.9"
    clients = [each["client"] for each in events if each["event"] == "request"]
    assert clients == ["203.0.113.9", "203.0.113.9"]
