"""The adapter of PayPal: Orders v2 with the intent AUTHORIZE, and Payments v2.

An intent is an order of PayPal. The payer approves it on a page of PayPal; then it is authorized,
which holds the money, and the hold is captured or voided. The token of the payment method is
ignored.

An order that is approved cannot be cancelled: until it expires, a call that comes late can still
hold its money. So its cancellation is not final, and is repeated for some hours. Such a late call
charges nothing, because only a stored hold is ever captured.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from pydantic import SecretStr

from services.payment.domain import ChargeResult, RefundResult, RefundState, State
from services.payment.providers.attempts import Attempts, Unknown
from services.payment.providers.paypal_client import Json, PayPalClient, Refused
from services.payment.providers.paypal_resources import (
    CAPTURES,
    Capture,
    Created,
    Order,
    Refund,
    make_money,
    parse,
)
from services.payment.providers.paypal_webhooks import PayPalWebhooks
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    Intent,
    IntentRequest,
    Notification,
    RefundRequest,
)

ORDERS = "/v2/checkout/orders"
AUTHORIZATIONS = "/v2/payments/authorizations"

_UNKNOWN = ChargeResult(State.PROCESSING)
_GONE = ChargeResult(State.CANCELLED)
"""An order that PayPal does not know any more was not paid in time."""
_PENDING = RefundResult(RefundState.PENDING)
_FAILED = RefundResult(RefundState.FAILED)


class PayPalProvider:
    """PayPal, at `url`. Payers are sent back to `return_url`, whether they approve or cancel."""

    name = "paypal"
    cancellation_is_final = False

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: SecretStr,
        *,
        webhook_id: str,
        return_url: str,
    ) -> None:
        self._client = PayPalClient(url, client_id, client_secret)
        self._attempts = Attempts()
        self._webhooks = PayPalWebhooks(self._client, self._attempts, webhook_id)
        self._return_url = return_url

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[Intent | None]:
        """Create orders; a repeated key returns the same order for 6 hours."""
        return await self._attempts.for_each(requests, self._create, None)

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
        """Read orders: only their payers confirm them."""
        return await self.find([each.reference for each in confirmations])

    async def find(self, references: Sequence[str]) -> list[ChargeResult]:
        """Read orders."""
        return await self._attempts.for_each(references, self._find, _UNKNOWN)

    async def authorize(self, references: Sequence[str]) -> list[str]:
        """Hold the money of approved orders; a payer whose funds are declined has to act again."""
        return await self._attempts.for_each(references, self._authorize, "")

    async def capture(self, authorizations: Sequence[Authorization]) -> list[ChargeResult]:
        """Capture holds; one that cannot be captured is voided, and then DECLINED."""
        return await self._attempts.for_each(authorizations, self._capture, _UNKNOWN)

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        """Void all holds of orders, and believe PayPal if an order was captured."""
        return await self._attempts.for_each(references, self._cancel, _UNKNOWN)

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
        """Refund captures; the refunds of an order are known by their invoice ids, the keys."""
        return await self._attempts.for_each(requests, self._refund, _PENDING)

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """Let PayPal verify a webhook, and parse it."""
        return await self._webhooks.read(headers, body)

    async def _create(self, request: IntentRequest) -> Intent:
        money = make_money(request.amount)
        if money is None:
            return Intent("", "amount_not_supported")
        body = self._make_order(request.order_id, money)
        try:
            created = await self._post(ORDERS, body, request.key)
        except Refused as refused:
            return Intent("", refused.issue.lower())
        return Intent(parse(Created, created).id)

    def _make_order(self, order_id: str, money: Json) -> Json:
        context = {
            "return_url": self._return_url,
            "cancel_url": self._return_url,
            "user_action": "PAY_NOW",
            "shipping_preference": "NO_SHIPPING",
        }
        unit = {"amount": money, "custom_id": order_id, "invoice_id": order_id}
        return {
            "intent": "AUTHORIZE",
            "purchase_units": [unit],
            "payment_source": {"paypal": {"experience_context": context}},
        }

    async def _find(self, reference: str) -> ChargeResult:
        order = await self._get_order(reference)
        return _GONE if order is None else order.to_result()

    async def _authorize(self, reference: str) -> str:
        path = f"{ORDERS}/{reference}/authorize"
        try:
            order = parse(Order, await self._post(path, {}, f"authorize:{reference}"))
        except Refused:
            found = await self._get_order(reference)
            return "" if found is None else found.find_hold()
        return order.find_hold()

    async def _capture(self, held: Authorization) -> ChargeResult:
        path = f"{AUTHORIZATIONS}/{held.hold}/capture"
        reason = "capture_declined"
        try:
            made = await self._post(path, {"final_capture": True}, f"capture:{held.hold}")
        except Refused as refused:
            if refused.status != 422:
                return await self._find(held.reference)
            reason = refused.issue.lower()
        else:
            capture = parse(Capture, made)
            if capture.is_charged:
                return capture.to_result()
        return await self._decline(held.reference, reason)

    async def _decline(self, reference: str, reason: str) -> ChargeResult:
        """Release a hold that could not be captured; it may have been before."""
        result = await self._find(reference)
        if result.state is State.REQUIRES_CAPTURE:
            result = await self._cancel(reference)
            if result.state in (State.CANCELLED, State.DECLINED):
                return replace(result, state=State.DECLINED, decline_reason=reason)
        return result

    async def _cancel(self, reference: str) -> ChargeResult:
        order = await self._get_order(reference)
        for hold in order.holds if order else ():
            await self._void(hold)
        if order and order.holds:
            order = await self._get_order(reference)
        if order is None:
            return _GONE
        result = order.to_result()
        if result.state in (State.REQUIRES_ACTION, State.REQUIRES_CAPTURE):
            state = State.PROCESSING if order.holds else State.CANCELLED
            return ChargeResult(state, amount=result.amount)
        return result

    async def _void(self, authorization: str) -> None:
        """Release a hold. What became of it is read from the order."""
        path = f"{AUTHORIZATIONS}/{authorization}/void"
        with contextlib.suppress(Refused):
            await self._post(path, {}, f"void:{authorization}")

    async def _refund(self, request: RefundRequest) -> RefundResult:
        # Each attempt looks again, because the key may have expired since the attempt before.
        return await self._attempts.repeat(partial(self._refund_once, request))

    async def _refund_once(self, request: RefundRequest) -> RefundResult:
        order = await self._get_order_once(request.reference)
        if order is None:
            raise Unknown("PayPal does not know an order that was charged.")
        capture, money = order.find_capture(), make_money(request.amount)
        if capture is None or money is None:
            return _FAILED
        if found := order.find_refund(request.key):
            return found.to_result()
        body = {"amount": money, "invoice_id": request.key}
        try:
            made = await self._client.post(f"{CAPTURES}/{capture.id}/refund", body, request.key)
        except Refused:
            # The same request, sent twice by the network, may have left too little.
            order = await self._get_order_once(request.reference)
            again = order and order.find_refund(request.key)
            return again.to_result() if again else _FAILED
        return parse(Refund, made).to_result()

    async def _get_order(self, reference: str) -> Order | None:
        """Read an order, or return None if PayPal does not know it any more."""
        return await self._attempts.repeat(partial(self._get_order_once, reference))

    async def _get_order_once(self, reference: str) -> Order | None:
        try:
            return parse(Order, await self._client.get(f"{ORDERS}/{reference}"))
        except Refused as refused:
            if refused.is_missing:
                return None
            raise Unknown(f"PayPal does not show an order: {refused}") from refused

    async def _post(self, path: str, body: Json, request_id: str) -> Json:
        return await self._attempts.repeat(partial(self._client.post, path, body, request_id))
