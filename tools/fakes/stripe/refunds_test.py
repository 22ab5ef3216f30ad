"""Refunds keep the bounds and states that Stripe documents."""

from typing import Any

from tools.fakes.stripe.testing import Stripe

Object = dict[str, Any]

pytest_plugins = ("tools.fakes.stripe.testing",)

REFUNDS = "/v1/refunds"


def charge(fake: Stripe, method: str = "pm_card_visa", **parameters: str) -> str:
    given = {"amount": "1000", "currency": "gbp", "payment_method": method, "confirm": "true"}
    response = fake.client.post("/v1/payment_intents", data={**given, **parameters})
    return str(response.json()["id"])


def refund(fake: Stripe, intent: str, **parameters: str) -> tuple[int, Object]:
    response = fake.client.post(REFUNDS, data={"payment_intent": intent, **parameters})
    return response.status_code, response.json()


def read_charge(fake: Stripe, intent: str) -> Object:
    query = {"expand[0]": "latest_charge"}
    found: Object = fake.client.get(f"/v1/payment_intents/{intent}", params=query).json()
    return dict(found["latest_charge"])


def test_a_charge_is_refunded_in_parts_up_to_its_amount(stripe: Stripe) -> None:
    intent = charge(stripe)
    given = {"amount": "400", "reason": "requested_by_customer", "metadata[number]": "1"}
    status, first = refund(stripe, intent, **given)
    assert (status, first["status"], first["amount"]) == (200, "succeeded", 400)
    assert (first["reason"], first["metadata"]) == ("requested_by_customer", {"number": "1"})
    status, body = refund(stripe, intent, amount="601")
    assert (status, body["error"]["param"]) == (400, "amount")
    assert refund(stripe, intent)[1]["amount"] == 600
    status, body = refund(stripe, intent, amount="1")
    assert (status, body["error"]["code"]) == (400, "charge_already_refunded")
    assert read_charge(stripe, intent)["amount_refunded"] == 1000


def test_what_was_not_captured_is_not_refunded(stripe: Stripe) -> None:
    intent = charge(stripe, capture_method="manual")
    assert refund(stripe, intent)[0] == 400
    stripe.client.post(f"/v1/payment_intents/{intent}/capture", data={"amount_to_capture": 400})
    assert refund(stripe, intent, amount="401")[0] == 400
    assert refund(stripe, intent, amount="400")[0] == 200


def test_refunds_of_an_intent_are_listed_newest_first(stripe: Stripe) -> None:
    intent, other = charge(stripe), charge(stripe)
    created = [refund(stripe, intent, amount="10")[1]["id"] for _ in range(3)]
    refund(stripe, other)
    query = {"payment_intent": intent, "limit": "2"}
    page = stripe.client.get(REFUNDS, params=query).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (created[:0:-1], True)
    query |= {"starting_after": created[1]}
    page = stripe.client.get(REFUNDS, params=query).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (created[:1], False)
    assert len(stripe.list_all(REFUNDS)) == 4


def test_a_pending_refund_counts_until_it_fails(stripe: Stripe) -> None:
    intent = charge(stripe, "pm_card_pendingRefund")
    status, pending = refund(stripe, intent, amount="1000")
    assert (status, pending["status"]) == (200, "pending")
    assert refund(stripe, intent, amount="1")[0] == 400
    assert stripe.settle_refund(pending["id"], "failed").json()["status"] == "failed"
    assert stripe.settle_refund(pending["id"], "succeeded").json()["status"] == "failed"
    assert refund(stripe, intent, amount="1000")[0] == 200


def test_a_refund_can_fail_after_it_succeeded(stripe: Stripe) -> None:
    intent = charge(stripe)
    made = refund(stripe, intent, amount="1000")[1]
    assert stripe.settle_refund(made["id"], "failed").json()["status"] == "failed"
    assert read_charge(stripe, intent)["amount_refunded"] == 0


def test_an_unknown_reason_is_refused(stripe: Stripe) -> None:
    assert refund(stripe, charge(stripe), reason="broken")[0] == 400
    assert stripe.list_all(REFUNDS) == []
