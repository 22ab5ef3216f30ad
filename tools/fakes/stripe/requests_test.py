"""Secret keys, idempotency keys and parameters are handled as Stripe documents."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tools.fakes.faults import Kind, Rule
from tools.fakes.serving import serve_in_thread
from tools.fakes.stripe.app import API_KEY, Fake, create_app
from tools.fakes.stripe.idempotency_keys import IdempotencyKeys
from tools.fakes.stripe.testing import Stripe

pytest_plugins = ("tools.fakes.stripe.testing",)

INTENTS = "/v1/payment_intents"
AMOUNT = {"amount": "1000", "currency": "gbp"}


def post(
    fake: Stripe, key: str, parameters: dict[str, str] = AMOUNT, path: str = INTENTS
) -> httpx.Response:
    return fake.client.post(path, data=parameters, headers={"idempotency-key": key})


@pytest.mark.parametrize("authorization", ["", "Bearer sk_test_other", "Basic Og==", "Basic !"])
def test_a_request_without_the_secret_key_is_unauthorized(
    stripe: Stripe, authorization: str
) -> None:
    response = stripe.client.post(INTENTS, data=AMOUNT, headers={"authorization": authorization})
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert API_KEY not in response.text
    assert stripe.list_all(INTENTS) == []


def test_the_secret_key_may_be_the_user_of_basic_authentication(stripe: Stripe) -> None:
    response = httpx.post(f"{stripe.url}{INTENTS}", data=AMOUNT, auth=(API_KEY, ""))
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"currency": "gbp"}, "parameter_missing"),
        ({"amount": "1000"}, "parameter_missing"),
        ({**AMOUNT, "colour": "red"}, "parameter_unknown"),
    ],
)
def test_bad_parameters_are_refused(stripe: Stripe, parameters: dict[str, str], code: str) -> None:
    response = stripe.client.post(INTENTS, data=parameters)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


def test_a_repeated_key_replays_the_first_response(stripe: Stripe) -> None:
    first, second = post(stripe, "a"), post(stripe, "a")
    assert (first.content, first.status_code) == (second.content, second.status_code)
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert len(stripe.list_all(INTENTS)) == 1


def test_a_repeated_key_replays_an_error(stripe: Stripe) -> None:
    intent = post(stripe, "a").json()["id"]
    decline = {"payment_method": "pm_card_chargeDeclined"}
    first = post(stripe, "b", decline, f"{INTENTS}/{intent}/confirm")
    stripe.client.post(f"{INTENTS}/{intent}/confirm", data={"payment_method": "pm_card_visa"})
    second = post(stripe, "b", decline, f"{INTENTS}/{intent}/confirm")
    assert (second.status_code, second.content) == (402, first.content)
    assert second.headers["idempotent-replayed"] == "true"


def test_a_failure_while_a_request_is_executed_is_replayed(stripe: Stripe) -> None:
    stripe.broken_keys.add("a")
    assert post(stripe, "a").status_code == 500
    stripe.broken_keys.clear()
    again = post(stripe, "a")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (500, "true")
    assert post(stripe, "b").status_code == 200


def test_a_request_that_was_not_executed_does_not_use_its_key(stripe: Stripe) -> None:
    assert post(stripe, "a", {"amount": "1", "currency": "gbp"}).status_code == 400
    assert post(stripe, "a").status_code == 200


@pytest.mark.parametrize(
    ("parameters", "path"),
    [({**AMOUNT, "amount": "2000"}, INTENTS), (AMOUNT, "/v1/refunds")],
)
def test_a_key_of_another_request_is_refused(
    stripe: Stripe, parameters: dict[str, str], path: str
) -> None:
    post(stripe, "a")
    response = post(stripe, "a", parameters, path)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "idempotency_error")


def test_a_key_in_use_is_a_conflict() -> None:
    fake = Fake(processing_seconds=0.5)
    with (
        serve_in_thread(create_app(fake)) as url,
        httpx.Client(base_url=url, auth=(API_KEY, ""), timeout=30) as client,
        ThreadPoolExecutor() as threads,
    ):
        running = Stripe(fake, url, client)
        responses = list(threads.map(lambda _: post(running, "a"), range(2)))
        assert sorted(each.status_code for each in responses) == [200, 409]
        (conflict,) = (each.json()["error"] for each in responses if each.status_code == 409)
        assert conflict["code"] == "idempotency_key_in_use"
        assert post(running, "a").headers["idempotent-replayed"] == "true"


def test_expired_keys_make_new_objects(stripe: Stripe) -> None:
    post(stripe, "a")
    assert stripe.client.delete("/_fake/idempotency_keys").status_code == 204
    assert "idempotent-replayed" not in post(stripe, "a").headers
    assert len(stripe.list_all(INTENTS)) == 2


def test_the_memory_of_the_fake_is_bounded(stripe: Stripe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.fakes.stripe.idempotency_keys.MAX_KEYS", 1)
    monkeypatch.setattr("tools.fakes.stripe.books.MAX_OBJECTS", 2)
    assert post(stripe, "a").status_code == 200
    assert post(stripe, "b").status_code == 500
    statuses = [stripe.client.post(INTENTS, data=AMOUNT).status_code for _ in range(2)]
    assert statuses == [200, 500]


def test_a_key_expires_after_24_hours() -> None:
    now = 0.0
    keys = IdempotencyKeys(now=lambda: now)
    keys.begin("a", "request")
    keys.save("a", 200, b"{}")
    now = 24 * 60 * 60 - 1.0
    assert keys.begin("a", "request") == (200, b"{}")
    now += 1
    assert keys.begin("a", "another request") is None


def test_a_response_that_is_lost_is_replayed(stripe: Stripe) -> None:
    stripe.faults.set(Rule(Kind.LOSE_RESPONSE, f"POST {INTENTS}", nth=1))
    with pytest.raises(httpx.TransportError):
        post(stripe, "a")
    assert post(stripe, "a").headers["idempotent-replayed"] == "true"
    assert len(stripe.list_all(INTENTS)) == 1
