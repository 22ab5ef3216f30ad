"""What rows of a file of trade mean."""

from collections import Counter
from pathlib import Path

import pytest

from tools.replay import trade
from tools.replay.trade import ProductKey

EXCERPT = Path(__file__).parent / "testdata" / "online_retail_200.csv"
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


def read(tmp_path: Path, *rows: str) -> trade.Trade:
    path = tmp_path / "trade.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return trade.read(path)


def row(invoice: str, code: str, quantity: object, price: object, customer: str = "7") -> str:
    return f"{invoice},{code},THING,{quantity},2010-12-01T08:26:00,{price},{customer},France"


def units(found: trade.Trade) -> int:
    return (
        sum(sum(sale.units.values()) for sale in found.sales)
        - sum(item.units for item in found.returns)
        + sum(line.quantity for line in found.corrections)
        + sum(left_out.units for left_out in found.unexpressed)
    )


def pence(found: trade.Trade) -> int:
    return (
        sum(sale.amount_minor for sale in found.sales)
        - sum(item.amount_minor for item in found.returns)
        + sum(left_out.amount_minor for left_out in found.unexpressed)
    )


def test_every_unit_and_penny_of_the_excerpt_is_somewhere() -> None:
    found = trade.read(EXCERPT)
    assert found.rows == 200
    assert list(found.count_invoices().values()) == [54, 37, 7, 10]
    assert units(found) == sum(line.quantity for line in found.lines)
    assert pence(found) == sum(line.amount_minor for line in found.lines) == 1_085_126


def test_a_sale_adds_up_the_lines_of_one_product(tmp_path: Path) -> None:
    found = read(tmp_path, row("1", "A", 2, 1.5), row("1", "A", 3, 1.5), row("1", "A", 1, 2))
    (sale,) = found.sales
    assert sale.units == {ProductKey("A", 150): 5, ProductKey("A", 200): 1}
    assert sale.amount_minor == 950


def test_a_return_comes_from_the_latest_earlier_sale_of_the_customer(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        row("1", "A", 5, 1),
        row("2", "A", 2, 1),
        row("3", "A", 9, 1, customer="8"),
        row("C4", "A", -4, 1),
        row("5", "A", 9, 1),
    )
    assert [(item.sale, item.units) for item in found.returns] == [("2", 2), ("1", 2)]
    assert found.unexpressed == []


def test_what_came_back_once_does_not_come_back_twice(tmp_path: Path) -> None:
    found = read(tmp_path, row("1", "A", 5, 1), row("C2", "A", -3, 1), row("C3", "A", -3, 1))
    assert [(item.sale, item.units) for item in found.returns] == [("1", 3), ("1", 2)]
    assert [(left.units, left.amount_minor) for left in found.unexpressed] == [(-1, -100)]


def test_a_return_without_a_sale_is_left_out_by_reason(tmp_path: Path) -> None:
    found = read(tmp_path, row("C1", "A", -3, 2), row("2", "A", 3, 2))
    assert found.returns == []
    (left_out,) = found.unexpressed
    assert left_out.reason == "return without an earlier sale in the file"
    assert (left_out.units, left_out.amount_minor) == (-3, -600)


def test_a_guest_returns_nothing_that_another_guest_bought(tmp_path: Path) -> None:
    found = read(tmp_path, row("1", "A", 3, 2, customer=""), row("C2", "A", -3, 2, customer=""))
    assert found.returns == []


def test_free_lines_without_a_customer_correct_the_stock(tmp_path: Path) -> None:
    found = read(tmp_path, row("1", "A", -3, 0, customer=""), row("2", "A", 4, 0, customer=""))
    assert [line.quantity for line in found.corrections] == [-3, 4]
    assert found.opening_stock() == {ProductKey("A", 0): 3}


def test_a_free_line_of_a_customer_is_a_gift(tmp_path: Path) -> None:
    found = read(tmp_path, row("1", "A", 1, 0))
    assert found.sales[0].amount_minor == 0
    assert found.corrections == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("1", "A", "x", 1), "quantity or price is not a number"),
        (row("1", "A", 1, "x"), "quantity or price is not a number"),
        (row("1", "A", 1, "NaN"), "quantity or price is not a number"),
        (row("1", "A", 1, "0.001"), "price is negative or finer than a penny"),
        (row("1", "A", 1, "-1"), "price is negative or finer than a penny"),
        (row("", "A", 1, 1), "no invoice, stock code or quantity"),
        (row("1", "A", 0, 1), "no invoice, stock code or quantity"),
    ],
)
def test_an_unreadable_row_is_counted_by_reason(tmp_path: Path, bad: str, reason: str) -> None:
    found = read(tmp_path, bad, row("2", "A", 1, 1))
    assert found.unreadable == Counter([reason])
    assert found.rows == 2
    assert len(found.sales) == 1


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(trade.FormatError, match="no column Country"):
        trade.read(path)
