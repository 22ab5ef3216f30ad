"""Payments that wait for an action of the customer or for their capture, and test methods."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment.charges import Charges
from services.payment.domain import Action, Charge, ChargeResult, Payment, State
from services.payment.providers.paypal import PayPalProvider
from services.payment.providers.provider import Authorization
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.testing import count, sandbox
from tools.fakes.paypal.testing import PayPal

pytest_plugins = (
    "tools.postgres.testing",
    "services.payment.testing",
    "services.payment.providers.paypal_testing",
    "tools.fakes.paypal.testing",
)
DATABASE = "payment"

COUNT_CAPTURES = "SELECT count(*) FROM sandbox.movements WHERE type = 'CAPTURE'"


@pytest.fixture
def charges(database: Database) -> Charges:
    return Charges(database, sandbox(database))


@pytest.fixture
def sandbox_provider(database: Database) -> SandboxProvider:
    return SandboxProvider(database)


async def approve(sandbox: SandboxProvider, payment: Payment, *, approved: bool = True) -> None:
    body = {"client_secret": payment.provider_reference, "approved": approved}
    await sandbox.read_webhook({}, json.dumps(body).encode())


def new_charges(number: int, payment_method: str = "pm_sandbox") -> list[Charge]:
    amount = Amount(12_34, "GBP")
    return [Charge(uuid.uuid4(), amount, payment_method) for _ in range(number)]


async def test_a_payment_that_requires_an_action_is_charged_after_it(
    charges: Charges, sandbox_provider: SandboxProvider, clean_database_url: str
) -> None:
    requested = new_charges(1, "pm_sandbox_action")
    (payment,) = await charges.process(requested)
    assert payment.state is State.REQUIRES_ACTION
    assert payment.action == Action(client_secret=payment.provider_reference)
    assert await charges.process(requested) == [payment]
    await approve(sandbox_provider, payment)
    await approve(sandbox_provider, payment)
    assert [each.state for each in await charges.process(requested)] == [State.SUCCEEDED]
    assert count(clean_database_url, COUNT_CAPTURES) == 1


async def test_an_action_that_fails_declines_the_payment(
    charges: Charges, sandbox_provider: SandboxProvider
) -> None:
    requested = new_charges(1, "pm_sandbox_action")
    (payment,) = await charges.process(requested)
    await approve(sandbox_provider, payment, approved=False)
    (declined,) = await charges.process(requested)
    assert (declined.state, declined.decline_reason) == (State.DECLINED, "authentication_failed")


async def test_a_declined_payment_that_was_charged_is_settled_by_its_cancellation(
    charges: Charges, sandbox_provider: SandboxProvider, clean_database_url: str
) -> None:
    (payment,) = await charges.process(new_charges(1, "pm_sandbox_action"))
    await approve(sandbox_provider, payment)
    with psycopg.connect(clean_database_url) as connection:
        connection.execute("UPDATE payments SET state = 'DECLINED', decline_reason = 'mistake'")
    (settled,) = await charges.cancel([payment.order_id])
    assert (settled.state, settled.decline_reason) == (State.SUCCEEDED, "")


async def test_a_payment_whose_action_is_open_can_be_cancelled(
    charges: Charges, sandbox_provider: SandboxProvider, clean_database_url: str
) -> None:
    requested = new_charges(1, "pm_sandbox_action")
    (payment,) = await charges.process(requested)
    assert [each.state for each in await charges.cancel([payment.order_id])] == [State.CANCELLED]
    await approve(sandbox_provider, payment)
    assert [each.state for each in await charges.process(requested)] == [State.CANCELLED]
    assert count(clean_database_url, COUNT_CAPTURES) == 0


async def test_a_payment_with_manual_capture_is_charged_when_it_is_captured(
    charges: Charges, clean_database_url: str
) -> None:
    requested = [replace(each, manual_capture=True) for each in new_charges(2)]
    order_ids = [charge.order_id for charge in requested]
    for _ in range(2):
        states = {payment.state for payment in await charges.process(requested)}
        assert states == {State.REQUIRES_CAPTURE}
    assert count(clean_database_url, COUNT_CAPTURES) == 0
    for _ in range(2):
        states = {payment.state for payment in await charges.capture(order_ids)}
        assert states == {State.SUCCEEDED}
    assert count(clean_database_url, COUNT_CAPTURES) == 2


async def test_a_payment_that_is_not_approved_is_not_captured(
    charges: Charges, clean_database_url: str
) -> None:
    (charge,) = new_charges(1, "pm_sandbox_action")
    await charges.process([replace(charge, manual_capture=True)])
    assert [each.state for each in await charges.capture([charge.order_id])] == [State.PROCESSING]
    assert count(clean_database_url, COUNT_CAPTURES) == 0


async def test_a_capture_needs_a_payment(charges: Charges) -> None:
    with pytest.raises(errors.NotFound):
        await charges.capture([uuid.uuid4()])


async def test_a_cancelled_payment_is_not_captured(
    charges: Charges, clean_database_url: str
) -> None:
    (charge,) = new_charges(1)
    await charges.process([replace(charge, manual_capture=True)])
    await charges.cancel([charge.order_id])
    assert [each.state for each in await charges.capture([charge.order_id])] == [State.CANCELLED]
    assert count(clean_database_url, COUNT_CAPTURES) == 0


async def test_paypal_as_the_default_provider_charges_after_an_approval_and_a_capture(
    database: Database, paypal: PayPal, provider: PayPalProvider
) -> None:
    charges = Charges(database, Providers([provider]))
    # The payment method has no prefix, so the order service does not ask for manual capture.
    requested = new_charges(1, "checkout")
    (payment,) = await charges.process(requested)
    assert payment.state is State.REQUIRES_ACTION
    paypal.act(payment.provider_reference)
    assert [each.state for each in await charges.process(requested)] == [State.REQUIRES_CAPTURE]
    assert [float(each["captured"]) for each in paypal.read_books()] == [0]
    captured = await charges.capture([payment.order_id])
    assert [each.state for each in captured] == [State.SUCCEEDED]
    assert [float(each["captured"]) for each in paypal.read_books()] == [12.34]


class HoldingProvider(SandboxProvider):
    """Makes holds that have references of their own, and is down when the first is captured."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.calls: list[str] = []

    async def authorize(self, references: Sequence[str]) -> list[str]:
        self.calls.append("authorize")
        return [f"hold of {each}" for each in references]

    async def capture(self, authorizations: Sequence[Authorization]) -> list[ChargeResult]:
        self.calls.append("capture")
        if self.calls.count("capture") == 1:
            raise errors.Unavailable("PROVIDER_UNAVAILABLE", "lost")
        return await super().capture(authorizations)


