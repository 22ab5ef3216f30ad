"""A service reads the variables that begin with the names of its proto service and its peers."""

from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from chassis.service import Service, ServiceSettings
from chassis.token_testing import Issuer

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
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Return the environment, where POSTGRES_* are not set and there is no `.env`."""
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
    assert found.find_address("Health") == ("::1", 1)
    assert found.find_address("LampService") == ("lamp", 2)
    assert found.find_database("Health") == "postgresql://elsewhere/health"


def test_database_is_on_the_server_where_it_has_no_url(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HEALTH_DATABASE_URL")
    for name, value in (("HOST", "h"), ("PORT", "3"), ("USER", "u"), ("PASSWORD", "p")):
        environment.setenv(f"POSTGRES_{name}", value)
    assert load().find_database("Health") == "postgresql://u:p@h:3/healthdb"


def test_every_bad_setting_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HEALTH_HOST", "HEALTH_DATABASE_URL", "LAMPSERVICE_PORT"):
        environment.delenv(name)
    environment.setenv("HEALTH_COLOUR", "red")
    named = {line.partition(" ")[0].rstrip(":") for line in refused(capsys)}
    assert named == {"HEALTH_HOST", "HEALTH_DATABASE_URL", "LAMPSERVICE_PORT", "HEALTH_COLOUR"}
