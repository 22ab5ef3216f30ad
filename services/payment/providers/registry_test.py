"""Payment methods name their providers, which are called at once."""

import asyncio
from collections.abc import Sequence

import pytest

from chassis import errors
from chassis.database import Database
from services.payment.providers.provider import Provider
from services.payment.providers.registry import Providers, call_each, token_of
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


OTHER = SandboxProvider(Database("postgresql://unused"))


async def test_no_provider_waits_for_another() -> None:
    both_called = asyncio.Event()
    called = []

    async def call(provider: Provider, _: Sequence[None]) -> None:
        called.append(provider)
        if len(called) == 2:
            both_called.set()
        await both_called.wait()

    async with asyncio.timeout(10):
        assert len(await call_each({SANDBOX: [], OTHER: []}, call)) == 2


async def test_a_failure_is_raised_when_all_providers_have_responded() -> None:
    responded = []

    async def call(provider: Provider, _: Sequence[None]) -> None:
        if provider is SANDBOX:
            raise errors.NotFound("DEFECT")
        for _turn in range(100):
            await asyncio.sleep(0)
        responded.append(provider)

    with pytest.raises(errors.NotFound):
        await call_each({SANDBOX: [], OTHER: []}, call)
    assert responded == [OTHER]
