"""PaymentIntents keep the states and amounts that Stripe documents."""

from typing import Any

import pytest

from tools.fakes.stripe.testing import Stripe

Object = dict[str, Any]

pytest_plugins = ("tools.fakes.stripe.testing",)

INTENTS = "/v1/payment_intents"
UNEXPECTED = "payment_intent_unexpected_state"
DECLINED = "pm_card_chargeDeclined"
AUTHENTICATED = "pm_card_threeDSecure2Required"


def create(fake: Stripe, **parameters: str) -> Object:
    given = {"amount": "1000", "currency": "gbp", **parameters}
    response = fake.client.post(INTENTS, data=given)
    assert response.status_code == 200, response.text
    return dict(response.json())


def act(fake: Stripe, intent: Object, action: str, **parameters: str) -> tuple[int, Object]:
    response = fake.client.post(f"{INTENTS}/{intent['id']}/{action}", data=parameters)
    return response.status_code, response.json()


def confirm(fake: Stripe, intent: Object, method: str = "pm_card_visa") -> Object:
    status, confirmed = act(
        fake, intent, "confirm", payment_method=method, return_url="https://shop.example/back"
    )
    assert status == 200, confirmed
    return confirmed


def retrieve(fake: Stripe, intent: Object) -> Object:
    return dict(fake.client.get(f"{INTENTS}/{intent['id']}").json())


def in_status(fake: Stripe, status: str) -> Object:
    """Make an intent that has a status."""
    if status == "requires_payment_method":
        return create(fake)
    if status == "requires_confirmation":
        return create(fake, payment_method="pm_card_visa")
    if status == "canceled":
        return act(fake, create(fake), "cancel")[1]
    capture_method = "manual" if status == "requires_capture" else "automatic"
    method = {"requires_action": AUTHENTICATED, "processing": "pm_usBankAccount_processing"}
    intent = create(fake, capture_method=capture_method)
    return confirm(fake, intent, method.get(status, "pm_card_visa"))


STATUSES = [
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "processing",
    "requires_capture",
    "succeeded",
    "canceled",
]


@pytest.mark.parametrize("status", STATUSES)
def test_every_documented_status_is_reached(stripe: Stripe, status: str) -> None:
    intent = in_status(stripe, status)
    assert retrieve(stripe, intent) == intent
    assert intent["status"] == status


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("confirm", STATUSES[:3]),
        ("capture", ["requires_capture"]),
        ("cancel", [*STATUSES[:3], "requires_capture"]),
    ],
)
def test_an_action_in_another_status_is_refused_with_the_intent(
    stripe: Stripe, action: str, allowed: list[str], status: str
) -> None:
    intent = in_status(stripe, status)
    parameters = {"payment_method": "pm_card_visa"} if action == "confirm" else {}
    code, body = act(stripe, intent, action, **parameters)
    assert (code == 200) == (status in allowed)
    if code != 200:
        assert code == 400
        assert body["error"]["code"] == UNEXPECTED
        assert body["error"]["payment_intent"] == intent == retrieve(stripe, intent)


def test_a_succeeded_intent_received_its_amount(stripe: Stripe) -> None:
    confirmed = confirm(stripe, create(stripe, **{"metadata[order_id]": "7"}))
    assert (confirmed["amount_received"], confirmed["metadata"]) == (1000, {"order_id": "7"})
    assert confirmed["latest_charge"].startswith("ch_")


def test_an_authorized_intent_receives_what_is_captured(stripe: Stripe) -> None:
    intent = confirm(stripe, create(stripe, capture_method="manual"))
    assert (intent["amount_capturable"], intent["amount_received"]) == (1000, 0)
    code, _ = act(stripe, intent, "capture", amount_to_capture="1001")
    assert code == 400
    code, captured = act(stripe, intent, "capture", amount_to_capture="400")
    assert (code, captured["amount_capturable"], captured["amount_received"]) == (200, 0, 400)


