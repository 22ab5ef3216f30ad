"""The sandbox: a payment provider that moves no money and keeps books as if it did.

Its books are in the schema `sandbox`, which stands for a remote system: only the sandbox accesses
it, in transactions of its own, and it accesses nothing else. A crash between a step here and a step
of the service therefore has the same effect as with a real provider.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from pydantic import BaseModel, Field, ValidationError

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment.domain import (
    UNSETTLED,
    Action,
    ChargeResult,
    RefundResult,
    RefundState,
    State,
)
from services.payment.providers import sandbox_books
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    Intent,
    IntentRequest,
    Notification,
    RefundRequest,
)
from services.payment.providers.sandbox_books import UNCONFIRMED, StoredIntent

DECLINE_REASONS = {
    "pm_card_declined": "card_declined",
    "pm_card_insufficient_funds": "insufficient_funds",
}
"""The decline reasons of the payment methods that are declined."""
UNKNOWN_METHOD = "unknown_payment_method"
"""The decline reason of every payment method that the sandbox does not know."""
ACTION = "pm_sandbox_action"
"""Asks for an action of the customer, which is a webhook with an `Approval`."""
SLOW = "pm_sandbox_slow"
"""Is charged, and the response takes SLOW_SECONDS."""
LOST = "pm_sandbox_lost"
"""Is charged, and the first response is lost."""
DUPLICATE = "pm_sandbox_duplicate"
"""Is charged, and every request arrives twice."""
CHARGED = frozenset({"pm_sandbox", "pm_card_visa", SLOW, LOST, DUPLICATE})
"""The payment methods that are charged without an action."""
SLOW_SECONDS = 2.0


class Approval(BaseModel, strict=True, extra="forbid"):
    """The body of a webhook by which a customer approves a payment, or does not."""

    client_secret: str = Field(pattern=r"^pi_[0-9a-f]{32}$")
    approved: bool


class SandboxProvider:
    """Knows the payment methods above, and declines every other one. For development only."""

    name = "sandbox"
    cancellation_is_final = True

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[Intent | None]:
        """Create intents; a repeated key returns the same intent and must have the same amount."""
        async with self._database.transaction() as connection:
            found = await sandbox_books.insert_intents(connection, requests)
        return [Intent(found[request.key, request.amount]) for request in requests]

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
        """Decide about those intents that are unconfirmed, by their payment methods."""
        methods = {each.reference: each.payment_method for each in confirmations}
        results, decided = await self._confirm(methods)
        if SLOW in methods.values():
            await asyncio.sleep(SLOW_SECONDS)
        if DUPLICATE in methods.values():
            results, _ = await self._confirm(methods)
        for reference in decided:
            if methods[reference] == LOST:
                results[reference] = ChargeResult(State.PROCESSING)
        return [results[reference] for reference in methods]

    async def find(self, references: Sequence[str]) -> list[ChargeResult]:
        """Read intents, with their amounts."""
        async with self._database.connection() as connection:
            found = await sandbox_books.find_intents(connection, references)
        results = {key: _to_result(key, *intent) for key, intent in found.items()}
        return [results.get(each, ChargeResult(State.PROCESSING)) for each in references]

    async def authorize(self, references: Sequence[str]) -> list[str]:
        """Return the references: an approved intent is its own hold."""
        return list(references)

    async def capture(self, authorizations: Sequence[Authorization]) -> list[ChargeResult]:
        """Charge those intents that are approved."""
        references = [authorization.reference for authorization in authorizations]
        succeeded = ChargeResult(State.SUCCEEDED)
        return await self._change(references, {State.REQUIRES_CAPTURE}, succeeded)

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        """Cancel those intents that are not settled."""
        cancelled = ChargeResult(State.CANCELLED)
        return await self._change(references, {*UNSETTLED, UNCONFIRMED}, cancelled)

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
        """Refund charged intents, in request order, as long as enough of each remains."""
        async with self._database.transaction() as connection:
            remaining_minor = await sandbox_books.lock_remaining(
                connection, [request.reference for request in requests]
            )
            done = await sandbox_books.find_refunds_by_number(connection, requests)
            done |= await sandbox_books.find_refunds_by_key(connection, requests)
            granted = []
            for request in requests:
                if request.key in done or request.amount.minor > remaining_minor[request.reference]:
                    continue
                remaining_minor[request.reference] -= request.amount.minor
                granted.append(request)
            done |= await sandbox_books.write_refunds(connection, granted)
        return [
            RefundResult(RefundState.SUCCEEDED, done[request.key])
            if request.key in done
            else RefundResult(RefundState.FAILED)
            for request in requests
        ]

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """Parse an `Approval`, which nobody signs, and let its intent go on."""
        try:
            approval = Approval.model_validate_json(body)
        except ValidationError as error:
            message = "The body must be an object with client_secret and approved."
            raise errors.InvalidArgument("INVALID_WEBHOOK", message) from error
        reference = approval.client_secret
        async with self._database.transaction() as connection:
            intents = await sandbox_books.lock_intents(connection, [reference])
            await sandbox_books.write_results(
                connection,
                {
                    key: _approve(intent) if approval.approved else _NOT_APPROVED
                    for key, intent in intents.items()
                    if intent.state == State.REQUIRES_ACTION
                },
            )
        event_id = f"{reference} {'approved' if approval.approved else 'not approved'}"
        return Notification(event_id, "action", reference)

    async def close(self) -> None:
        """Do nothing: the database is the service's."""

    async def _confirm(
        self, methods: Mapping[str, str]
    ) -> tuple[dict[str, ChargeResult], Collection[str]]:
        """Return all results, and the references of the intents that were unconfirmed."""
        async with self._database.transaction() as connection:
            intents = await sandbox_books.lock_intents(connection, list(methods))
            decided = {
                reference: _decide(reference, intent, methods[reference])
                for reference, intent in intents.items()
                if intent.state == UNCONFIRMED
            }
            await sandbox_books.write_results(connection, decided)
        return {key: _to_result(key, each) for key, each in intents.items()} | decided, decided

    async def _change(
        self, references: Sequence[str], states: Collection[str], result: ChargeResult
    ) -> list[ChargeResult]:
        """Give those intents that are in one of the states another one."""
        async with self._database.transaction() as connection:
            intents = await sandbox_books.lock_intents(connection, references)
            changed = {key: result for key, intent in intents.items() if intent.state in states}
            await sandbox_books.write_results(connection, changed)
        results = {key: _to_result(key, intent) for key, intent in intents.items()} | changed
        return [results[reference] for reference in references]


_NOT_APPROVED = ChargeResult(State.DECLINED, "authentication_failed")


def _approve(intent: StoredIntent) -> ChargeResult:
    return ChargeResult(State.REQUIRES_CAPTURE if intent.manual_capture else State.SUCCEEDED)


def _decide(reference: str, intent: StoredIntent, payment_method: str) -> ChargeResult:
    if payment_method in CHARGED:
        return _approve(intent)
    if payment_method == ACTION:
        return ChargeResult(State.REQUIRES_ACTION, action=Action(client_secret=reference))
    return ChargeResult(State.DECLINED, DECLINE_REASONS.get(payment_method, UNKNOWN_METHOD))


def _to_result(reference: str, intent: StoredIntent, amount: Amount | None = None) -> ChargeResult:
    state = State.PROCESSING if intent.state == UNCONFIRMED else State(intent.state)
    needs_action = state is State.REQUIRES_ACTION
    action = Action(client_secret=reference) if needs_action else None
    return ChargeResult(state, intent.decline_reason, action, amount)
