"""Which providers may be switched on, and what they need."""

import pytest

from chassis.settings_testing import Environment
from services.payment.settings import PaymentSettings

pytest_plugins = ("chassis.settings_testing",)
STRIPE = {
    "PAYMENTSERVICE_PROVIDERS": "stripe",
    "PAYMENTSERVICE_STRIPE_API_KEY": "sk_live_hunter2",
    "PAYMENTSERVICE_STRIPE_WEBHOOK_SECRET": "hunter2",
}
PAYPAL = {
    "PAYMENTSERVICE_PROVIDERS": "paypal",
    "PAYMENTSERVICE_PAYPAL_CLIENT_ID": "shop",
    "PAYMENTSERVICE_PAYPAL_CLIENT_SECRET": "hunter2",
    "PAYMENTSERVICE_PAYPAL_WEBHOOK_ID": "wh-1",
}


def test_the_sandbox_is_for_development_only(environment: Environment) -> None:
    assert environment.refuse(PaymentSettings) == {"PAYMENTSERVICE_PROVIDERS"}
    found = environment.load(PaymentSettings, BAZAAR_ENVIRONMENT="development")
    assert found.paymentservice_providers == ("sandbox",)


def test_several_providers_can_be_on(environment: Environment) -> None:
    both = STRIPE | PAYPAL | {"PAYMENTSERVICE_PROVIDERS": "paypal, stripe"}
    assert environment.load(PaymentSettings, **both).paymentservice_providers == (
        "paypal",
        "stripe",
    )


@pytest.mark.parametrize("names", ["", "stripe,,paypal", "square", "paypal,paypal"])
def test_only_known_providers_can_be_on_each_once(environment: Environment, names: str) -> None:
    both = STRIPE | PAYPAL | {"PAYMENTSERVICE_PROVIDERS": names}
    assert environment.refuse(PaymentSettings, **both) == {"PAYMENTSERVICE_PROVIDERS"}


@pytest.mark.parametrize("needed", [STRIPE, PAYPAL])
def test_a_provider_needs_its_keys(environment: Environment, needed: dict[str, str]) -> None:
    providers = needed["PAYMENTSERVICE_PROVIDERS"]
    named = environment.refuse(PaymentSettings, PAYMENTSERVICE_PROVIDERS=providers)
    assert named == needed.keys() - {"PAYMENTSERVICE_PROVIDERS"}


@pytest.mark.parametrize(
    ("name", "key"),
    [("development", "sk_live_hunter2"), ("production", "rk_test_hunter2")],
)
def test_a_key_of_stripe_is_for_the_environment(
    environment: Environment, name: str, key: str
) -> None:
    given = STRIPE | {"BAZAAR_ENVIRONMENT": name, "PAYMENTSERVICE_STRIPE_API_KEY": key}
    assert environment.refuse(PaymentSettings, **given) == {"PAYMENTSERVICE_STRIPE_API_KEY"}


def test_keys_are_not_shown(environment: Environment) -> None:
    both = STRIPE | PAYPAL | {"PAYMENTSERVICE_PROVIDERS": "stripe,paypal"}
    assert "hunter2" not in repr(environment.load(PaymentSettings, **both))
