"""What the user service needs outside development."""

from pathlib import Path

import pytest

from chassis import settings
from services.user.settings import UserSettings

SECRET = "hunter2" * 5
PRODUCTION = {
    "USERSERVICE_KEY_SECRET": SECRET,
    "USERSERVICE_SMTP_URL": "smtp://shop:hunter2@mail.example:587",
}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))


def load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> UserSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return settings.load(UserSettings)


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environment: str
) -> set[str]:
    """Return the variables that are named, none with its value."""
    with pytest.raises(SystemExit) as raised:
        load(monkeypatch, **environment)
    assert raised.value.code == 78
    printed = capsys.readouterr().err
    assert "hunter2" not in printed
    return {line.partition(":")[0] for line in printed.splitlines()[:-1]}


def test_development_needs_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(monkeypatch, BAZAAR_ENVIRONMENT="development")
    assert found.userservice_verification_required is False
    assert found.userservice_admin_email == ""


def test_production_needs_a_secret_and_a_mail_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch, capsys) == PRODUCTION.keys()
    assert load(monkeypatch, **PRODUCTION).userservice_verification_required is True


@pytest.mark.parametrize("secret", ["change-me-in-production", "hunter2", ""])
def test_the_secret_of_production_is_none_that_could_be_guessed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    given = PRODUCTION | {"USERSERVICE_KEY_SECRET": secret}
    assert refused(monkeypatch, capsys, **given) == {"USERSERVICE_KEY_SECRET"}


@pytest.mark.parametrize("password", ["change-me-in-production", "hunter2", ""])
def test_the_first_admin_of_production_has_a_password_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], password: str
) -> None:
    given = PRODUCTION | {
        "USERSERVICE_ADMIN_EMAIL": "admin@example.com",
        "USERSERVICE_ADMIN_PASSWORD": password,
    }
    assert refused(monkeypatch, capsys, **given) == {"USERSERVICE_ADMIN_PASSWORD"}


def test_the_first_admin_of_development_may_have_the_default_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {
        "BAZAAR_ENVIRONMENT": "development",
        "USERSERVICE_ADMIN_EMAIL": "admin@bazaar.example",
        "USERSERVICE_ADMIN_PASSWORD": "change-me-in-production",
    }
    assert load(monkeypatch, **given).userservice_admin_email == "admin@bazaar.example"


def test_the_address_of_the_first_admin_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = PRODUCTION | {
        "USERSERVICE_ADMIN_EMAIL": "hunter2",
        "USERSERVICE_ADMIN_PASSWORD": SECRET,
    }
    assert refused(monkeypatch, capsys, **given) == {"USERSERVICE_ADMIN_EMAIL"}


@pytest.mark.parametrize(
    "url", ["mail.example", "http://mail.example", "smtp://", "smtp://hunter2:x@mail:70000"]
)
def test_the_url_of_the_mail_server_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    given = PRODUCTION | {"USERSERVICE_SMTP_URL": url}
    assert refused(monkeypatch, capsys, **given) == {"USERSERVICE_SMTP_URL"}


def test_issuers_are_trusted_with_their_audiences(monkeypatch: pytest.MonkeyPatch) -> None:
    issuers = "https://one.example/a?b=c=client-1, https://two.example=client-2"
    found = load(monkeypatch, **PRODUCTION, USERSERVICE_TRUSTED_ISSUERS=issuers)
    assert len(found.userservice_trusted_issuers) == 2
    given = {"BAZAAR_ENVIRONMENT": "development"}
    load(monkeypatch, **given, USERSERVICE_TRUSTED_ISSUERS="http://localhost:1=hunter2")


@pytest.mark.parametrize(
    "issuers",
    [
        "https://hunter2.example",
        "https://hunter2.example=",
        "hunter2=client",
        "http://hunter2.example=client",
        "http://localhost=hunter2",
        "https://a.example=hunter2,https://a.example=other",
        "https://a.example=hunter2,",
    ],
)
def test_issuers_of_production_are_https_urls_each_with_one_audience(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], issuers: str
) -> None:
    given = PRODUCTION | {"USERSERVICE_TRUSTED_ISSUERS": issuers}
    assert refused(monkeypatch, capsys, **given) == {"USERSERVICE_TRUSTED_ISSUERS"}


def test_a_key_is_not_published_longer_than_it_signs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = PRODUCTION | {
        "USERSERVICE_KEY_LIFETIME_SECONDS": "3600",
        "USERSERVICE_KEY_NOTICE_SECONDS": "3600",
    }
    assert refused(monkeypatch, capsys, **given) == {"USERSERVICE_KEY_NOTICE_SECONDS"}


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in repr(load(monkeypatch, **PRODUCTION))
