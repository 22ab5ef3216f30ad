"""What every provider must do, as tests: a provider's test module has a class for it.

    class TestStripe(ProviderContract):
        @pytest.fixture
        def bench(self) -> Bench: ...

As a plugin of pytest, this module lets adapters repeat their calls at once.

Each test drives intents as the service does: a step whose outcome is unknown is repeated with the
reference that was stored before.

PYTEST_DONT_REWRITE: test modules import it before pytest does.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from chassis import call_context, errors
from chassis.money import Amount
from services.payment.domain import ChargeResult, RefundResult, RefundState, State
from services.payment.providers import attempts
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    IntentRequest,
    Provider,
    RefundRequest,
)
from tools.fakes.faults import Faults, Kind, Rule

AMOUNT = Amount(10_00, "GBP")
MAX_REPEATS = 10
STEPS = ("create", "confirm", "authorize", "capture", "refund")
CALL_SECONDS = 30.0

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Bench:
    """A provider, and what tests do to its fake, or to its tables if it has no fake."""

    provider: Provider
    faults: Faults
    requests: Mapping[str, str]
    """Which requests the steps and "cancel" make, as regular expressions of `faults.Rule`."""
    approved_method: str
    """A payment method that is approved, if the customer approves what it asks for."""
    approve: Callable[[str], Awaitable[object]]
    """Approves an intent as its customer, if it asks for that."""
    expire_keys: Callable[[], object]
    """Expires all idempotency keys."""
    captured: Callable[[], list[int]]
    """Returns the amount of each capture in the books, in minor units."""
    refunded: Callable[[], list[int]]
    """Returns the amount of each refund in the books."""
    count_holds: Callable[[], int]
    """Counts what is held and neither captured nor released."""


def new_request() -> IntentRequest:
    """Return a request for an intent that waits for its capture."""
    order_id = str(uuid.uuid4())
    return IntentRequest(f"pi:{order_id}", order_id, AMOUNT, manual_capture=True)


class Driver:
    """Takes one order through the steps, each of them under a fault until it is repeated."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.request = new_request()
        self.reference = ""
        self.hold = ""

    async def create(self) -> None:
        """Store the intent."""
        provider, requests = self.bench.provider, [self.request]
        intent = await self.repeat(lambda: provider.create_intents(requests), lambda each: each)
        self.reference = intent.reference

    async def confirm(self) -> ChargeResult:
        """Confirm the intent, and approve it as the customer if it asks for that."""
        confirmations = [Confirmation(self.reference, self.bench.approved_method)]
        result = await self.charge(lambda: self.bench.provider.confirm(confirmations))
        if result.state is State.REQUIRES_ACTION:
            await self.bench.approve(self.reference)
            result = await self.charge(lambda: self.bench.provider.confirm(confirmations))
        return result

    async def authorize(self) -> None:
        """Store the hold."""
        provider, references = self.bench.provider, [self.reference]
        self.hold = await self.repeat(lambda: provider.authorize(references), bool)

    async def capture(self) -> ChargeResult:
        """Capture the stored hold."""
        holds = [Authorization(self.reference, self.hold)]
        return await self.charge(lambda: self.bench.provider.capture(holds))

    async def cancel(self) -> ChargeResult:
        """Cancel the intent and its holds."""
        references = [self.reference]
        return await self.charge(lambda: self.bench.provider.cancel(references))

    async def refund(self, number: int = 1, minor: int = 4_00) -> RefundResult:
        """Refund a part of what was captured."""
        requests = [
            RefundRequest(
                f"refund:{self.request.order_id}:{number}",
                self.reference,
                number,
                replace(AMOUNT, minor=minor),
            )
        ]
        return await self.repeat(
            lambda: self.bench.provider.refund(requests),
            lambda result: result.state is not RefundState.PENDING,
        )

    async def charge(self, call: Callable[[], Awaitable[list[ChargeResult]]]) -> ChargeResult:
        """Repeat a call until the state is known."""
        return await self.repeat(call, lambda result: result.state is not State.PROCESSING)

    async def repeat(
        self,
        call: Callable[[], Awaitable[Sequence[ResultT | None]]],
        is_known: Callable[[Any], object],
    ) -> ResultT:
        """Repeat a call until its outcome is known. Faults and keys last until the first repeat."""
        failure: errors.Unavailable | None = None
        for _ in range(MAX_REPEATS):
            try:
                with call_context.time_limit(CALL_SECONDS):
                    (result,) = await call()
            except errors.Unavailable as error:
                failure, result = error, None
            if result is not None and is_known(result):
                return result
            self.bench.faults.set()
            self.bench.expire_keys()
        raise AssertionError("the outcome stays unknown") from failure

    async def capture_payment(self) -> None:
        """Take the order through the steps up to its capture."""
        await self.create()
        await self.confirm()
        await self.authorize()
        assert (await self.capture()).state is State.SUCCEEDED