async def test_a_payment_is_held_once_however_often_its_capture_is_repeated(
    database: Database,
) -> None:
    provider = HoldingProvider(database)
    charges = Charges(database, Providers([provider]))
    (charge,) = new_charges(1)
    await charges.process([replace(charge, manual_capture=True)])
    captured = [await charges.capture([charge.order_id]) for _ in range(2)]
    assert [each.state for (each,) in captured] == [State.PROCESSING, State.SUCCEEDED]
    assert provider.calls == ["authorize", "capture", "capture"]


async def test_a_provider_that_is_not_switched_on_declines_a_new_payment(charges: Charges) -> None:
    (declined,) = await charges.process(new_charges(1, "stripe:pm_card_visa"))
    assert (declined.state, declined.decline_reason) == (State.DECLINED, "unknown_provider")


@pytest.mark.parametrize(
    ("payment_method", "first"),
    [
        ("pm_sandbox_slow", State.SUCCEEDED),
        ("pm_sandbox_lost", State.PROCESSING),
        ("pm_sandbox_duplicate", State.SUCCEEDED),
        ("sandbox:pm_card_visa", State.SUCCEEDED),
    ],
)
async def test_payment_methods_with_faults_are_charged_once(
    charges: Charges, clean_database_url: str, payment_method: str, first: State
) -> None:
    requested = new_charges(1, payment_method)
    assert [each.state for each in await charges.process(requested)] == [first]
    assert [each.state for each in await charges.process(requested)] == [State.SUCCEEDED]
    assert count(clean_database_url, COUNT_CAPTURES) == 1
