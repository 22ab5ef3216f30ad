"""What a directory makes of the keys of etcd; //services/user:discovery_test has real ones."""

import pytest

from chassis.discovery import find_target


def test_all_replicas_of_a_service_are_in_its_target() -> None:
    assert find_target(["10.0.0.3:1", "10.0.0.4:1"]) == "ipv4:10.0.0.3:1,10.0.0.4:1"


def test_addresses_of_both_families_are_in_one_target() -> None:
    addresses = ["10.0.0.3:1", "[2001:db8::3]:1"]
    assert find_target(addresses) == "ipv6:[::ffff:10.0.0.3]:1,[2001:db8::3]:1"


@pytest.mark.parametrize(
    "address", ["", "user:1", "10.0.0.3", "10.0.0.3:0", "10.0.0.3:1,", "\ufffd"]
)
def test_a_key_without_an_address_spoils_no_other(address: str) -> None:
    assert find_target([address]) == ""
    assert find_target([address, "10.0.0.4:1"]) == "ipv4:10.0.0.4:1"
