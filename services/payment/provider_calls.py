"""Calls to one provider for a batch of charges or payments, in the terms of the domain.

Only a stored intent is ever confirmed, and only a stored hold is ever captured.
"""

import uuid
from collections.abc import Mapping, Sequence

from services.payment import domain
from services.payment.domain import Charge, ChargeResult, NewPayment, Payment
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    IntentRequest,
    Provider,
)


async def create_intents(provider: Provider, charges: Sequence[Charge]) -> list[NewPayment]:
    """Create intents; return the payments to insert, without those whose intents are not known."""
    requests = [
        IntentRequest(
            f"pi:{charge.order_id}", str(charge.order_id), charge.amount, charge.manual_capture
        )
        for charge in charges
    ]
    intents = await provider.create_intents(requests)
    return [
        domain.begin_payment(charge, provider.name, intent.reference)
        if intent.reference
        else domain.decline(charge, provider.name, intent.decline_reason)
        for charge, intent in zip(charges, intents, strict=True)
        if intent is not None
    ]


async def confirm(
    provider: Provider, payments: Sequence[Payment], methods: Mapping[uuid.UUID, str]
) -> Sequence[ChargeResult]:
    """Confirm the intents of payments with the payment methods of their orders."""
    return await provider.confirm(
        [Confirmation(each.provider_reference, methods[each.order_id]) for each in payments]
    )


async def authorize(provider: Provider, payments: Sequence[Payment]) -> dict[uuid.UUID, str]:
    """Hold the money of approved payments; return the references by order id, or "" for none."""
    found = await provider.authorize([each.provider_reference for each in payments])
    return dict(zip((each.order_id for each in payments), found, strict=True))


async def capture(provider: Provider, payments: Sequence[Payment]) -> Sequence[ChargeResult]:
    """Capture the stored holds of payments; a payment without one is its own hold."""
    return await provider.capture(
        [
            Authorization(
                each.provider_reference, each.authorization_reference or each.provider_reference
            )
            for each in payments
        ]
    )


async def cancel(provider: Provider, payments: Sequence[Payment]) -> Sequence[ChargeResult]:
    """Cancel the intents of payments."""
    return await provider.cancel([each.provider_reference for each in payments])
