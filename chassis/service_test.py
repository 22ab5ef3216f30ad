"""A service reads the variables that begin with the names of its proto service and its peers."""

from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from chassis.service import Service, ServiceSettings
from chassis.token_testing import Issuer
from tools.certs.authority import Authority
from tools.certs.directories import write_directory

# Its stub has another type for it than the generated code of ours.
DESCRIPTOR: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
SERVICE = Service(
    DESCRIPTOR,
    lambda servicer, server: None,
    lambda resources: None,
    lambda resources, servicer: Issuer().verifier(),
    database_name="healthdb",
    peers=("LampService",),
)
ENVIRONMENT = {
    "HEALTH_HOST": "::1",
    "HEALTH_PORT": "1",
    "HEALTH_DATABASE_URL": "postgresql://elsewhere/health",
    "LAMPSERVICE_HOST": "lamp",
    "LAMPSERVICE_PORT": "2",
    "HEALTH_TLS_DIRECTORY": "tls/health",
}
AUTHORITY = Authority.create(["health"])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Return the environment, where POSTGRES_* are not set and there is no `.env`.

    The TLS directory is where `.env` would be.
    """
    write_directory(tmp_path / "tls" / "health", AUTHORITY, AUTHORITY.issue("health"))
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def load() -> ServiceSettings:
    return SERVICE.load_settings()


def refused(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as raised:
        load()
    assert raised.value.code == 78
    return capsys.readouterr().err.splitlines()[:-1]


def test_settings_are_named_after_the_service_and_its_peers() -> None:
    found = load()
    assert found.find_listener("Health") == "[::1]:1"
    assert found.find_target("LampService") == "lamp:2"
    assert found.find_database("Health") == "postgresql://elsewhere/health"


def test_a_database_may_have_a_replica(environment: pytest.MonkeyPatch) -> None:
    assert load().find_read_database("Health") is None
    environment.setenv("HEALTH_READ_DATABASE_URL", "postgresql://replica/health")
    assert load().find_read_database("Health") == "postgresql://replica/health"


def test_database_is_on_the_server_where_it_has_no_url(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HEALTH_DATABASE_URL")
    environment.setenv("POSTGRES_HOST", "h")
    environment.setenv("POSTGRES_PORT", "3")
    environment.setenv("HEALTH_DATABASE_PASSWORD", "p")
    assert load().find_database("Health") == (
        "postgresql://healthdb_app:p@h:3/healthdb?sslmode=verify-full&sslrootcert=system"
    )


def test_every_bad_setting_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HEALTH_HOST", "HEALTH_DATABASE_URL", "LAMPSERVICE_PORT"):
        environment.delenv(name)
    environment.setenv("HEALTH_COLOUR", "red")
    environment.setenv("HEALTH_READ_DATABASE_URL", "")
    named = {line.partition(" ")[0].rstrip(":") for line in refused(capsys)}
    assert named == {
        "HEALTH_HOST",
        "HEALTH_DATABASE_URL",
        "HEALTH_READ_DATABASE_URL",
        "LAMPSERVICE_PORT",
        "HEALTH_COLOUR",
    }


def test_a_target_stands_in_for_a_host_and_port(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("LAMPSERVICE_HOST")
    environment.setenv("LAMPSERVICE_TARGET", "dns:///lamp:3")
    assert load().find_target("LampService") == "dns:///lamp:3"


def test_a_service_listens_on_the_socket_that_is_its_target(
    environment: pytest.MonkeyPatch,
) -> None:
    for name in ("HEALTH_HOST", "HEALTH_PORT"):
        environment.delenv(name)
    environment.setenv("HEALTH_TARGET", "unix:/run/health.sock")
    assert load().find_listener("Health") == "unix:/run/health.sock"


def test_a_service_with_any_other_target_listens_on_its_host_and_port(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("HEALTH_TARGET", "dns:///health:3")
    assert load().find_listener("Health") == "[::1]:1"
    environment.delenv("HEALTH_HOST")
    assert refused(capsys) == ["HEALTH_HOST: Value error, must be set"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_nobody_reaches_is_not_registered(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    environment.setenv("HEALTH_TARGET", "etcd:///health")
    assert load().find_listener("Health") == "[::1]:1"
    environment.setenv("HEALTH_HOST", host)
    assert refused(capsys) == [
        "HEALTH_HOST: Value error, must be an address that callers reach, with a target in etcd"
    ]


def test_a_bad_target_is_refused(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("LAMPSERVICE_HOST")
    environment.setenv("LAMPSERVICE_TARGET", "http://lamp")
    assert refused(capsys) == [
        "LAMPSERVICE_TARGET: Value error, must be host:port, dns:///name:port,"
        " ipv4:address:port, ipv6:[address]:port, unix:/path or etcd:///name"
    ]


def test_certificates_are_read_from_the_directory(tmp_path: Path) -> None:
    certificates = load().find_certificates("Health")
    assert certificates is not None
    path = tmp_path / "tls" / "health" / "tls.crt"
    assert certificates.current().certificate == path.read_bytes()


def test_a_service_without_certificates_is_refused(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("HEALTH_TLS_DIRECTORY")
    assert refused(capsys) == [
        "HEALTH_TLS_DIRECTORY: Value error, must be a directory with ca.crt, tls.crt and tls.key,"
        " such as ./bazelw run //tools/certs makes, unless BAZAAR_PLAINTEXT is true"
    ]


def test_bad_certificates_are_refused_without_the_values(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_directory(tmp_path / "secret", AUTHORITY, AUTHORITY.issue("elsewhere"))
    environment.setenv("HEALTH_TLS_DIRECTORY", "secret")
    assert refused(capsys) == [
        "HEALTH_TLS_DIRECTORY: Value error, tls.crt must have the DNS name health"
    ]


def test_plain_text_is_served_on_loopback(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BAZAAR_PLAINTEXT", "true")
    environment.setenv("LAMPSERVICE_HOST", "localhost")
    # It may name a directory that is not there: .env does.
    environment.setenv("HEALTH_TLS_DIRECTORY", "missing")
    assert load().find_certificates("Health") is None


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("HEALTH_HOST", "0.0.0.0"),
        ("HEALTH_HOST", "::"),
        ("LAMPSERVICE_HOST", "lamp"),
        ("LAMPSERVICE_HOST", "192.0.2.1"),
        ("LAMPSERVICE_HOST", "localhost.example"),
        ("LAMPSERVICE_TARGET", "dns:///lamp:1"),
        ("LAMPSERVICE_TARGET", "etcd:///lamp"),
    ],
)
def test_plain_text_beyond_loopback_is_refused(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, host: str
) -> None:
    environment.setenv("BAZAAR_PLAINTEXT", "true")
    environment.setenv("LAMPSERVICE_HOST", "127.0.0.2")
    environment.setenv(name, host)
    assert refused(capsys) == [
        "BAZAAR_PLAINTEXT: Value error, must be false, because not every address is loopback:"
        f" see {name}"
    ]
