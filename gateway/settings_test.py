"""The variables with the addresses of services, and those that must be ready."""

from ipaddress import ip_network

import pytest

from gateway.settings import load
from tools.certs.directories import renew

OWN = {
    "APIGATEWAY_HOST": "127.0.0.1",
    "APIGATEWAY_PORT": "1",
    "POSTGRES_HOST": "127.0.0.1",
    "POSTGRES_PORT": "5432",
    "APIGATEWAY_DATABASE_PASSWORD": "nothing",
    "APIGATEWAY_TLS_DIRECTORY": "gateway",
}


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> pytest.MonkeyPatch:
    """Return an environment with the gateway's own settings, without a .env file."""
    directory = tmp_path_factory.mktemp("workspace")
    renew(directory, ["gateway"])
    monkeypatch.chdir(directory)
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def set_address(environment: pytest.MonkeyPatch, prefix: str, port: int, host: str = "a") -> None:
    environment.setenv(f"{prefix}_HOST", host)
    environment.setenv(f"{prefix}_PORT", str(port))


def test_service_is_found_by_its_simple_name(environment: pytest.MonkeyPatch) -> None:
    set_address(environment, "BOOKSERVICE", 2)
    services = ["library.v1.BookService"]
    assert load(services).targets(services) == {"library.v1.BookService": "a:2"}


def test_ipv6_address_of_a_service_has_brackets(environment: pytest.MonkeyPatch) -> None:
    set_address(environment, "BOOKSERVICE", 2, host="::1")
    services = ["library.v1.BookService"]
    assert load(services).targets(services) == {"library.v1.BookService": "[::1]:2"}


def test_services_of_the_same_simple_name_are_found_by_their_full_names(
    environment: pytest.MonkeyPatch,
) -> None:
    services = ["library.v1.BookService", "library.v2.BookService", "library.v1.LoanService"]
    set_address(environment, "LIBRARY_V1_BOOKSERVICE", 2)
    set_address(environment, "LIBRARY_V2_BOOKSERVICE", 3)
    set_address(environment, "LOANSERVICE", 4)
    assert load(services).targets(services) == dict(
        zip(services, ("a:2", "a:3", "a:4"), strict=True)
    )


