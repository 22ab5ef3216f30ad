"""PaymentService through a channel, on a real database."""

import uuid
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import psycopg
import pytest
from google.type import money_pb2

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from chassis import status
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import bytes_kept, refusal, serving_service
from services.payment.main import SERVICE
from services.payment.servicer import PaymentServicer
from services.payment.testing import SETTINGS, find_discrepancies, sandbox
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "payment"

Payments: TypeAlias = "payment_pb2_grpc.PaymentServiceAsyncStub"
Charge = payment_pb2.ProcessPaymentsRequest.Charge
Refund: TypeAlias = payment_pb2.RefundPaymentsRequest.Refund
CARD_NUMBER = "4242424242424242"
AMOUNT = money_pb2.Money(currency_code="GBP", units=12, nanos=340_000_000)
PART = money_pb2.Money(currency_code="GBP", units=5)


@pytest.fixture
async def payments(clean_database_url: str) -> AsyncIterator[Payments]:
    resources = Resources(Database(app_url(clean_database_url)), SETTINGS)
    async with serving_service(SERVICE, resources) as channel:
        yield payment_pb2_grpc.PaymentServiceStub(channel)
    assert find_discrepancies(clean_database_url) == []


def new_charge(
    payment_method: str = "pm_sandbox", amount: money_pb2.Money = AMOUNT
) -> payment_pb2.ProcessPaymentsRequest.Charge:
    return Charge(order_id=str(uuid.uuid4()), amount=amount, payment_method=payment_method)


async def process(
    payments: Payments, *charges: payment_pb2.ProcessPaymentsRequest.Charge
) -> list[payment_pb2.Payment]:
    request = payment_pb2.ProcessPaymentsRequest(charges=charges)
    return list((await payments.ProcessPayments(request)).payments)


async def read_ledger(
    payments: Payments, request: payment_pb2.ListTransactionsRequest
) -> tuple[list[payment_pb2.Transaction], str]:
    found: list[payment_pb2.Transaction] = []
    token = ""
    async for page in payments.ListTransactions(request):
        found += page.transactions
        token = page.next_page_token
    return found, token


async def test_process_payments_returns_what_get_payment_finds(payments: Payments) -> None:
    charge = new_charge()
    (charged,) = await process(payments, charge)
    assert charged.state == payment_pb2.PAYMENT_STATE_SUCCEEDED
    assert (charged.order_id, charged.amount, charged.provider) == (
        charge.order_id,
        AMOUNT,
        "sandbox",
    )
    assert charged.refunded_amount == money_pb2.Money(currency_code="GBP")
    found = await payments.GetPayment(payment_pb2.GetPaymentRequest(payment_id=charged.payment_id))
    assert found == charged


async def test_process_payments_is_idempotent_and_keeps_the_order(payments: Payments) -> None:
    charges = [new_charge(), new_charge("pm_card_declined"), new_charge()]
    first = await process(payments, *charges)
    assert [payment.order_id for payment in first] == [charge.order_id for charge in charges]
    assert [payment.decline_reason for payment in first] == ["", "card_declined", ""]
    assert await process(payments, *charges[::-1]) == first[::-1]


async def test_process_payments_rejects_another_amount(payments: Payments) -> None:
    charge = new_charge()
    await process(payments, charge)
    changed = Charge(order_id=charge.order_id, amount=PART, payment_method="pm_sandbox")
    refused = await refusal(process(payments, changed))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "ORDER_AMOUNT_CHANGED"
    assert refused.metadata["order_id"] == charge.order_id


