"""What a directory makes of the keys of etcd; //services/user:discovery_test has real ones."""

import pytest

from chassis.discovery import find_targets


def test_replicas_are_found_by_the_name_of_their_service() -> None:
    keys = ["user/10.0.0.3:1", "user/10.0.0.4:1", "order/10.0.0.3:2"]
    assert find_targets(f"bazaar/services/{key}" for key in keys) == {
        "user": "ipv4:10.0.0.3:1,10.0.0.4:1",
        "order": "ipv4:10.0.0.3:2",
    }


def test_addresses_of_both_families_are_in_one_target() -> None:
    keys = ["bazaar/services/user/10.0.0.3:1", "bazaar/services/user/[2001:db8::3]:1"]
    assert find_targets(keys) == {"user": "ipv6:[::ffff:10.0.0.3]:1,[2001:db8::3]:1"}


@pytest.mark.parametrize(
    "address", ["", "user:1", "10.0.0.3", "10.0.0.3:0", "10.0.0.3:1,", "\ufffd"]
)
def test_a_key_without_an_address_spoils_no_other(address: str) -> None:
    keys = [f"bazaar/services/user/{address}", "bazaar/services/user/10.0.0.4:1"]
    assert find_targets(keys) == {"user": "ipv4:10.0.0.4:1"}
