"""Bad settings end the program before it starts anything."""

from pathlib import Path

import pytest
from psycopg import conninfo

from chassis import settings

GOOD = {
    "POSTGRES_HOST": "127.0.0.1",
    "POSTGRES_PORT": "5432",
    "LAMP_DATABASE_PASSWORD": "p@ss/word",
}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return tmp_path


class LampSettings(settings.DatabaseSettings):
    own_prefix = "LAMP_"

    lamp_brightness: int = 1
    postgres_database: str = "lampdb"
    lamp_database_password: settings.Password | None = None
    lamp_database_url: settings.DatabaseUrl = settings.own_database("lamp_database_password")


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as raised:
        settings.load(LampSettings)
    assert raised.value.code == 78
    return capsys.readouterr().err


def test_load_reads_dotenv_and_the_environment_wins(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / ".env").write_text("POSTGRES_HOST=from-file\nPOSTGRES_PORT=6000\nOTHER=1\n")
    monkeypatch.delenv("POSTGRES_HOST")
    found = settings.load(LampSettings)
    assert (found.postgres_host, found.postgres_port) == ("from-file", 5432)


def test_load_prefers_given_values_and_checks_them(capsys: pytest.CaptureFixture[str]) -> None:
    found = settings.load(LampSettings, {"POSTGRES_HOST": "given"})
    assert (found.postgres_host, found.postgres_port) == ("given", 5432)
    with pytest.raises(SystemExit):
        settings.load(LampSettings, {"POSTGRES_PORT": "70000"})
    assert "POSTGRES_PORT: " in capsys.readouterr().err


def test_load_names_every_bad_variable_and_no_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "70000")
    monkeypatch.setenv("LOG_FORMAT", "hunter2")
    monkeypatch.delenv("LAMP_DATABASE_PASSWORD")
    printed = refused(capsys)
    for line in (
        "POSTGRES_PORT: ",
        "LOG_FORMAT: ",
        "or else POSTGRES_PORT, LAMP_DATABASE_PASSWORD",
    ):
        assert line in printed
    assert "70000" not in printed
    assert "hunter2" not in printed


