"""Payment methods name their providers."""

import pytest

from chassis.database import Database
from services.payment.providers.registry import Providers, token_of
from services.payment.providers.sandbox import SandboxProvider

SANDBOX = SandboxProvider(Database("postgresql://unused"))


@pytest.mark.parametrize(
    ("payment_method", "provider", "token"),
    [
        ("pm_card_visa", SANDBOX, "pm_card_visa"),
        ("sandbox:pm_card_visa", SANDBOX, "pm_card_visa"),
        ("sandbox:a:b", SANDBOX, "a:b"),
        ("stripe:pm_card_visa", None, "pm_card_visa"),
        (":pm_card_visa", None, "pm_card_visa"),
    ],
)
def test_a_payment_method_names_its_provider_before_the_first_colon(
    payment_method: str, provider: SandboxProvider | None, token: str
) -> None:
    assert Providers([SANDBOX]).find_for(payment_method) is provider
    assert token_of(payment_method) == token
