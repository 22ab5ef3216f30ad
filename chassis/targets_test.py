"""Which targets are accepted, and which of them are surely on this machine."""

import pytest
from pydantic import TypeAdapter, ValidationError

from chassis.targets import Target, is_local

TARGET = TypeAdapter(Target)
LOCAL = [
    "127.0.0.1:50051",
    "localhost:50051",
    "[::1]:50051",
    "dns:///localhost:50051",
    "ipv4:127.0.0.1:50051,127.0.0.2:50051",
    "ipv6:[::1]:50051",
    "unix:/run/bazaar/user.sock",
]
REMOTE = [
    "user:50051",
    "dns:///user.bazaar.svc.cluster.local:50051",
    "dns://127.0.0.1:5353/user:50051",
    "ipv4:127.0.0.1:50051,192.0.2.1:50051",
    "ipv6:[2001:db8::1]:65535",
    "etcd:///user",
]


@pytest.mark.parametrize("target", LOCAL)
def test_a_target_on_this_machine_is_local(target: str) -> None:
    assert is_local(TARGET.validate_python(target))


@pytest.mark.parametrize("target", REMOTE)
def test_a_target_that_may_be_elsewhere_is_not_local(target: str) -> None:
    assert not is_local(TARGET.validate_python(target))


@pytest.mark.parametrize(
    "target",
    [
        "",
        "user",
        "user:",
        "user:0",
        "user:65536",
        "user:http",
        "http://user:50051",
        "dns:///user",
        "dns:///",
        "::1:50051",
        "[127.0.0.1]:50051",
        "ipv4:user:50051",
        "ipv4:127.0.0.1",
        "ipv4:127.0.0.1:50051,",
        "ipv4:[::1]:50051",
        "ipv6:127.0.0.1:50051",
        "ipv6:[::g]:50051",
        "unix:user.sock",
        "unix:/" + 107 * "a",
        "xds:///user",
        "etcd:user",
        "etcd:///",
        "etcd:///user/2",
        "user:50051 ",
    ],
)
def test_what_grpc_would_not_resolve_is_refused(target: str) -> None:
    with pytest.raises(ValidationError):
        TARGET.validate_python(target)
