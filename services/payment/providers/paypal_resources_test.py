"""What PayPal's resources mean for a payment, and how amounts are written."""

from typing import Any

import pytest
from pydantic import ValidationError

from chassis.money import Amount
from services.payment.domain import Action, ChargeResult, RefundResult, RefundState, State
from services.payment.providers.paypal_resources import Money, Order, Refund, make_money

USD_10 = {"currency_code": "USD", "value": "10.00"}
AMOUNT = Amount(10_00, "USD")


def make_order(
    status: str = "COMPLETED",
    holds: tuple[str, ...] = (),
    captures: tuple[str, ...] = (),
    **fields: Any,
) -> Order:
    payments = {
        "authorizations": [{"id": f"A{n}", "status": hold} for n, hold in enumerate(holds)],
        "captures": [
            {"id": f"C{n}", "status": capture, "amount": USD_10}
            for n, capture in enumerate(captures)
        ],
    }
    unit = {"amount": USD_10, "payments": payments}
    return Order.model_validate({"id": "O", "status": status, "purchase_units": [unit], **fields})


@pytest.mark.parametrize("rel", ["payer-action", "approve"])
@pytest.mark.parametrize("status", ["CREATED", "PAYER_ACTION_REQUIRED"])
def test_an_order_that_is_not_approved_asks_for_its_payer(status: str, rel: str) -> None:
    links = [{"rel": "self", "href": "/self"}, {"rel": rel, "href": "/page"}]
    action = Action(redirect_url="/page")
    result = make_order(status, links=links).to_result()
    assert result == ChargeResult(State.REQUIRES_ACTION, "", action, AMOUNT)


@pytest.mark.parametrize(
    ("status", "holds", "captures", "state"),
    [
        ("APPROVED", (), (), State.REQUIRES_CAPTURE),
        ("VOIDED", (), (), State.CANCELLED),
        ("COMPLETED", (), (), State.PROCESSING),
        ("UNHEARD_OF", (), (), State.PROCESSING),
        ("COMPLETED", ("CREATED",), (), State.REQUIRES_CAPTURE),
        ("COMPLETED", ("PENDING",), (), State.PROCESSING),
        ("COMPLETED", ("UNHEARD_OF",), (), State.PROCESSING),
        ("COMPLETED", ("VOIDED",), (), State.CANCELLED),
        ("VOIDED", ("VOIDED",), (), State.CANCELLED),
        ("COMPLETED", ("EXPIRED",), (), State.CANCELLED),
        ("COMPLETED", ("DENIED",), (), State.DECLINED),
        ("COMPLETED", ("DENIED", "CREATED"), (), State.REQUIRES_CAPTURE),
        ("COMPLETED", ("CAPTURED",), (), State.PROCESSING),
        ("COMPLETED", ("CAPTURED",), ("COMPLETED",), State.SUCCEEDED),
        ("COMPLETED", ("CAPTURED",), ("PARTIALLY_REFUNDED",), State.SUCCEEDED),
        ("COMPLETED", ("CAPTURED",), ("REFUNDED",), State.SUCCEEDED),
        ("COMPLETED", ("CAPTURED",), ("PENDING",), State.PROCESSING),
        ("COMPLETED", ("CREATED",), ("PENDING",), State.PROCESSING),
        ("COMPLETED", ("VOIDED",), ("PENDING",), State.PROCESSING),
        ("COMPLETED", ("CREATED",), ("DECLINED",), State.REQUIRES_CAPTURE),
        ("COMPLETED", ("VOIDED",), ("DECLINED",), State.DECLINED),
        ("VOIDED", ("VOIDED",), ("DECLINED", "COMPLETED"), State.SUCCEEDED),
    ],
)
def test_an_order_is_final_only_when_nothing_can_be_charged_any_more(
    status: str, holds: tuple[str, ...], captures: tuple[str, ...], state: State
) -> None:
    result = make_order(status, holds, captures).to_result()
    assert (result.state, result.amount) == (state, AMOUNT)


@pytest.mark.parametrize(
    ("holds", "hold"),
    [((), ""), (("CREATED",), "A0"), (("CREATED", "DENIED"), "A0"), (("DENIED", "VOIDED"), "A1")],
)
def test_the_hold_to_capture_is_one_that_holds_money(holds: tuple[str, ...], hold: str) -> None:
    assert make_order(holds=holds).find_hold() == hold


@pytest.mark.parametrize(
    ("status", "result"),
    [
        ("COMPLETED", RefundResult(RefundState.SUCCEEDED, "R")),
        ("PENDING", RefundResult(RefundState.PENDING)),
        ("UNHEARD_OF", RefundResult(RefundState.PENDING)),
        ("FAILED", RefundResult(RefundState.FAILED)),
        ("CANCELLED", RefundResult(RefundState.FAILED)),
    ],
)
def test_a_refund_is_final_only_if_paypal_says_so(status: str, result: RefundResult) -> None:
    assert Refund(id="R", status=status).to_result() == result


@pytest.mark.parametrize(
    ("amount", "value"),
    [
        (Amount(10_05, "USD"), "10.05"),
        (Amount(5, "EUR"), "0.05"),
        (Amount(700, "JPY"), "700"),
        (Amount(700_00, "HUF"), "700"),
        (Amount(700_00, "TWD"), "700"),
        (Amount(1_230, "KWD"), "1.23"),
    ],
)
def test_amounts_have_the_decimals_of_paypal(amount: Amount, value: str) -> None:
    money = make_money(amount)
    assert money == {"currency_code": amount.currency_code, "value": value}
    assert Money.model_validate(money).to_amount() == amount


@pytest.mark.parametrize(
    "amount", [Amount(700_50, "HUF"), Amount(700_01, "TWD"), Amount(1_235, "KWD")]
)
def test_amounts_that_paypal_cannot_write_are_not_rounded(amount: Amount) -> None:
    assert make_money(amount) is None


@pytest.mark.parametrize(
    "money",
    [
        {"currency_code": "USD", "value": "10.001"},
        {"currency_code": "USD", "value": "NaN"},
        {"currency_code": "USD", "value": "Infinity"},
        {"currency_code": "XXX", "value": "10.00"},
        {"currency_code": "USD", "value": "ten"},
    ],
)
def test_amounts_that_are_none_are_refused(money: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Money.model_validate(money)


def test_errors_do_not_show_what_paypal_sent() -> None:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"id": "O", "payer": "jo@example.com", "purchase_units": "jo"})
    assert "jo" not in str(caught.value)