@pytest.mark.parametrize("value", ["", "0", "x", "5432.5", "-1"])
def test_load_rejects_invalid_ports(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", value)
    assert refused(capsys).startswith("POSTGRES_PORT: ")


def test_own_database_is_on_the_server_as_the_app_role() -> None:
    found = settings.load(LampSettings)
    url = found.lamp_database_url.get_secret_value()
    assert url == "postgresql://lampdb_app:p%40ss%2Fword@127.0.0.1:5432/lampdb"


@pytest.mark.parametrize("host", ["db", "10.0.0.7", "2001:db8::1", "127.0.0.1.example.com"])
def test_a_server_elsewhere_must_prove_its_name_outside_development(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def find_options() -> dict[str, object]:
        url = settings.load(LampSettings).lamp_database_url.get_secret_value()
        options = conninfo.conninfo_to_dict(url)
        assert options["host"] == host
        return {name: value for name, value in options.items() if name.startswith("ssl")}

    monkeypatch.setenv("POSTGRES_HOST", host)
    assert find_options() == {"sslmode": "verify-full", "sslrootcert": "system"}
    monkeypatch.setenv("POSTGRES_SSLROOTCERT", "tls/db & ca.crt")
    path = workspace / "tls/db & ca.crt"
    assert find_options() == {"sslmode": "verify-full", "sslrootcert": str(path)}
    monkeypatch.setenv("BAZAAR_ENVIRONMENT", "development")
    assert find_options() == {}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1"])
def test_a_server_on_this_machine_needs_no_tls(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("POSTGRES_HOST", host)
    assert "?" not in settings.load(LampSettings).lamp_database_url.get_secret_value()


@pytest.mark.parametrize(
    "variables",
    [
        {"LAMP_DATABASE_PASSWORD": settings.DEVELOPMENT_SECRET},
        {"LAMP_DATABASE_URL": f"postgresql://a:{settings.DEVELOPMENT_SECRET}@elsewhere/lamps"},
    ],
)
@pytest.mark.parametrize("environment", ["production", None])
def test_the_password_of_dotenv_is_refused_outside_development(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    environment: str | None,
) -> None:
    monkeypatch.setenv("BAZAAR_ENVIRONMENT", "development")
    settings.load(LampSettings, variables)
    if environment is None:
        monkeypatch.delenv("BAZAAR_ENVIRONMENT")
    else:
        monkeypatch.setenv("BAZAAR_ENVIRONMENT", environment)
    with pytest.raises(SystemExit):
        settings.load(LampSettings, variables)
    (name,) = variables
    printed = capsys.readouterr().err
    assert f"{name}: Value error, must not be that of .env unless BAZAAR_ENVIRONMENT" in printed
    assert settings.DEVELOPMENT_SECRET not in printed


def test_own_database_with_a_url_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMP_DATABASE_URL", "postgresql://elsewhere/lamps")
    for name in GOOD:
        monkeypatch.delenv(name)
    found = settings.load(LampSettings)
    assert found.lamp_database_url.get_secret_value() == "postgresql://elsewhere/lamps"


def test_own_database_without_a_url_names_what_is_missing_of_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POSTGRES_HOST")
    monkeypatch.delenv("LAMP_DATABASE_PASSWORD")
    with pytest.raises(SystemExit) as raised:
        settings.load(LampSettings)
    assert raised.value.code == 78
    expected = (
        "LAMP_DATABASE_URL: Value error, must be set, or else POSTGRES_HOST, LAMP_DATABASE_PASSWORD"
    )
    assert capsys.readouterr().err.startswith(f"{expected}\n")


def test_own_database_has_the_name_that_it_is_declared_with() -> None:
    class ShelfSettings(LampSettings):
        shelf_database_url: settings.DatabaseUrl = settings.own_database(
            "lamp_database_password", "shelfdb"
        )

    url = settings.load(ShelfSettings).shelf_database_url.get_secret_value()
    assert url == "postgresql://shelfdb_app:p%40ss%2Fword@127.0.0.1:5432/shelfdb"


@pytest.mark.parametrize("url", ["mysql://secret@elsewhere/lamps", "secret", ""])
def test_load_rejects_urls_of_other_schemes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("LAMP_DATABASE_URL", url)
    with pytest.raises(SystemExit):
        settings.load(LampSettings)
    printed = capsys.readouterr().err
    assert printed.startswith("LAMP_DATABASE_URL: ")
    assert "secret" not in printed


def test_load_refuses_a_misspelt_name_and_suggests_the_right_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAMP_BRIGHTNES", "hunter2")
    with pytest.raises(SystemExit) as raised:
        settings.load(LampSettings)
    assert raised.value.code == 78
    printed = capsys.readouterr().err
    assert printed.startswith("LAMP_BRIGHTNES is unknown: did you mean LAMP_BRIGHTNESS?\n")
    assert "hunter2" not in printed


def test_load_refuses_a_misspelt_name_in_dotenv(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / ".env").write_text("LOG_LEVLE=debug\nPOSTGRES_DB=other\nHEATER_POWER=9\n")
    assert refused(capsys).startswith("LOG_LEVLE is unknown: did you mean LOG_LEVEL?\nCorrect")


def test_load_names_unknown_and_bad_variables_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "x")
    monkeypatch.setenv("LOG_FORMATS", "json")
    printed = refused(capsys)
    assert "POSTGRES_PORT: " in printed
    assert "LOG_FORMATS is unknown: did you mean LOG_FORMAT?" in printed


def test_an_ipv6_address_is_in_brackets_before_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.address("::1", 5432) == "[::1]:5432"
    assert settings.address("localhost", 5432) == "localhost:5432"
    monkeypatch.setenv("POSTGRES_HOST", "::1")
    url = settings.load(LampSettings).lamp_database_url.get_secret_value()
    assert url == "postgresql://lampdb_app:p%40ss%2Fword@[::1]:5432/lampdb"


@pytest.mark.parametrize("value", ["[::1]", "localhost:5432", "::1:x", "a b", ""])
def test_load_rejects_invalid_hosts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("POSTGRES_HOST", value)
    assert refused(capsys).startswith("POSTGRES_HOST: ")
