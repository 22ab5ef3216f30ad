"""A file of trade: what was sold, corrected and returned.

The format is that of the UCI Online Retail set (D. Chen, 2012): one row a line of an invoice, with
the columns InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID and
Country. These rules give the rows their meaning:

- An invoice whose number begins with C returns goods.
- Lines without a customer and without a price are corrections of the stock, in or out.
- Everything else is a sale; a line of it must have a positive quantity.
- A product is a stock code at a price, because the same code is sold at several.
"""

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

GUEST = ""
"""The customer of invoices that name none."""

_COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "UnitPrice",
    "CustomerID",
    "Country",
)


class ProductKey(NamedTuple):
    """A stock code at a price, in pence."""

    stock_code: str
    price_minor: int


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the file; `number` counts from 2, after the header."""

    number: int
    invoice: str
    product: ProductKey
    description: str
    quantity: int
    customer: str
    country: str

    @property
    def amount_minor(self) -> int:
        """The price of the line in pence; negative for returned goods."""
        return self.quantity * self.product.price_minor


@dataclass(frozen=True, slots=True)
class Sale:
    """An invoice as an order: units by product, the lines of one product added up."""

    invoice: str
    customer: str
    units: dict[ProductKey, int]

    @property
    def amount_minor(self) -> int:
        """The price of the order in pence."""
        return sum(units * product.price_minor for product, units in self.units.items())


@dataclass(frozen=True, slots=True)
class Return:
    """Units on a line of a C invoice that belong to one sale; `key` is unique in a file."""

    key: str
    sale: str
    product: ProductKey
    units: int

    @property
    def amount_minor(self) -> int:
        """The refund in pence."""
        return self.units * self.product.price_minor

    @property
    def is_free(self) -> bool:
        """Whether there is nothing to refund: the units are then an adjustment of the stock."""
        return self.product.price_minor == 0


@dataclass(frozen=True, slots=True)
class Unexpressed:
    """Units and pence of the file that have no counterpart in the shop, and why."""

    reason: str
    line: int
    units: int
    amount_minor: int


@dataclass(slots=True)
class Trade:
    """The content of a file, in the order of its rows."""

    digest: str
    lines: list[Line] = field(default_factory=list)
    sales: list[Sale] = field(default_factory=list)
    corrections: list[Line] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    unexpressed: list[Unexpressed] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """How many rows the file has after its header."""
        return len(self.lines) + self.unreadable.total()

    def count_invoices(self) -> dict[str, int]:
        """Count the invoices by kind."""
        invoices = {line.invoice for line in self.lines}
        returns = sum(_is_return(invoice) for invoice in invoices)
        corrections = len({line.invoice for line in self.corrections})
        return {
            "invoices": len(invoices),
            "  of sales": len(invoices) - returns - corrections,
            "  of returns": returns,
            "  of stock corrections": corrections,
        }

    def opening_stock(self) -> dict[ProductKey, int]:
        """Return the units of each product that the shop needs to serve the whole trade."""
        stock: Counter[ProductKey] = Counter()
        for line in self.lines:
            stock[line.product] += 0
        for sale in self.sales:
            stock.update(sale.units)
        for line in self.corrections:
            stock[line.product] += max(0, -line.quantity)
        return dict(stock)


class FormatError(Exception):
    """The file is not of the format."""


def read(path: Path) -> Trade:
    """Read a file.

    Raises:
        FormatError: a column is missing.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    rows = csv.DictReader(content.decode("utf-8-sig", errors="replace").splitlines())
    missing = set(_COLUMNS) - set(rows.fieldnames or ())
    if missing:
        raise FormatError(f"{path} has no column {', '.join(sorted(missing))}")
    trade = Trade(hashlib.sha256(content).hexdigest()[:8])
    for number, row in enumerate(rows, start=2):
        try:
            trade.lines.append(_parse(number, row))
        except ValueError as error:
            trade.unreadable[str(error)] += 1
    _classify(trade)
    return trade


def _parse(number: int, row: dict[str, str]) -> Line:
    try:
        quantity = int(row["Quantity"])
        pence = Decimal(row["UnitPrice"]) * 100
        finer = pence != int(pence)
    except (ArithmeticError, ValueError, TypeError):
        raise ValueError("quantity or price is not a number") from None
    if finer or pence < 0:
        raise ValueError("price is negative or finer than a penny")
    if not row["InvoiceNo"] or not row["StockCode"] or not quantity:
        raise ValueError("no invoice, stock code or quantity")
    product = ProductKey(row["StockCode"], int(pence))
    return Line(
        number,
        row["InvoiceNo"],
        product,
        row["Description"].strip(),
        quantity,
        row["CustomerID"],
        row["Country"],
    )


class _Returnable:
    """The units that each customer has bought so far and not returned."""

    def __init__(self) -> None:
        self._sales: dict[tuple[str, ProductKey], list[str]] = defaultdict(list)
        self._units: dict[tuple[str, ProductKey], int] = {}

    def add(self, sale: Sale) -> None:
        for product, units in sale.units.items():
            self._sales[sale.customer, product].append(sale.invoice)
            self._units[sale.invoice, product] = units

    def take(self, customer: str, product: ProductKey, wanted: int) -> Iterator[tuple[str, int]]:
        """Take units from the customer's sales, the latest first; yield invoices and units."""
        for invoice in reversed(self._sales.get((customer, product), [])):
            units = min(wanted, self._units[invoice, product])
            if units:
                self._units[invoice, product] -= units
                wanted -= units
                yield invoice, units


def _is_return(invoice: str) -> bool:
    return invoice.startswith("C")


def _classify(trade: Trade) -> None:
    invoices: dict[str, list[Line]] = defaultdict(list)
    for line in trade.lines:
        invoices[line.invoice].append(line)
    returnable = _Returnable()
    for number, lines in invoices.items():
        if _is_return(number):
            for line in lines:
                _add_returns(trade, line, returnable)
        elif all(line.customer == GUEST and line.product.price_minor == 0 for line in lines):
            trade.corrections += lines
        else:
            _add_sale(trade, lines, returnable)


def _add_sale(trade: Trade, lines: list[Line], returnable: _Returnable) -> None:
    units: Counter[ProductKey] = Counter()
    for line in lines:
        if line.quantity > 0:
            units[line.product] += line.quantity
        else:
            _leave_out(trade, line, "negative quantity in a sale", line.quantity)
    if units:
        sale = Sale(lines[0].invoice, lines[0].customer, dict(units))
        trade.sales.append(sale)
        if sale.customer != GUEST:
            returnable.add(sale)


def _add_returns(trade: Trade, line: Line, returnable: _Returnable) -> None:
    if line.quantity > 0:
        _leave_out(trade, line, "positive quantity in a return", line.quantity)
        return
    left = -line.quantity
    for invoice, units in returnable.take(line.customer, line.product, left):
        left -= units
        key = f"{line.invoice}/{line.number}/{invoice}"
        trade.returns.append(Return(key, invoice, line.product, units))
    if left:
        _leave_out(trade, line, "return without an earlier sale in the file", -left)


def _leave_out(trade: Trade, line: Line, reason: str, units: int) -> None:
    amount_minor = units * line.product.price_minor
    trade.unexpressed.append(Unexpressed(reason, line.number, units, amount_minor))