@pytest.fixture(autouse=True)
def _repeat_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_SECONDS", 0.01)


class ProviderContract:
    """The tests."""

    async def test_an_order_is_captured_once(self, bench: Bench) -> None:
        driver = Driver(bench)
        await driver.create()
        assert (await driver.confirm()).state is State.REQUIRES_CAPTURE
        await driver.authorize()
        assert bench.captured() == []
        for _ in range(2):
            assert (await driver.capture()).state is State.SUCCEEDED
        assert bench.captured() == [AMOUNT.minor]
        assert await bench.provider.find([driver.reference]) == [
            ChargeResult(State.SUCCEEDED, amount=AMOUNT)
        ]

    async def test_a_key_makes_one_intent(self, bench: Bench) -> None:
        first, second = new_request(), new_request()
        once = await bench.provider.create_intents([first, second])
        again = await bench.provider.create_intents([second, first])
        assert again == once[::-1]
        assert len({intent.reference for intent in once if intent}) == 2

    async def test_an_unconfirmed_intent_is_processing(self, bench: Bench) -> None:
        driver = Driver(bench)
        await driver.create()
        (result,) = await bench.provider.find([driver.reference])
        assert result.state in (State.PROCESSING, State.REQUIRES_ACTION)
        assert bench.captured() == []
        assert bench.count_holds() == 0

    @pytest.mark.parametrize("kind", Kind)
    async def test_faults_at_every_step_never_capture_or_refund_twice(
        self, bench: Bench, kind: Kind
    ) -> None:
        driver = Driver(bench)
        for step in STEPS:
            bench.faults.set(Rule(kind, bench.requests[step], delay_seconds=0.05))
            await getattr(driver, step)()
            bench.faults.set()
            bench.expire_keys()
        assert (await driver.refund()).state is RefundState.SUCCEEDED
        assert bench.captured() == [AMOUNT.minor]
        assert bench.refunded() == [4_00]
        assert bench.count_holds() == 0

    @pytest.mark.parametrize("kind", Kind)
    async def test_a_cancelled_order_is_charged_or_released_whatever_fails(
        self, bench: Bench, kind: Kind
    ) -> None:
        for count in range(1, STEPS.index("refund") + 1):
            driver = Driver(bench)
            for step in STEPS[:count]:
                await getattr(driver, step)()
            bench.faults.set(Rule(kind, bench.requests["cancel"], delay_seconds=0.05))
            state = (await driver.cancel()).state
            bench.faults.set()
            expected = State.SUCCEEDED if "capture" in STEPS[:count] else State.CANCELLED
            assert [state, (await driver.cancel()).state] == [expected, expected]
        assert bench.count_holds() == 0
        assert bench.captured() == [AMOUNT.minor]

    async def test_a_cancelled_intent_is_not_charged_later(self, bench: Bench) -> None:
        driver = Driver(bench)
        await driver.create()
        assert (await driver.cancel()).state is State.CANCELLED
        confirmation = Confirmation(driver.reference, bench.approved_method)
        (result,) = await bench.provider.confirm([confirmation])
        assert result.state is State.CANCELLED
        assert bench.captured() == []
        assert bench.count_holds() == 0

    async def test_a_refund_is_made_once_for_its_number(self, bench: Bench) -> None:
        driver = Driver(bench)
        await driver.capture_payment()
        first = await driver.refund(1)
        bench.expire_keys()
        assert await driver.refund(1) == first
        assert (await driver.refund(2)).reference != first.reference
        assert bench.refunded() == [4_00, 4_00]

    async def test_a_refund_of_more_than_remains_fails(self, bench: Bench) -> None:
        driver = Driver(bench)
        await driver.capture_payment()
        await driver.refund(1, 9_00)
        assert (await driver.refund(2, 2_00)).state is RefundState.FAILED
        assert bench.refunded() == [9_00]

    async def test_what_is_not_captured_is_not_refunded(self, bench: Bench) -> None:
        driver = Driver(bench)
        await driver.create()
        await driver.confirm()
        await driver.authorize()
        assert (await driver.refund()).state is RefundState.FAILED
        assert bench.refunded() == []

    async def test_nothing_known_of_a_batch_is_unavailable(self, bench: Bench) -> None:
        bench.faults.set(Rule(Kind.LOSE_REQUEST))
        with pytest.raises(errors.Unavailable):
            await bench.provider.create_intents([new_request(), new_request()])
