"""Stripe: PaymentIntents, refunds and signed webhooks (https://docs.stripe.com/api).

An intent can be charged once only, whatever is repeated: Stripe refuses to confirm or to capture
one that has succeeded or is cancelled. The keys of these two requests therefore only let one call
be sent again. A stable key would be wrong: Stripe replays errors too, for a day.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import httpx
import stripe

from chassis import errors, log
from services.payment.domain import ChargeResult, RefundResult, RefundState, State
from services.payment.providers.attempts import ATTEMPT_SECONDS, Attempts, Unknown
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    Intent,
    IntentRequest,
    Notification,
    RefundRequest,
)
from services.payment.providers.stripe_objects import (
    decline_reason,
    read_event,
    refuses_refund,
    to_refund_result,
    to_result,
    to_stripe,
)

CONNECT_SECONDS = 3.0
MAX_WEBHOOK_AGE_SECONDS = 300
"""https://docs.stripe.com/webhooks/signature recommends it."""
MAX_REFUNDS = 1_000
"""How many refunds of one intent are looked through."""

UNKNOWN_METHOD = "unknown_payment_method"

ObjectT = TypeVar("ObjectT")

_LOG = log.logger()
_UNKNOWN = ChargeResult(State.PROCESSING)
_UNCONFIRMED = ("requires_payment_method", "requires_confirmation")


class _ReplayedError(Unknown):
    """Stripe failed when it first got the request, and repeats that for as long as it has the key.

    https://docs.stripe.com/error-low-level#idempotency
    """


