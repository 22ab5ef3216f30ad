"""Refunds keep the bounds and states that Stripe documents."""

from typing import Any

from tools.fakes.stripe.testing import RunningFake

Object = dict[str, Any]

pytest_plugins = ("tools.fakes.stripe.testing",)

REFUNDS = "/v1/refunds"


def charge(fake: RunningFake, method: str = "pm_card_visa", **parameters: str) -> str:
    given = {"amount": "1000", "currency": "gbp", "payment_method": method, "confirm": "true"}
    response = fake.client.post("/v1/payment_intents", data={**given, **parameters})
    return str(response.json()["id"])


def refund(fake: RunningFake, intent: str, **parameters: str) -> tuple[int, Object]:
    response = fake.client.post(REFUNDS, data={"payment_intent": intent, **parameters})
    return response.status_code, response.json()


def read_charge(fake: RunningFake, intent: str) -> Object:
    query = {"expand[0]": "latest_charge"}
    found: Object = fake.client.get(f"/v1/payment_intents/{intent}", params=query).json()
    return dict(found["latest_charge"])


def test_a_charge_is_refunded_in_parts_up_to_its_amount(stripe_fake: RunningFake) -> None:
    intent = charge(stripe_fake)
    given = {"amount": "400", "reason": "requested_by_customer", "metadata[number]": "1"}
    status, first = refund(stripe_fake, intent, **given)
    assert (status, first["status"], first["amount"]) == (200, "succeeded", 400)
    assert (first["reason"], first["metadata"]) == ("requested_by_customer", {"number": "1"})
    status, body = refund(stripe_fake, intent, amount="601")
    assert (status, body["error"]["param"]) == (400, "amount")
    assert refund(stripe_fake, intent)[1]["amount"] == 600
    status, body = refund(stripe_fake, intent, amount="1")
    assert (status, body["error"]["code"]) == (400, "charge_already_refunded")
    assert read_charge(stripe_fake, intent)["amount_refunded"] == 1000


def test_what_was_not_captured_is_not_refunded(stripe_fake: RunningFake) -> None:
    intent = charge(stripe_fake, capture_method="manual")
    assert refund(stripe_fake, intent)[0] == 400
    stripe_fake.client.post(
        f"/v1/payment_intents/{intent}/capture", data={"amount_to_capture": 400}
    )
    assert refund(stripe_fake, intent, amount="401")[0] == 400
    assert refund(stripe_fake, intent, amount="400")[0] == 200


def test_refunds_of_an_intent_are_listed_newest_first(stripe_fake: RunningFake) -> None:
    intent, other = charge(stripe_fake), charge(stripe_fake)
    created = [refund(stripe_fake, intent, amount="10")[1]["id"] for _ in range(3)]
    refund(stripe_fake, other)
    query = {"payment_intent": intent, "limit": "2"}
    page = stripe_fake.client.get(REFUNDS, params=query).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (created[:0:-1], True)
    query |= {"starting_after": created[1]}
    page = stripe_fake.client.get(REFUNDS, params=query).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (created[:1], False)
    assert len(stripe_fake.list_all(REFUNDS)) == 4


def test_a_pending_refund_counts_until_it_fails(stripe_fake: RunningFake) -> None:
    intent = charge(stripe_fake, "pm_card_pendingRefund")
    status, pending = refund(stripe_fake, intent, amount="1000")
    assert (status, pending["status"]) == (200, "pending")
    assert refund(stripe_fake, intent, amount="1")[0] == 400
    path = f"/_fake/refunds/{pending['id']}"
    assert stripe_fake.client.post(path, data={"status": "failed"}).json()["status"] == "failed"
    assert stripe_fake.client.post(path, data={"status": "succeeded"}).json()["status"] == "failed"
    assert refund(stripe_fake, intent, amount="1000")[0] == 200


def test_a_refund_can_fail_after_it_succeeded(stripe_fake: RunningFake) -> None:
    intent = charge(stripe_fake)
    made = refund(stripe_fake, intent, amount="1000")[1]
    path = f"/_fake/refunds/{made['id']}"
    assert stripe_fake.client.post(path, data={"status": "failed"}).json()["status"] == "failed"
    assert read_charge(stripe_fake, intent)["amount_refunded"] == 0


def test_an_unknown_reason_is_refused(stripe_fake: RunningFake) -> None:
    assert refund(stripe_fake, charge(stripe_fake), reason="broken")[0] == 400
    assert stripe_fake.list_all(REFUNDS) == []
