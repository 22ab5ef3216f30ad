"""The settings of the payment service: which providers are on, and their keys."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from chassis import settings
from chassis.service import ServiceSettings

ProviderName = Literal["sandbox", "stripe", "paypal"]


def _check_providers(names: Sequence[str], info: ValidationInfo) -> Sequence[str]:
    if len(set(names)) < len(names):
        raise ValueError("must not repeat a provider")
    if "sandbox" in names and info.data.get("bazaar_environment") != "development":
        raise ValueError("must not have the sandbox unless BAZAAR_ENVIRONMENT is development")
    return names


def _needed_by(provider: str) -> Any:
    """Declare that a setting must not be empty if a provider is on."""

    def check(value: object, info: ValidationInfo) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not text and provider in info.data.get("paymentservice_providers", ()):
            raise ValueError(f"must be set, because {provider} is in PAYMENTSERVICE_PROVIDERS")
        return value

    return AfterValidator(check)


def _check_mode(key: SecretStr, info: ValidationInfo) -> SecretStr:
    """Check that a key of Stripe is for the environment (https://docs.stripe.com/keys)."""
    live = info.data.get("bazaar_environment") == "production"
    refused = ("sk_test_", "rk_test_") if live else ("sk_live_", "rk_live_")
    if key.get_secret_value().startswith(refused):
        raise ValueError(f"must not begin with {refused[0]} in this BAZAAR_ENVIRONMENT")
    return key


def _setting(default: object) -> Any:
    return Field(default=default, validate_default=True)


class PaymentSettings(ServiceSettings):
    """Settings of the payment service beside those of every service."""

    paymentservice_providers: Annotated[
        tuple[ProviderName, ...],
        NoDecode,
        BeforeValidator(settings.split),
        Field(min_length=1),
        AfterValidator(_check_providers),
    ] = _setting("sandbox")
    """The providers that are on, separated by commas; the first is the default."""
    paymentservice_return_url: str = "http://localhost:8080/"
    """Where a provider sends the customer back to after an action."""
    paymentservice_stripe_api_url: str = "https://api.stripe.com"
    """The base URL of Stripe's API."""
    paymentservice_stripe_api_key: Annotated[
        SecretStr, _needed_by("stripe"), AfterValidator(_check_mode)
    ] = _setting(SecretStr(""))
    """The secret key of Stripe."""
    paymentservice_stripe_webhook_secret: Annotated[SecretStr, _needed_by("stripe")] = _setting(
        SecretStr("")
    )
    """The secret that Stripe signs webhooks with. Configure Stripe to send `payment_intent.*` and
    `refund.failed` to /v1/payments/webhooks/stripe of the gateway."""
    paymentservice_paypal_api_url: str = "https://api-m.paypal.com"
    """The base URL of PayPal's API."""
    paymentservice_paypal_client_id: Annotated[str, _needed_by("paypal")] = _setting("")
    """The client id of the PayPal app."""
    paymentservice_paypal_client_secret: Annotated[SecretStr, _needed_by("paypal")] = _setting(
        SecretStr("")
    )
    """The secret of the PayPal app."""
    paymentservice_paypal_webhook_id: Annotated[str, _needed_by("paypal")] = _setting("")
    """The id of the PayPal webhook. Configure it to send `CHECKOUT.ORDER.APPROVED`,
    `PAYMENT.AUTHORIZATION.*` and `PAYMENT.CAPTURE.*` to /v1/payments/webhooks/paypal of the
    gateway."""