@pytest.mark.parametrize("name", ["ApiGateway", "Postgres", "Etcd", "APIGATEWAY"])
def test_service_named_like_a_setting_of_the_gateway_has_its_full_name(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    service = f"cloud.v1.{name}"
    set_address(environment, f"CLOUD_V1_{name.upper()}", 2)
    settings = load([service])
    assert settings.targets([service]) == {service: "a:2"}
    assert (settings.apigateway_host, settings.apigateway_port) == ("127.0.0.1", 1)
    assert (settings.postgres_host, settings.postgres_port) == ("127.0.0.1", 5432)


def test_own_database_needs_either_the_server_or_a_url(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("POSTGRES_DATABASE", "keys")
    url = load([]).database_url.get_secret_value()
    assert url == "postgresql://keys_app:nothing@127.0.0.1:5432/keys"
    for name in ("POSTGRES_HOST", "POSTGRES_PORT", "APIGATEWAY_DATABASE_PASSWORD"):
        environment.delenv(name)
    environment.setenv("DATABASE_URL", "postgresql://elsewhere/keys")
    assert load([]).database_url.get_secret_value() == "postgresql://elsewhere/keys"


def test_missing_variable_has_the_full_name_where_it_is_wanted(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_address(environment, "BOOKSERVICE", 2)
    with pytest.raises(SystemExit):
        load(["library.v1.BookService", "library.v2.BookService"])
    found = "LIBRARY_V1_BOOKSERVICE_HOST: Value error, must be set, or else LIBRARY_V1_BOOKSERVICE_"
    assert f"{found}TARGET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "required"),
    [
        (None, {"a.B", "a.C"}),
        ("*", {"a.B", "a.C"}),
        ("a.B", {"a.B"}),
        ("", set()),
        (" a.B , a.C,", {"a.B", "a.C"}),
        ("a.B,*", {"a.B", "a.C"}),
    ],
)
def test_required_services_are_read_from_a_setting(
    environment: pytest.MonkeyPatch, text: str | None, required: set[str]
) -> None:
    set_address(environment, "B", 2)
    set_address(environment, "C", 2)
    if text is not None:
        environment.setenv("APIGATEWAY_READY_SERVICES", text)
    services = ["a.B", "a.C"]
    assert load(services).required_services(services) == required


@pytest.mark.parametrize("text", ["B", "a.D", "a.B,a.D", "a.B a.C"])
def test_required_services_must_be_in_the_descriptor_set(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    set_address(environment, "B", 2)
    set_address(environment, "C", 2)
    environment.setenv("APIGATEWAY_READY_SERVICES", text)
    with pytest.raises(SystemExit):
        load(["a.B", "a.C"])
    errors = capsys.readouterr().err
    assert "APIGATEWAY_READY_SERVICES: Value error, must be * or some of a.B, a.C" in errors


def test_trusted_proxies_are_networks_and_single_addresses(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("APIGATEWAY_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    networks = {ip_network("10.0.0.0/8"), ip_network("::1/128")}
    assert load([]).apigateway_trusted_proxies == networks


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "10.0.0.0/33", "*"])
def test_trusted_proxies_must_be_networks(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    environment.setenv("APIGATEWAY_TRUSTED_PROXIES", text)
    with pytest.raises(SystemExit):
        load([])
    assert "APIGATEWAY_TRUSTED_PROXIES: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["many", "0/second", "10/second;;", "10"])
def test_rate_limits_must_be_requests_per_time(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    environment.setenv("APIGATEWAY_RATE_LIMIT", text)
    environment.setenv("APIGATEWAY_ACCOUNT_RATE_LIMIT", text)
    with pytest.raises(SystemExit):
        load([])
    errors = capsys.readouterr().err
    for name in ("APIGATEWAY_RATE_LIMIT", "APIGATEWAY_ACCOUNT_RATE_LIMIT"):
        assert f"{name}: Value error, must be numbers of requests per time" in errors


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://a:1/0", "redis://a:1/0"),
        ("rediss://:p@a", "rediss://:p@a"),
        ("valkey://a:1/0", "redis://a:1/0"),
        ("valkeys://a", "rediss://a"),
        ("", ""),
    ],
)
def test_rate_limits_are_shared_by_a_redis_or_valkey(
    environment: pytest.MonkeyPatch, text: str, url: str
) -> None:
    environment.setenv("APIGATEWAY_RATE_LIMIT_URL", text)
    assert load([]).apigateway_rate_limit_url.get_secret_value() == url


@pytest.mark.parametrize("text", ["http://secret", "secret:6379", "unix://secret"])
def test_rate_limits_are_shared_by_nothing_else(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    environment.setenv("APIGATEWAY_RATE_LIMIT_URL", text)
    with pytest.raises(SystemExit):
        load([])
    errors = capsys.readouterr().err
    assert "APIGATEWAY_RATE_LIMIT_URL: " in errors
    assert "secret" not in errors


def test_services_are_called_with_certificates(environment: pytest.MonkeyPatch) -> None:
    set_address(environment, "B", 2)
    assert load(["a.B"]).certificates()


def test_services_on_loopback_may_be_called_in_plain_text(environment: pytest.MonkeyPatch) -> None:
    set_address(environment, "B", 2, host="::1")
    environment.setenv("BAZAAR_PLAINTEXT", "true")
    # Who may call the gateway is another matter.
    environment.setenv("APIGATEWAY_HOST", "0.0.0.0")
    assert load(["a.B"]).certificates() is None


def test_services_elsewhere_are_not_called_in_plain_text(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_address(environment, "B", 2, host="elsewhere")
    environment.setenv("BAZAAR_PLAINTEXT", "true")
    with pytest.raises(SystemExit):
        load(["a.B"])
    errors = capsys.readouterr().err
    assert "BAZAAR_PLAINTEXT: Value error, must be false" in errors
    assert "see B_HOST" in errors
