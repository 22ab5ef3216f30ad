"""The migrations and the services find the same databases, each with a login of their own."""

from pathlib import Path

import pytest

from chassis import settings
from migrations.settings import MigrationSettings

SERVER = {
    "POSTGRES_HOST": "db",
    "POSTGRES_PORT": "5432",
    "POSTGRES_USER": "administrator",
    "POSTGRES_PASSWORD": "a",
    "USERSERVICE_DATABASE_PASSWORD": "u",
    "PRODUCTSERVICE_DATABASE_PASSWORD": "p",
    "ORDERSERVICE_DATABASE_PASSWORD": "o",
    "PAYMENTSERVICE_DATABASE_PASSWORD": "y",
    "APIGATEWAY_DATABASE_PASSWORD": "g",
}
TLS = "?sslmode=verify-full&sslrootcert=system"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Return an environment with the settings of one server, and without a `.env`."""
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    for name, value in SERVER.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def load() -> MigrationSettings:
    return settings.load(MigrationSettings)


def refused(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as raised:
        load()
    assert raised.value.code == 78
    return capsys.readouterr().err.splitlines()[:-1]


def test_all_databases_are_on_one_server_by_default() -> None:
    found = load()
    names = {name: f"{name}db" for name in ("user", "product", "order", "payment", "gateway")}
    assert found.database_urls() == {
        name: f"postgresql://administrator:a@db:5432/{database}{TLS}"
        for name, database in names.items()
    }
    passwords = dict(zip(names, "upoyg", strict=True))
    assert found.app_urls() == {
        name: f"postgresql://{database}_app:{passwords[name]}@db:5432/{database}{TLS}"
        for name, database in names.items()
    }


def test_the_database_of_the_gateway_may_have_another_name(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("POSTGRES_DATABASE", "keys")
    found = load()
    assert found.database_urls()["gateway"] == f"postgresql://administrator:a@db:5432/keys{TLS}"
    assert found.app_urls()["gateway"] == f"postgresql://keys_app:g@db:5432/keys{TLS}"


@pytest.mark.parametrize(
    ("variable", "database"), [("ORDERSERVICE_DATABASE_URL", "order"), ("DATABASE_URL", "gateway")]
)
def test_a_database_elsewhere_needs_the_login_of_its_administrator(
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    database: str,
) -> None:
    environment.setenv(variable, "postgresql://service:hunter2@elsewhere/things")
    (line,) = refused(capsys)
    assert line == (
        f"MIGRATIONS_{variable}: Value error, must be set, because {variable}"
        " is not on POSTGRES_HOST"
    )
    environment.setenv(f"MIGRATIONS_{variable}", "postgresql://other@elsewhere/things")
    assert load().database_urls()[database] == "postgresql://other@elsewhere/things"
    assert load().app_urls()[database] == "postgresql://service:hunter2@elsewhere/things"


def test_a_url_on_the_same_server_only_names_another_role(environment: pytest.MonkeyPatch) -> None:
    url = "postgresql://service:s@db:5432/orderdb?sslmode=require"
    environment.setenv("ORDERSERVICE_DATABASE_URL", url)
    found = load()
    assert found.database_urls()["order"] == f"postgresql://administrator:a@db:5432/orderdb{TLS}"
    assert found.app_urls()["order"] == url


def test_no_server_is_needed_where_all_urls_are_given(environment: pytest.MonkeyPatch) -> None:
    for name in SERVER:
        environment.delenv(name)
    for name in MigrationSettings.model_fields:
        if name.endswith("database_url"):
            environment.setenv(name.upper(), f"postgresql://{name}")
    assert load().database_urls()["user"] == "postgresql://migrations_userservice_database_url"


@pytest.mark.parametrize("password", ["bazaar", settings.DEVELOPMENT_SECRET])
def test_the_password_of_dotenv_is_refused_outside_development(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], password: str
) -> None:
    environment.setenv("POSTGRES_PASSWORD", password)
    environment.setenv("BAZAAR_ENVIRONMENT", "development")
    load()
    environment.setenv("BAZAAR_ENVIRONMENT", "production")
    assert refused(capsys)[0] == (
        "POSTGRES_PASSWORD: Value error, must not be that of .env"
        " unless BAZAAR_ENVIRONMENT is development"
    )


def test_a_misspelt_name_is_refused(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("MIGRATIONS_USERSERVICE_DATABSE_URL", "postgresql://hunter2")
    (line,) = refused(capsys)
    assert line == (
        "MIGRATIONS_USERSERVICE_DATABSE_URL is unknown:"
        " did you mean MIGRATIONS_USERSERVICE_DATABASE_URL?"
    )