@pytest.mark.parametrize("number", [0, 1_001])
async def test_process_payments_bounds_the_batch(payments: Payments, number: int) -> None:
    refused = await refusal(process(payments, *[new_charge()] * number))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("charge", "field"),
    [
        (Charge(order_id="7", amount=AMOUNT, payment_method="pm_sandbox"), "charges[0].order_id"),
        (new_charge(""), "charges[0].payment_method"),
        (new_charge("x" * 256), "charges[0].payment_method"),
        (new_charge("pm\x00"), "charges[0].payment_method"),
        (
            new_charge(amount=money_pb2.Money(currency_code="GBP", units=-1)),
            "charges[0].amount.units",
        ),
        (new_charge(amount=money_pb2.Money(units=1)), "charges[0].amount.currency_code"),
    ],
    ids=str,
)
async def test_process_payments_names_the_invalid_field(
    payments: Payments, charge: payment_pb2.ProcessPaymentsRequest.Charge, field: str
) -> None:
    refused = await refusal(process(payments, charge))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert field in refused.fields


async def test_a_card_number_is_rejected_and_neither_logged_nor_stored(
    payments: Payments, clean_database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = await refusal(process(payments, new_charge(), new_charge(CARD_NUMBER)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["charges[1].payment_method"]
    assert CARD_NUMBER not in refused.message
    logged = "".join(capfd.readouterr())
    assert "ProcessPayments" in logged
    assert CARD_NUMBER not in logged
    with psycopg.connect(clean_database_url) as connection:
        assert connection.execute("SELECT FROM payments").fetchall() == []
        assert connection.execute("SELECT FROM sandbox.intents").fetchall() == []


async def test_get_payment_of_a_missing_id_is_not_found(payments: Payments) -> None:
    request = payment_pb2.GetPaymentRequest(payment_id=str(uuid.uuid4()))
    refused = await refusal(payments.GetPayment(request))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.reason == "PAYMENT_NOT_FOUND"


async def test_get_payment_rejects_an_id_that_is_not_a_uuid(payments: Payments) -> None:
    refused = await refusal(payments.GetPayment(payment_pb2.GetPaymentRequest(payment_id="7")))
    assert refused.fields == ["payment_id"]


async def test_cancel_payments_keeps_succeeded_ones_and_adds_tombstones(
    payments: Payments,
) -> None:
    charge = new_charge()
    (charged,) = await process(payments, charge)
    late = new_charge()
    order_ids = [late.order_id, charge.order_id]
    response = await payments.CancelPayments(payment_pb2.CancelPaymentsRequest(order_ids=order_ids))
    tombstone, kept = response.payments
    assert kept == charged
    assert (tombstone.order_id, tombstone.state) == (
        late.order_id,
        payment_pb2.PAYMENT_STATE_CANCELLED,
    )
    assert not tombstone.HasField("amount")
    assert await process(payments, late) == [tombstone]


async def test_cancel_payments_bounds_the_batch(payments: Payments) -> None:
    request = payment_pb2.CancelPaymentsRequest(order_ids=[str(uuid.uuid4())] * 1_001)
    refused = await refusal(payments.CancelPayments(request))
    assert refused.reason == "BATCH_TOO_LARGE"


def refund_of(order_id: str, number: int = 1, amount: money_pb2.Money = PART) -> Refund:
    return Refund(order_id=order_id, number=number, amount=amount)


async def refund_payments(
    payments: Payments, *refunds: Refund
) -> list[payment_pb2.RefundPaymentsResponse.Result]:
    request = payment_pb2.RefundPaymentsRequest(refunds=refunds)
    return list((await payments.RefundPayments(request)).results)


async def test_refund_payments_is_idempotent_and_keeps_the_order(payments: Payments) -> None:
    first, second = await process(payments, new_charge(), new_charge())
    refunds = [refund_of(first.order_id), refund_of(second.order_id), refund_of(first.order_id, 2)]
    results = await refund_payments(payments, *refunds)
    assert [(each.order_id, each.number) for each in results] == [
        (each.order_id, each.number) for each in refunds
    ]
    assert {each.state for each in results} == {payment_pb2.REFUND_STATE_SUCCEEDED}
    assert await refund_payments(payments, *refunds[::-1]) == results[::-1]
    get = payment_pb2.GetPaymentRequest(payment_id=second.payment_id)
    assert (await payments.GetPayment(get)).refunded_amount == PART


async def test_refund_payments_gives_each_refund_an_error_of_its_own(payments: Payments) -> None:
    (charged,) = await process(payments, new_charge())
    missing = refund_of(str(uuid.uuid4()))
    results = await refund_payments(payments, missing, refund_of(charged.order_id))
    assert status.error_info(results[0].error).reason == "PAYMENT_NOT_FOUND"
    assert results[0].state == payment_pb2.REFUND_STATE_UNSPECIFIED
    assert results[1].state == payment_pb2.REFUND_STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("refund", "field"),
    [
        (refund_of(str(uuid.uuid4()), amount=money_pb2.Money(currency_code="GBP")), "amount"),
        (refund_of(str(uuid.uuid4()), number=0), "number"),
        (refund_of("x"), "order_id"),
    ],
    ids=["amount", "number", "order_id"],
)
async def test_refund_payments_names_the_invalid_field(
    payments: Payments, refund: Refund, field: str
) -> None:
    refused = await refusal(refund_payments(payments, refund))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [f"refunds[0].{field}"]


@pytest.mark.parametrize("number", [0, 1_001])
async def test_refund_payments_bounds_the_batch(payments: Payments, number: int) -> None:
    refused = await refusal(refund_payments(payments, *[refund_of(str(uuid.uuid4()))] * number))
    assert refused.fields == ["refunds"]


async def test_list_transactions_streams_the_ledger_oldest_first(payments: Payments) -> None:
    charged = await process(payments, *[new_charge() for _ in range(3)])
    await refund_payments(payments, refund_of(charged[1].order_id))
    everything, token = await read_ledger(payments, payment_pb2.ListTransactionsRequest())
    assert token == ""
    assert {each.payment_id for each in everything[:3]} == {each.payment_id for each in charged}
    assert [(each.type, each.amount) for each in everything] == [
        *[(payment_pb2.TRANSACTION_TYPE_CHARGE, AMOUNT)] * 3,
        (payment_pb2.TRANSACTION_TYPE_REFUND, PART),
    ]
    request = payment_pb2.ListTransactionsRequest(payment_id=charged[1].payment_id)
    of_one, _ = await read_ledger(payments, request)
    assert of_one == [each for each in everything if each.payment_id == charged[1].payment_id]


async def test_list_transactions_continues_after_a_page_token(payments: Payments) -> None:
    await process(payments, *[new_charge() for _ in range(7)])
    everything, _ = await read_ledger(payments, payment_pb2.ListTransactionsRequest())
    found: list[payment_pb2.Transaction] = []
    token = ""
    for expected in (3, 3, 1):
        request = payment_pb2.ListTransactionsRequest(page_size=3, page_token=token)
        page, token = await read_ledger(payments, request)
        assert len(page) == expected
        found += page
    assert token == ""
    assert found == everything


async def test_list_transactions_sends_at_most_500_in_a_message(payments: Payments) -> None:
    await process(payments, *[new_charge() for _ in range(501)])
    request = payment_pb2.ListTransactionsRequest(page_size=1_000)
    sizes = [len(page.transactions) async for page in payments.ListTransactions(request)]
    assert sizes == [500, 1]


async def test_list_transactions_retains_nothing_while_the_client_does_not_read(
    payments: Payments, clean_database_url: str
) -> None:
    await process(payments, *[new_charge() for _ in range(501)])
    database = Database(app_url(clean_database_url))
    await database.open()
    servicer = PaymentServicer(database, sandbox(database))
    request = payment_pb2.ListTransactionsRequest(page_size=1_000)
    kept = await bytes_kept(servicer.ListTransactions, request)
    await database.close()
    assert kept < 45_000, "less than 90 bytes a transaction"


async def test_list_transactions_rejects_a_token_of_another_query(payments: Payments) -> None:
    await process(payments, new_charge(), new_charge())
    _, token = await read_ledger(payments, payment_pb2.ListTransactionsRequest(page_size=1))
    request = payment_pb2.ListTransactionsRequest(
        page_size=1, page_token=token, payment_id=str(uuid.uuid4())
    )
    refused = await refusal(read_ledger(payments, request))
    assert refused.reason == "INVALID_PAGE_TOKEN"
