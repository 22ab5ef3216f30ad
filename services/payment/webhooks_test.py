"""Webhooks on a real database, with the fake of Stripe: each is applied once and never believed."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import LiteralString

import pytest

from chassis import errors
from chassis.database import Database
from chassis.testing import Events
from services.payment import webhooks
from services.payment.domain import State
from services.payment.testing import Hooks, count
from services.payment.webhook_testing import AMOUNT, Setup, make_event
from tools.fakes.faults import Kind, Rule

pytest_plugins = (
    "chassis.testing",
    "tools.postgres.testing",
    "services.payment.testing",
    "services.payment.webhook_testing",
    "tools.fakes.stripe.testing",
)
DATABASE = "payment"

COUNT_RECEIVED: LiteralString = "SELECT count(*) FROM webhook_inbox"
COUNT_CHARGES: LiteralString = "SELECT count(*) FROM transactions WHERE type = 'CHARGE'"


async def test_a_webhook_records_what_the_provider_says(setup: Setup) -> None:
    payment = await setup.charge()
    assert setup.read(payment)[0] is State.PROCESSING
    setup.fake.act(payment.provider_reference)
    await setup.receive(make_event(payment.provider_reference))
    assert setup.read(payment)[0] is State.SUCCEEDED
    assert count(setup.url, COUNT_CHARGES) == 1
    assert setup.reasons() == [""]


async def test_a_webhook_is_applied_once(setup: Setup) -> None:
    payment = await setup.charge()
    setup.fake.act(payment.provider_reference)
    event = make_event(payment.provider_reference)
    await asyncio.gather(*(setup.receive(event) for _ in range(5)))
    state = setup.read(payment)
    for _ in range(2):
        await setup.receive(event)
    assert state[0] is State.SUCCEEDED
    assert setup.read(payment) == state
    assert count(setup.url, COUNT_RECEIVED) == 1
    assert count(setup.url, COUNT_CHARGES) == 1


async def test_a_webhook_that_was_received_before_asks_nobody(setup: Setup) -> None:
    payment = await setup.charge()
    event = make_event(payment.provider_reference)
    await setup.receive(event)
    setup.fake.faults.set(Rule(Kind.LOSE_REQUEST))
    await setup.receive(event)


async def test_the_payload_of_a_webhook_is_not_believed(setup: Setup) -> None:
    payment = await setup.charge()
    await setup.receive(make_event(payment.provider_reference, amount_received=AMOUNT.minor))
    assert setup.read(payment)[0] is State.PROCESSING
    assert count(setup.url, COUNT_CHARGES) == 0


async def test_webhooks_may_come_in_any_order(setup: Setup) -> None:
    payment = await setup.charge()
    reference = payment.provider_reference
    setup.fake.act(reference)
    await setup.receive(make_event(reference, event_id="evt_2"))
    late = make_event(reference, "payment_intent.requires_action", status="requires_action")
    await setup.receive(late)
    assert setup.read(payment)[0] is State.SUCCEEDED


async def test_a_cancellation_at_the_provider_is_recorded(setup: Setup) -> None:
    payment = await setup.charge()
    reference = payment.provider_reference
    setup.fake.client.post(f"/v1/payment_intents/{reference}/cancel").raise_for_status()
    await setup.receive(make_event(reference, "payment_intent.canceled"))
    assert setup.read(payment)[0] is State.CANCELLED


async def test_a_webhook_never_captures_or_confirms(setup: Setup) -> None:
    payment = await setup.charge(manual_capture=True)
    reference = payment.provider_reference
    setup.fake.act(reference)
    await setup.receive(make_event(reference, "payment_intent.amount_capturable_updated"))
    intent = setup.fake.client.get(f"/v1/payment_intents/{reference}").json()
    assert (intent["status"], intent["amount_received"]) == ("requires_capture", 0)
    assert setup.read(payment)[0] is State.PROCESSING


@pytest.mark.parametrize("event_type", ["payment_intent.created", "customer.created"])
async def test_an_event_that_is_not_about_a_payment_is_ignored(
    setup: Setup, event_type: str
) -> None:
    await setup.receive(make_event("pi_unknown", event_type))
    assert setup.reasons() == []


async def test_an_unknown_intent_is_quarantined_and_logged_once(
    setup: Setup, events: Events
) -> None:
    for _ in range(2):
        await setup.receive(make_event("pi_unknown"))
    assert setup.reasons() == ["unknown_payment"]
    (logged,) = [each for each in events if each["event"] == "webhook_quarantined"]
    assert (logged["log_level"], logged["reference"]) == ("error", "pi_unknown")


async def test_another_amount_is_quarantined(setup: Setup, events: Events) -> None:
    payment = await setup.charge()
    setup.fake.act(payment.provider_reference)
    setup.execute("UPDATE payments SET amount_minor = amount_minor + 1")
    await setup.receive(make_event(payment.provider_reference, amount=AMOUNT.minor + 1))
    assert setup.reasons() == ["amount_mismatch"]
    assert setup.read(payment)[0] is State.PROCESSING
    assert [each["reason"] for each in events if "reason" in each] == ["amount_mismatch"]


@pytest.fixture
def failing_commit(setup: Setup) -> Iterator[None]:
    """Let each commit of a transaction that receives a webhook fail."""
    setup.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE serialization_failure; END $$"
    )
    setup.execute(
        "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON webhook_inbox"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    yield
    setup.execute("DROP FUNCTION fail CASCADE")


@pytest.mark.usefixtures("failing_commit")
@pytest.mark.parametrize("is_known", [True, False])
async def test_a_webhook_that_is_not_kept_is_logged_nevertheless(
    setup: Setup, events: Events, is_known: bool
) -> None:
    payment = await setup.charge()
    setup.fake.act(payment.provider_reference)
    setup.execute("UPDATE payments SET amount_minor = amount_minor + 1")
    with pytest.raises(errors.Aborted):
        await setup.receive(make_event(payment.provider_reference if is_known else "pi_unknown"))
    assert setup.reasons() == []
    assert [each["event"] for each in events].count("webhook_quarantined") == 1


CANCEL: LiteralString = "UPDATE payments SET state = 'CANCELLED'"
DECLINE: LiteralString = "UPDATE payments SET state = 'DECLINED', decline_reason = 'card_declined'"


@pytest.mark.parametrize(
    ("statement", "reason"),
    [(CANCEL, "cancelled_and_charged"), (DECLINE, "declined_and_charged")],
)
async def test_a_charge_of_a_payment_that_was_not_charged_is_quarantined(
    setup: Setup, statement: LiteralString, reason: str
) -> None:
    payment = await setup.charge()
    setup.fake.act(payment.provider_reference)
    setup.execute(statement)
    await setup.receive(make_event(payment.provider_reference))
    assert setup.reasons() == [reason]
    assert count(setup.url, COUNT_CHARGES) == 0


async def test_a_payment_that_changes_while_the_provider_is_asked_is_not_overwritten(
    setup: Setup,
) -> None:
    async def decline() -> None:
        setup.execute(DECLINE)

    payment = await setup.charge()
    setup.fake.act(payment.provider_reference)
    Hooks({"after find": decline}).surround(*setup.providers, "find")
    await setup.receive(make_event(payment.provider_reference))
    assert setup.reasons() == ["declined_and_charged"]
    assert setup.read(payment)[0] is State.DECLINED


async def test_a_webhook_is_received_again_after_the_provider_was_down(setup: Setup) -> None:
    payment = await setup.charge()
    setup.fake.act(payment.provider_reference)
    event = make_event(payment.provider_reference)
    setup.fake.faults.set(Rule(Kind.LOSE_REQUEST))
    with pytest.raises(errors.Unavailable):
        await setup.receive(event)
    assert setup.reasons() == []
    setup.fake.faults.set()
    await setup.receive(event)
    assert setup.read(payment)[0] is State.SUCCEEDED


async def test_a_webhook_is_received_and_applied_in_one_transaction(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await setup.charge()
    setup.fake.act(payment.provider_reference)

    async def fail(*_: object) -> None:
        raise errors.Unavailable("DATABASE_UNAVAILABLE", "The database is down.")

    with monkeypatch.context() as patch:
        patch.setattr("services.payment.repository.insert_transactions", fail)
        with pytest.raises(errors.Unavailable):
            await setup.receive(make_event(payment.provider_reference))
    assert setup.reasons() == []
    await setup.receive(make_event(payment.provider_reference))
    assert setup.read(payment)[0] is State.SUCCEEDED


@pytest.mark.parametrize(("days", "kept"), [(31, ["unknown_payment", ""]), (366, [""])])
async def test_old_webhooks_are_deleted_and_quarantined_ones_after_a_year(
    setup: Setup, database: Database, days: int, kept: list[str]
) -> None:
    payment = await setup.charge()
    for number in range(2):
        await setup.receive(make_event(payment.provider_reference, event_id=f"evt_{number}"))
    await setup.receive(make_event("pi_unknown", event_id="evt_2"))
    setup.execute(
        "UPDATE webhook_inbox SET receive_time = now() - %s::interval WHERE event_id <> 'evt_1'",
        dt.timedelta(days=days),
    )
    await webhooks.sweep(database)
    assert setup.reasons() == kept


async def test_a_provider_that_is_not_switched_on_is_not_found(setup: Setup) -> None:
    with pytest.raises(errors.NotFound):
        await setup.receive(make_event("pi_1"), "paypal")
