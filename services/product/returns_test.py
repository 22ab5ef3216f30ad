"""Returns of stock: the rules by themselves, and the step through a channel, on a real database."""

import asyncio
import uuid

import grpc
import psycopg
import pytest

from bazaar.product.v1 import product_pb2
from chassis import errors, status
from chassis.testing import refusal
from services.product import returns
from services.product.reservation import Line
from services.product.returns import Return
from services.product.testing import Products, find_discrepancies, stock_of, stocked

pytest_plugins = ("tools.postgres.testing", "services.product.testing")
DATABASE = "product"

ORDER, LAMP, CUP = uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)
SOLD = {ORDER: {LAMP: 3, CUP: 1}}


def of(number: int, **units: int) -> Return:
    ids = {"lamp": LAMP, "cup": CUP}
    return Return(ORDER, number, tuple(Line(ids[name], count) for name, count in units.items()))


def reasons(*requests: Return, before: Return | None = None) -> list[str]:
    """Return the reasons of the errors of a batch, "" for a return without; one was made before."""
    recorded = {before.key: before.units} if before else {}
    returned = {ORDER: before.units} if before else {}
    found = returns.find_errors(requests, recorded, SOLD, returned)
    return [found[each.key].reason if each.key in found else "" for each in requests]


def test_all_units_of_an_order_can_be_returned_and_no_more() -> None:
    assert reasons(of(1, lamp=3, cup=1)) == [""]
    assert reasons(of(1, lamp=4)) == ["RETURN_EXCEEDS_SALE"]


def test_the_returns_of_a_batch_share_what_was_sold() -> None:
    assert reasons(of(1, lamp=2), of(2, lamp=2), of(3, lamp=1)) == ["", "RETURN_EXCEEDS_SALE", ""]


def test_an_earlier_return_counts() -> None:
    before = of(1, lamp=2)
    assert reasons(of(2, lamp=2), of(3, lamp=1), before=before) == ["RETURN_EXCEEDS_SALE", ""]


def test_a_repeated_return_is_not_counted_again() -> None:
    before = of(1, lamp=3)
    assert reasons(before, of(2, cup=1), before=before) == ["", ""]


def test_a_number_stands_for_the_same_units() -> None:
    assert reasons(of(1, lamp=2), before=of(1, lamp=1)) == ["RETURN_DIFFERS"]


def test_a_product_that_the_order_does_not_have_cannot_be_returned() -> None:
    other = Return(ORDER, 1, (Line(uuid.UUID(int=9), 1),))
    assert reasons(other) == ["RETURN_EXCEEDS_SALE"]


def test_a_batch_repeats_no_return_and_a_return_no_product() -> None:
    with pytest.raises(errors.InvalidArgument, match="repeated"):
        returns.check_returns([of(1, lamp=1), of(1, cup=1)])
    with pytest.raises(errors.Unprocessable) as caught:
        returns.check_returns([Return(ORDER, 1, (Line(LAMP, 1), Line(LAMP, 1)))])
    assert caught.value.violations[0].field == "returns[0].lines"


def to_request(
    *requests: tuple[str, int, dict[str, int]],
) -> product_pb2.ReturnStockRequest:
    return product_pb2.ReturnStockRequest(
        returns=[
            product_pb2.ReturnStockRequest.Return(
                order_id=order_id,
                number=number,
                lines=[
                    product_pb2.StockLine(product_id=product_id, quantity=quantity)
                    for product_id, quantity in units.items()
                ],
            )
            for order_id, number, units in requests
        ]
    )


async def give_back(products: Products, *requests: tuple[str, int, dict[str, int]]) -> list[str]:
    response = await products.ReturnStock(to_request(*requests))
    keys = [(result.order_id, result.number) for result in response.results]
    assert keys == [(order_id, number) for order_id, number, _ in requests]
    return [status.error_info(result.error).reason for result in response.results]


async def sell(products: Products, lines: dict[str, int], *, commit: bool = True) -> str:
    order_id = str(uuid.uuid4())
    reservation = product_pb2.ReserveStockRequest.Reservation(order_id=order_id)
    for product_id, quantity in lines.items():
        reservation.lines.add(product_id=product_id, quantity=quantity)
    request = product_pb2.ReserveStockRequest(reservations=[reservation], pin=True)
    await products.ReserveStock(request)
    if commit:
        await products.CommitStock(product_pb2.CommitStockRequest(order_ids=[order_id]))
    return order_id


async def test_returned_units_are_available_again(
    products: Products, clean_database_url: str
) -> None:
    lamp, cup = await stocked(products, "LAMP", 5), await stocked(products, "CUP", 5)
    order_id = await sell(products, {lamp: 3, cup: 1})
    assert await give_back(products, (order_id, 1, {lamp: 2}), (order_id, 2, {cup: 1})) == ["", ""]
    assert await stock_of(products, lamp) == (4, 0, 1, 5)
    assert await stock_of(products, cup) == (5, 0, 0, 5)
    assert find_discrepancies(clean_database_url) == []


async def test_concurrent_repetitions_return_units_once(
    products: Products, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order_id = await sell(products, {lamp: 4})
    calls = [give_back(products, (order_id, 1, {lamp: 2})) for _ in range(8)]
    assert await asyncio.gather(*calls) == [[""]] * 8
    assert await stock_of(products, lamp) == (3, 0, 2, 5)
    assert find_discrepancies(clean_database_url) == []


async def test_concurrent_returns_never_exceed_the_sale(
    products: Products, clean_database_url: str
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    order_id = await sell(products, {lamp: 4})
    calls = [give_back(products, (order_id, number, {lamp: 1})) for number in range(1, 9)]
    found = await asyncio.gather(*calls)
    assert sorted(found) == [[""]] * 4 + [["RETURN_EXCEEDS_SALE"]] * 4
    assert await stock_of(products, lamp) == (5, 0, 0, 5)
    assert find_discrepancies(clean_database_url) == []


@pytest.mark.parametrize("commit", [True, False])
async def test_stock_that_was_not_sold_cannot_be_returned(
    products: Products, clean_database_url: str, *, commit: bool
) -> None:
    lamp = await stocked(products, "LAMP", 5)
    pinned = await sell(products, {lamp: 1}, commit=False)
    order_id = str(uuid.uuid4()) if commit else pinned
    assert await give_back(products, (order_id, 1, {lamp: 1})) == ["ORDER_NOT_COMMITTED"]
    assert await stock_of(products, lamp) == (4, 1, 0, 5)
    assert find_discrepancies(clean_database_url) == []


async def test_units_of_a_deleted_product_are_recorded(
    products: Products, clean_database_url: str
) -> None:
    lamp, cup = await stocked(products, "LAMP", 5), await stocked(products, "CUP", 5)
    order_id = await sell(products, {lamp: 1, cup: 1})
    await products.DeleteProduct(product_pb2.DeleteProductRequest(product_id=lamp))
    assert await give_back(products, (order_id, 1, {lamp: 1, cup: 1})) == [""]
    assert await stock_of(products, cup) == (5, 0, 0, 5)
    with psycopg.connect(clean_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM stock_returns").fetchone() == (2,)


async def test_a_batch_has_a_bounded_number_of_lines(products: Products) -> None:
    lines = {str(uuid.uuid4()): 1 for _ in range(1_000)}
    requests = [(str(uuid.uuid4()), 1, lines) for _ in range(51)]
    refused = await refusal(products.ReturnStock(to_request(*requests)))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "BATCH_TOO_LARGE",
    )
