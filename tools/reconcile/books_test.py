"""The books of Stripe and PayPal, read from their fakes."""

from services.payment.settings import PaymentSettings
from tools.fakes.paypal import app as paypal_app
from tools.fakes.paypal.testing import PayPal
from tools.fakes.stripe import app as stripe_app
from tools.fakes.stripe.testing import Stripe
from tools.reconcile.books import PAGE_ITEMS, PayPalBooks, StripeBooks, open_books, sorted_rows

pytest_plugins = ("tools.fakes.paypal.testing", "tools.fakes.stripe.testing")


def make_settings(**values: object) -> PaymentSettings:
    both = {
        "paymentservice_providers": "stripe,paypal",
        "paymentservice_stripe_api_key": stripe_app.API_KEY,
        "paymentservice_stripe_webhook_secret": stripe_app.WEBHOOK_SECRET,
        "paymentservice_paypal_client_id": paypal_app.CLIENT_ID,
        "paymentservice_paypal_client_secret": paypal_app.CLIENT_SECRET,
        "paymentservice_paypal_webhook_id": paypal_app.WEBHOOK_ID,
        "bazaar_environment": "development",
    }
    return PaymentSettings.model_validate(both | values)


def make_intent(stripe: Stripe, capture_method: str = "automatic") -> str:
    intent = {
        "amount": "1234",
        "currency": "gbp",
        "capture_method": capture_method,
        "payment_method": "pm_card_visa",
        "confirm": "true",
    }
    response = stripe.client.post("/v1/payment_intents", data=intent)
    return str(response.raise_for_status().json()["id"])


def test_the_books_of_stripe_have_every_page(stripe: Stripe) -> None:
    charged = [make_intent(stripe) for _ in range(PAGE_ITEMS + 1)]
    held = make_intent(stripe, "manual")
    refund = {"payment_intent": charged[0], "amount": "34"}
    stripe.client.post("/v1/refunds", data=refund).raise_for_status()
    config = make_settings(paymentservice_stripe_api_url=stripe.url)
    rows = dict(sorted_rows(StripeBooks(config).read([])))
    assert list(rows) == sorted(rows)
    assert rows.pop(charged[0]) == "1234 charged, 34 refunded, 0 held"
    assert rows.pop(held) == "0 charged, 0 refunded, 1234 held"
    assert rows == dict.fromkeys(charged[1:], "1234 charged, 0 refunded, 0 held")


def test_the_books_of_paypal_are_those_of_the_orders_of_the_shop(paypal: PayPal) -> None:
    unit = {"amount": {"currency_code": "GBP", "value": "12.34"}}
    order = {"intent": "AUTHORIZE", "purchase_units": [unit]}
    ids = [paypal.post("/v2/checkout/orders", order).json()["id"] for _ in range(3)]
    captured, held, _ = ids
    authorizations = {}
    for order_id in (captured, held):
        paypal.act(order_id)
        authorized = paypal.post(f"/v2/checkout/orders/{order_id}/authorize").json()
        payments = authorized["purchase_units"][0]["payments"]
        authorizations[order_id] = payments["authorizations"][0]["id"]
    capture = paypal.post(f"/v2/payments/authorizations/{authorizations[captured]}/capture").json()
    amount = {"amount": {"currency_code": "GBP", "value": "0.34"}}
    paypal.post(f"/v2/payments/captures/{capture['id']}/refund", amount).raise_for_status()
    config = make_settings(paymentservice_paypal_api_url=paypal.url)
    rows = dict(sorted_rows(PayPalBooks(config).read([*ids, "5O190127TN364715T"])))
    assert rows == {
        captured: "1234 charged, 34 refunded, 0 held",
        held: "0 charged, 0 refunded, 1234 held",
    }


def test_what_was_charged_twice_is_summed_up() -> None:
    entries = [("a", "charged", 5), ("a", "charged", 5), ("b", "charged", 0)]
    assert list(sorted_rows(entries)) == [("a", "10 charged, 0 refunded, 0 held")]


def test_the_books_of_the_providers_that_are_on_are_opened() -> None:
    assert set(open_books(make_settings())) == {"stripe", "paypal"}
    assert not open_books(make_settings(paymentservice_providers="sandbox"))