class StripeProvider:
    """Charges through the API at a URL, with a secret key."""

    name = "stripe"
    cancellation_is_final = True

    def __init__(self, api_url: str, api_key: str, webhook_secret: str, return_url: str) -> None:
        """`return_url` is where Stripe sends the customer after an action."""
        self._webhook_secret = webhook_secret
        self._return_url = return_url
        self._attempts = Attempts()
        self._http = stripe.HTTPXClient(
            timeout=httpx.Timeout(ATTEMPT_SECONDS, connect=CONNECT_SECONDS)
        )
        # The library waits 0.5 s and longer without regard to the deadline, and not after a 429.
        client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_url},
            http_client=self._http,
            max_network_retries=0,
        )
        self._intents = client.v1.payment_intents
        self._refunds = client.v1.refunds

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[Intent | None]:
        """Create intents; those of amounts that Stripe does not charge are refused for good."""
        return await self._attempts.for_each(requests, self._create, None)

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
        """Confirm those intents that are unconfirmed, and cancel those that were declined."""
        return await self._attempts.for_each(confirmations, self._confirm, _UNKNOWN)

    async def find(self, references: Sequence[str]) -> list[ChargeResult]:
        """Read intents."""
        return await self._attempts.for_each(references, self._find, _UNKNOWN)

    async def authorize(self, references: Sequence[str]) -> list[str]:
        """Return the references: an approved intent is its own hold."""
        return list(references)

    async def capture(self, authorizations: Sequence[Authorization]) -> list[ChargeResult]:
        """Capture those intents that are approved."""
        return await self._attempts.for_each(authorizations, self._capture, _UNKNOWN)

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        """Cancel those intents that are not charged."""
        return await self._attempts.for_each(references, self._cancel, _UNKNOWN)

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
        """Make those refunds that the intents do not have yet."""
        return await self._attempts.for_each(
            requests, self._refund, RefundResult(RefundState.PENDING)
        )

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """Verify the signature of the raw body: https://docs.stripe.com/webhooks/signature."""
        signature = headers.get("stripe-signature", "")
        try:
            stripe.WebhookSignature.verify_header(
                body, signature, self._webhook_secret, MAX_WEBHOOK_AGE_SECONDS
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError) as error:
            message = "The signature of the webhook is missing, invalid or too old."
            raise errors.InvalidArgument("INVALID_SIGNATURE", message) from error
        return read_event(body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _create(self, request: IntentRequest) -> Intent:
        try:
            amount = to_stripe(request.amount)
        except ValueError:
            return Intent("", "amount_not_chargeable")
        params: stripe.params.PaymentIntentCreateParams = {
            "amount": amount,
            "currency": request.amount.currency_code.lower(),
            "capture_method": "manual" if request.manual_capture else "automatic",
            "automatic_payment_methods": {"enabled": True},
            "metadata": {"order_id": request.order_id},
        }
        create = partial(self._intents.create_async, params)
        try:
            created = await self._post_create(create, request.key)
        except stripe.InvalidRequestError as error:
            if error.param not in ("amount", "currency"):
                raise _unexpected(error) from error
            return Intent("", error.code or f"invalid_{error.param}")
        return Intent(created.id)

    async def _post_create(
        self, create: Callable[..., Awaitable[stripe.PaymentIntent]], key: str
    ) -> stripe.PaymentIntent:
        try:
            return await self._post(create, key)
        except (stripe.IdempotencyError, _ReplayedError):
            # The key is of no use for a day. What it made, if anything, is unconfirmed.
            return await self._post(create)

    async def _confirm(self, confirmation: Confirmation) -> ChargeResult:
        intent = await self._get_intent(confirmation.reference)
        if intent.status not in _UNCONFIRMED:
            return to_result(intent)
        if intent.last_payment_error is not None:
            # It was declined, and the call that confirmed it did not get to cancel it.
            return await self._decline(intent.id, decline_reason(intent.last_payment_error))
        try:
            return to_result(
                await self._post(
                    partial(
                        self._intents.confirm_async,
                        intent.id,
                        {
                            "payment_method": confirmation.payment_method,
                            "return_url": self._return_url,
                        },
                    )
                )
            )
        except stripe.CardError as error:
            return await self._decline(intent.id, decline_reason(error.error))
        except stripe.InvalidRequestError as error:
            if error.param == "payment_method":
                reason = UNKNOWN_METHOD if error.code == "resource_missing" else error.code
                return await self._decline(intent.id, reason or UNKNOWN_METHOD)
            return _read_refused(error)

    async def _decline(self, reference: str, reason: str) -> ChargeResult:
        """Cancel an intent that could still be paid, and believe what Stripe says of it then."""
        result = await self._cancel(reference)
        if result.state not in (State.CANCELLED, State.DECLINED):
            return result
        return ChargeResult(State.DECLINED, reason, amount=result.amount)

    async def _find(self, reference: str) -> ChargeResult:
        return to_result(await self._get_intent(reference))

    async def _capture(self, authorization: Authorization) -> ChargeResult:
        return await self._change(partial(self._intents.capture_async, authorization.hold))

    async def _cancel(self, reference: str) -> ChargeResult:
        return await self._change(partial(self._intents.cancel_async, reference))

    async def _change(self, call: Callable[..., Awaitable[stripe.PaymentIntent]]) -> ChargeResult:
        """Change an intent, if its status allows that; return its state either way."""
        try:
            return to_result(await self._post(call))
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            return _read_refused(error)

    async def _refund(self, request: RefundRequest) -> RefundResult:
        made = await self._find_refund(request)
        if made is not None:
            return made
        params: stripe.params.RefundCreateParams = {
            "payment_intent": request.reference,
            "amount": to_stripe(request.amount),
            "metadata": {"refund_number": str(request.number)},
        }
        try:
            refund = await self._post(partial(self._refunds.create_async, params), request.key)
        except (stripe.CardError, stripe.IdempotencyError, stripe.InvalidRequestError) as error:
            if not refuses_refund(error):
                raise _unexpected(error) from error
            # A request that was sent before may have been processed late.
            return await self._find_refund(request) or RefundResult(RefundState.FAILED)
        return to_refund_result(refund)

    async def _find_refund(self, request: RefundRequest) -> RefundResult | None:
        """Look for a refund by its number: a key that has expired would refund a second time."""
        params: stripe.params.RefundListParams = {
            "payment_intent": request.reference,
            "limit": 100,
        }
        seen = 0
        while True:
            page = await self._get(partial(self._refunds.list_async, params))
            for refund in page.data:
                if getattr(refund.metadata, "refund_number", "") == str(request.number):
                    return to_refund_result(refund)
            seen += len(page.data)
            if not page.has_more:
                return None
            if seen >= MAX_REFUNDS:
                raise Unknown(f"The intent has more than {MAX_REFUNDS} refunds.")
            params["starting_after"] = page.data[-1].id

    async def _get_intent(self, reference: str) -> stripe.PaymentIntent:
        return await self._get(partial(self._intents.retrieve_async, reference))

    async def _get(self, call: Callable[..., Awaitable[ObjectT]]) -> ObjectT:
        """Make a request that reads; what Stripe refuses to show is unknown."""
        try:
            return await self._request(call)
        except stripe.StripeError as error:
            raise _unexpected(error) from error

    async def _post(self, call: Callable[..., Awaitable[ObjectT]], key: str = "") -> ObjectT:
        """Make a request that changes something, with one key for all attempts."""
        options: stripe.RequestOptions = {"idempotency_key": key or str(uuid.uuid4())}
        return await self._request(partial(call, options=options))

    async def _request(self, call: Callable[..., Awaitable[ObjectT]]) -> ObjectT:
        """Make a request, again if its outcome is unknown.

        Raises:
            Unknown: Stripe did not respond, or failed.
            stripe.StripeError: Stripe refused the request.
        """
        return await self._attempts.repeat(partial(_attempt, call))


async def _attempt(call: Callable[[], Awaitable[ObjectT]]) -> ObjectT:
    try:
        return await call()
    except (stripe.CardError, stripe.InvalidRequestError, stripe.IdempotencyError):
        raise
    except stripe.StripeError as error:
        raise _unexpected(error) from error


def _unexpected(error: stripe.StripeError) -> Unknown:
    """Return the unknown outcome of an error that says nothing about the payment."""
    status = error.http_status or 0
    if 400 <= status < 500 and status not in (409, 429):
        _LOG.error("stripe_request_refused", status=status, code=error.code)
    message = f"Stripe's response was {status or 'lost'}."
    replayed = "idempotent-replayed" in (error.headers or {})
    return _ReplayedError(message) if replayed else Unknown(message)


def _read_refused(error: stripe.CardError | stripe.InvalidRequestError) -> ChargeResult:
    """Return the state of an intent whose status did not allow a request: the error has it.

    https://docs.stripe.com/error-codes#payment-intent-unexpected-state
    """
    intent: stripe.PaymentIntent | None = getattr(error.error, "payment_intent", None)
    if intent is None:
        raise _unexpected(error) from error
    return to_result(intent)
