"""Every check finds its violation, and nothing where there is none."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import aiohttp
import grpc
import pytest

from bazaar.order.v1 import order_pb2
from bazaar.product.v1 import product_pb2
from tools.chaos.accounts import Accounts
from tools.chaos.orders import PAYMENT_METHODS, Catalogue, Orders, may_be_charged
from tools.chaos.record import Finding, Findings, Record, acknowledge, check_stock
from tools.chaos.watcher import Watcher

CATALOGUE = Catalogue(
    ["u1", "u2"],
    [f"p{number}" for number in range(10)],
    [f"s{number}" for number in range(5)],
    {"p1": 5},
)
REQUESTS = Orders(7, CATALOGUE)

CONFIRMED = order_pb2.ORDER_STATE_CONFIRMED
CANCELLED = order_pb2.ORDER_STATE_CANCELLED
PAYING = order_pb2.ORDER_STATE_PAYING


def number_of(*payment_methods: str) -> int:
    """Return the number of the first order with one of the payment methods."""
    return next(
        number for number in range(1_000) if REQUESTS.make(number).payment_method in payment_methods
    )


def order(
    state: order_pb2.OrderState.ValueType = CONFIRMED,
    number: int = number_of("pm_card_visa"),
    units: int = 3,
    reason: str = "",
) -> order_pb2.Order:
    request = REQUESTS.make(number)
    made = order_pb2.Order(
        order_id=f"o{number}",
        user_id=request.user_id,
        idempotency_key=request.idempotency_key,
        state=state,
        refusal_reason=reason,
    )
    for line in request.lines:
        made.lines.add(product_id=line.product_id, quantity=line.quantity)
    made.total.units, made.total.currency_code = units, "GBP"
    return made


def check(found: Sequence[order_pb2.Order], record: Record | None = None) -> list[str]:
    """Return the names of the checks that found a violation."""
    findings: Findings = defaultdict(Finding)
    (record or Record()).check(found, REQUESTS, findings)
    return [name for name, finding in findings.items() if finding.violations]


def record_of(acknowledged: order_pb2.Order, reason: str | None = None) -> Record:
    record = Record()
    acknowledgement = acknowledge(acknowledged)
    if reason is not None:
        state = order_pb2.ORDER_STATE_UNSPECIFIED
        acknowledgement = replace(acknowledgement, state=state, reason=reason, total_minor=None)
    record.note(acknowledged.idempotency_key, acknowledgement)
    return record


def test_orders_are_the_same_whenever_they_are_made() -> None:
    again = Orders(7, CATALOGUE)
    assert [again.make(n) for n in range(50)] == [REQUESTS.make(n) for n in range(50)]
    assert REQUESTS.find("7-31") == REQUESTS.make(31)
    assert {REQUESTS.make(n).payment_method for n in range(200)} == set(PAYMENT_METHODS)


@pytest.mark.parametrize(
    ("acknowledged", "found"),
    [
        (order(CONFIRMED), order(CONFIRMED)),
        (order(CONFIRMED), order(order_pb2.ORDER_STATE_SHIPPED)),
        (order(PAYING), order(CONFIRMED)),
        (order(PAYING), order(CANCELLED)),
        (order(CANCELLED), order(CANCELLED)),
    ],
)
def test_orders_that_are_as_acknowledged_pass(
    acknowledged: order_pb2.Order, found: order_pb2.Order
) -> None:
    assert check([found], record_of(acknowledged)) == []


@pytest.mark.parametrize(
    ("acknowledged", "found"),
    [
        (order(CONFIRMED), order(CANCELLED)),
        (order(CONFIRMED), order(PAYING)),
        (order(CANCELLED), order(CONFIRMED)),
        (order(PAYING), order(CONFIRMED, units=4)),
    ],
)
def test_orders_that_contradict_an_acknowledgement_are_found(
    acknowledged: order_pb2.Order, found: order_pb2.Order
) -> None:
    assert check([found], record_of(acknowledged)) == ["orders that contradict an acknowledgement"]


@pytest.mark.parametrize(
    ("reason", "found", "contradicts"),
    [
        ("PAYMENT_DECLINED", order(CANCELLED, reason="PAYMENT_DECLINED"), False),
        ("PAYMENT_DECLINED", order(CONFIRMED), True),
        ("PAYMENT_DECLINED", order(CANCELLED, reason="ORDER_CANCELLED"), True),
        ("ORDER_NOT_CANCELLABLE", order(CONFIRMED), False),
        ("ORDER_NOT_CANCELLABLE", order(CANCELLED, reason="ORDER_CANCELLED"), True),
        ("", order(CONFIRMED), False),
    ],
)
def test_refusals_hold(reason: str, found: order_pb2.Order, contradicts: bool) -> None:
    assert bool(check([found], record_of(found, reason))) is contradicts


def test_an_order_that_is_acknowledged_and_missing_is_lost() -> None:
    assert check([], record_of(order())) == ["acknowledged orders lost"]


def test_two_orders_for_one_key_are_found() -> None:
    other = order()
    other.order_id = "o2"
    assert check([order(), other]) == ["two orders for one key"]


def test_another_id_for_a_key_contradicts() -> None:
    other = order()
    other.order_id = "o2"
    assert check([other], record_of(order())) == ["orders that contradict an acknowledgement"]


@pytest.mark.parametrize("key", ["7-x", "8-1", "1f0c"])
def test_an_order_with_a_key_of_nobody_is_found(key: str) -> None:
    other = order()
    other.idempotency_key = key
    assert check([other]) == ["orders that nobody requested"]


def test_an_order_with_other_lines_than_requested_is_found() -> None:
    other = order()
    other.lines[0].quantity += 1
    assert check([other]) == ["orders that nobody requested"]


@pytest.mark.parametrize("method", ["pm_card_declined", "pm_sandbox_action"])
def test_an_order_that_is_charged_without_approval_is_found(method: str) -> None:
    refused = next(
        number
        for number in range(1_000)
        if REQUESTS.make(number).payment_method == method
        and not may_be_charged(REQUESTS.make(number))
    )
    found = check([order(CONFIRMED, refused)])
    assert found == ["orders charged though declined or not approved"]
    assert check([order(CANCELLED, refused)]) == []


def test_some_payments_are_approved_and_some_are_not() -> None:
    requests = [REQUESTS.make(number) for number in range(1_000)]
    asked = [each for each in requests if each.payment_method == "pm_sandbox_action"]
    assert {may_be_charged(request) for request in asked} == {True, False}


@pytest.mark.parametrize(
    ("quantity", "returned", "stocked", "sold", "reserved", "violations"),
    [
        (3, 0, 5, 3, 0, [0, 0]),
        (6, 1, 5, 5, 0, [0, 0]),
        (6, 0, 5, 6, 0, [1, 0]),
        (3, 0, 6, 3, 0, [0, 1]),
        (3, 0, 5, 2, 0, [0, 1]),
        (3, 1, 5, 3, 0, [0, 1]),
        (3, 0, 5, 3, 1, [0, 1]),
    ],
)
def test_stock_is_what_was_sold_and_delivered(
    quantity: int, returned: int, stocked: int, sold: int, reserved: int, violations: list[int]
) -> None:
    bought, cancelled = order_pb2.Order(state=CONFIRMED), order_pb2.Order(state=CANCELLED)
    bought.lines.add(product_id="p1", quantity=quantity)
    cancelled.lines.add(product_id="p1", quantity=100)
    product = product_pb2.Product(product_id="p1")
    product.stock.stocked, product.stock.sold, product.stock.reserved = stocked, sold, reserved
    findings: Findings = defaultdict(Finding)
    check_stock([bought, cancelled], {"p1": returned}, [product], CATALOGUE, findings)
    assert [finding.violations for finding in findings.values()] == violations


async def test_a_watcher_finds_events_that_are_missing_or_out_of_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tools.chaos.watcher._CATCH_UP_SECONDS", 0.0)
    async with (
        grpc.aio.insecure_channel("127.0.0.1:1") as channel,
        aiohttp.ClientSession() as http,
    ):
        accounts = Accounts(http, [], Random(1), Counter())
        watcher = Watcher(channel, accounts)
        for version in (1, 2, 2, 4, 3):
            watcher._note(order_pb2.OrderEvent(order_id="o1", version=version))
        assert (watcher.out_of_order.checked, watcher.out_of_order.violations) == (5, 1)
        assert (await watcher.find_missed({"o1": 4})).violations == 0
        assert (await watcher.find_missed({"o1": 5, "o2": 1})).violations == 2
