"""What the user service needs outside development."""

import pytest

from chassis.settings_testing import Environment
from services.user.id_tokens import TrustedIssuer
from services.user.settings import UserSettings

pytest_plugins = ("chassis.settings_testing",)
KEY_SECRET = "hunter2" * 5
PRODUCTION = {
    "USERSERVICE_KEY_SECRET": KEY_SECRET,
    "USERSERVICE_SMTP_URL": "smtp://shop:hunter2@mail.example:587",
    "USERSERVICE_MAIL_SENDER": "orders@shop.example",
    "USERSERVICE_LINK_URL": "https://shop.example",
}


def test_development_needs_no_settings(environment: Environment) -> None:
    found = environment.load(UserSettings, BAZAAR_ENVIRONMENT="development")
    assert found.userservice_verification_required is False
    assert found.userservice_admin_email == ""


def test_production_needs_a_secret_a_mail_server_and_addresses_of_its_own(
    environment: Environment,
) -> None:
    assert environment.refuse(UserSettings) == PRODUCTION.keys()
    assert environment.load(UserSettings, **PRODUCTION).userservice_verification_required is True


@pytest.mark.parametrize("secret", ["change-me-in-production", "hunter2", ""])
def test_the_secret_of_production_is_none_that_could_be_guessed(
    environment: Environment, secret: str
) -> None:
    given = PRODUCTION | {"USERSERVICE_KEY_SECRET": secret}
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_KEY_SECRET"}


@pytest.mark.parametrize("password", ["change-me-in-production", "hunter2", ""])
def test_the_first_admin_of_production_has_a_password_of_its_own(
    environment: Environment, password: str
) -> None:
    given = PRODUCTION | {
        "USERSERVICE_ADMIN_EMAIL": "admin@example.com",
        "USERSERVICE_ADMIN_PASSWORD": password,
    }
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_ADMIN_PASSWORD"}


def test_the_first_admin_of_development_may_have_the_default_password(
    environment: Environment,
) -> None:
    given = {
        "BAZAAR_ENVIRONMENT": "development",
        "USERSERVICE_ADMIN_EMAIL": "admin@bazaar.example",
        "USERSERVICE_ADMIN_PASSWORD": "change-me-in-production",
    }
    assert environment.load(UserSettings, **given).userservice_admin_email == "admin@bazaar.example"


def test_the_address_of_the_first_admin_is_one(environment: Environment) -> None:
    given = PRODUCTION | {
        "USERSERVICE_ADMIN_EMAIL": "hunter2",
        "USERSERVICE_ADMIN_PASSWORD": KEY_SECRET,
    }
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_ADMIN_EMAIL"}


@pytest.mark.parametrize(
    "url", ["mail.example", "http://mail.example", "smtp://", "smtp://hunter2:x@mail:70000"]
)
def test_the_url_of_the_mail_server_is_one(environment: Environment, url: str) -> None:
    given = PRODUCTION | {"USERSERVICE_SMTP_URL": url}
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_SMTP_URL"}


@pytest.mark.parametrize("sender", ["hunter2", "Shop <shop@hunter2.example>", ""])
def test_the_sender_of_mails_is_an_address(environment: Environment, sender: str) -> None:
    given = PRODUCTION | {"USERSERVICE_MAIL_SENDER": sender}
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_MAIL_SENDER"}


@pytest.mark.parametrize("url", ["http://shop.example", "https://", "shop.example"])
def test_the_links_of_production_are_https_urls(environment: Environment, url: str) -> None:
    given = PRODUCTION | {"USERSERVICE_LINK_URL": url}
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_LINK_URL"}


def test_issuers_are_trusted_with_their_audiences(environment: Environment) -> None:
    issuers = "https://one.example/a?b=c=client-1, https://two.example=client-2"
    found = environment.load(UserSettings, **PRODUCTION, USERSERVICE_TRUSTED_ISSUERS=issuers)
    assert found.userservice_trusted_issuers == (
        TrustedIssuer("https://one.example/a?b=c", "client-1"),
        TrustedIssuer("https://two.example", "client-2"),
    )
    environment.load(
        UserSettings,
        BAZAAR_ENVIRONMENT="development",
        USERSERVICE_TRUSTED_ISSUERS="http://localhost:1=hunter2",
    )


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
    environment: Environment, issuers: str
) -> None:
    given = PRODUCTION | {"USERSERVICE_TRUSTED_ISSUERS": issuers}
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_TRUSTED_ISSUERS"}


def test_a_key_is_not_published_longer_than_it_signs(environment: Environment) -> None:
    given = PRODUCTION | {
        "USERSERVICE_KEY_LIFETIME_SECONDS": "3600",
        "USERSERVICE_KEY_NOTICE_SECONDS": "3600",
    }
    assert environment.refuse(UserSettings, **given) == {"USERSERVICE_KEY_NOTICE_SECONDS"}


def test_a_key_is_published_until_all_have_fetched_it(environment: Environment) -> None:
    short = {"USERSERVICE_KEY_NOTICE_SECONDS": "299"}
    assert environment.refuse(UserSettings, **PRODUCTION, **short) == short.keys()
    environment.load(UserSettings, **PRODUCTION, USERSERVICE_KEY_NOTICE_SECONDS="300")
    environment.load(UserSettings, BAZAAR_ENVIRONMENT="development", **short)


def test_secrets_are_not_shown(environment: Environment) -> None:
    assert "hunter2" not in repr(environment.load(UserSettings, **PRODUCTION))