@pytest.mark.parametrize(
    ("method", "code", "decline_code"),
    [
        (DECLINED, "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ],
)
def test_a_declined_intent_can_still_be_paid(
    stripe: Stripe, method: str, code: str, decline_code: str
) -> None:
    intent = create(stripe)
    status, body = act(stripe, intent, "confirm", payment_method=method)
    error = body["error"]
    assert (status, error["type"]) == (402, "card_error")
    assert (error["code"], error["decline_code"]) == (code, decline_code)
    declined = retrieve(stripe, intent)
    assert error["payment_intent"] == declined
    assert (declined["status"], declined["payment_method"]) == ("requires_payment_method", None)
    assert declined["last_payment_error"]["decline_code"] == decline_code
    assert confirm(stripe, intent)["status"] == "succeeded"


def test_an_unknown_payment_method_changes_nothing(stripe: Stripe) -> None:
    intent = create(stripe)
    status, body = act(stripe, intent, "confirm", payment_method="pm_none")
    assert (status, body["error"]["code"]) == (400, "resource_missing")
    assert body["error"]["param"] == "payment_method"
    assert retrieve(stripe, intent) == intent


def test_a_method_that_may_redirect_needs_a_return_url(stripe: Stripe) -> None:
    automatic = {"automatic_payment_methods[enabled]": "true"}
    intent = create(stripe, **automatic)
    status, body = act(stripe, intent, "confirm", payment_method="pm_card_visa")
    assert (status, body["error"]["param"]) == (400, "return_url")
    never = create(stripe, **automatic, **{"automatic_payment_methods[allow_redirects]": "never"})
    assert act(stripe, never, "confirm", payment_method="pm_card_visa")[0] == 200


def test_a_customer_who_approves_pays_once(stripe: Stripe) -> None:
    intent = confirm(stripe, create(stripe), AUTHENTICATED)
    redirect = intent["next_action"]["redirect_to_url"]
    assert redirect["return_url"] == "https://shop.example/back"
    page = stripe.client.get(redirect["url"])
    assert "Approve" in page.text
    returned = stripe.client.post(redirect["url"], data={"action": "approve"})
    assert returned.status_code == 303
    assert returned.headers["location"].startswith(
        f"https://shop.example/back?payment_intent={intent['id']}&"
    )
    assert "redirect_status=succeeded" in returned.headers["location"]
    assert stripe.act(intent["id"]).status_code == 409
    paid = retrieve(stripe, intent)
    assert (paid["status"], paid["amount_received"]) == ("succeeded", 1000)


def test_an_approved_intent_with_manual_capture_is_authorized(stripe: Stripe) -> None:
    intent = confirm(stripe, create(stripe, capture_method="manual"), AUTHENTICATED)
    stripe.act(intent["id"])
    assert retrieve(stripe, intent)["status"] == "requires_capture"


def test_a_customer_who_fails_leaves_an_intent_that_can_be_paid(stripe: Stripe) -> None:
    intent = confirm(stripe, create(stripe), AUTHENTICATED)
    returned = stripe.act(intent["id"], "fail")
    assert "redirect_status=failed" in returned.headers["location"]
    failed = retrieve(stripe, intent)
    assert failed["status"] == "requires_payment_method"
    assert failed["last_payment_error"]["code"] == "payment_intent_authentication_failure"


def test_a_cancelled_intent_is_not_approved(stripe: Stripe) -> None:
    intent = confirm(stripe, create(stripe), AUTHENTICATED)
    act(stripe, intent, "cancel")
    assert stripe.act(intent["id"]).status_code == 409
    assert retrieve(stripe, intent)["status"] == "canceled"


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("29", "gbp", "amount_too_small"),
        ("0", "usd", "amount_too_small"),
        ("100000000", "gbp", "amount_too_large"),
        ("1001", "kwd", "invalid_charge_amount_no_decimal_compatible"),
        ("150", "isk", "invalid_charge_amount_no_decimal_compatible"),
        ("1000", "xyz", None),
        ("ten", "gbp", "parameter_invalid_integer"),
        ("", "gbp", "parameter_invalid_empty"),
    ],
)
def test_an_amount_that_cannot_be_charged_is_refused(
    stripe: Stripe, amount: str, currency: str, code: str | None
) -> None:
    response = stripe.client.post(INTENTS, data={"amount": amount, "currency": currency})
    assert (response.status_code, response.json()["error"].get("code")) == (400, code)
    assert stripe.list_all(INTENTS) == []


def test_intents_are_listed_newest_first_with_their_charges(stripe: Stripe) -> None:
    created = [create(stripe)["id"] for _ in range(3)]
    confirm(stripe, {"id": created[0]})
    first = stripe.client.get(INTENTS, params={"limit": "2"}).json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (created[:0:-1], True)
    query = {"starting_after": created[1], "expand[]": "data.latest_charge"}
    (last,) = stripe.client.get(INTENTS, params=query).json()["data"]
    assert (last["id"], last["latest_charge"]["amount_captured"]) == (created[0], 1000)


def test_a_missing_intent_is_not_found(stripe: Stripe) -> None:
    response = stripe.client.get(f"{INTENTS}/pi_none")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "resource_missing")
