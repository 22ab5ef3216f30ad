"""Compares a file of trade with the shop after its replay, unit by unit and penny by penny.

The catalogue, the orders and the ledger are read again: responses during the replay do not count.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from tools.replay.replay import Outcome, Replay
from tools.replay.shop import Message, Shop, to_minor
from tools.replay.trade import ProductKey, Sale, Trade


class Totals(NamedTuple):
    """Units and pence; either may be negative."""

    units: int
    minor: int

    def plus(self, other: "Totals") -> "Totals":
        """Return the sum, part by part."""
        return Totals(self.units + other.units, self.minor + other.minor)


@dataclass(slots=True)
class Books:
    """The records of a trade in the shop: products by SKU, orders and pence by invoice."""

    products: dict[str, Message] = field(default_factory=dict)
    orders: dict[str, Message] = field(default_factory=dict)
    charged: Counter[str] = field(default_factory=Counter)
    refunded: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Reconciliation:
    """How the totals of the file become those of the shop, and every difference between the two."""

    file: Totals
    explained: dict[str, Totals]
    shop: Totals
    differences: list[str]

    @property
    def unexplained(self) -> Totals:
        """The totals of the shop less those expected of it: zero if all is well."""
        expected = self.file
        for amount in self.explained.values():
            expected = expected.plus(amount)
        return Totals(self.shop.units - expected.units, self.shop.minor - expected.minor)


async def read_books(shop: Shop, replay: Replay, trade: Trade) -> Books:
    """Read all records of a trade from the shop.

    Raises:
        ShopError: the shop refused a request.
        aiohttp.ClientError: the shop cannot be reached.
    """
    books = Books()
    query = f'attributes.trade = "{trade.digest}"'
    async for page in shop.stream("/v1/products", filter=query):
        books.products.update({product["sku"]: product for product in page.get("products", ())})
    ours = {f"{trade.digest}/{sale.invoice}": sale.invoice for sale in trade.sales}
    invoices: dict[str, str] = {}
    for user_id in replay.outcome.users.values():
        async for page in shop.stream("/v1/orders", userId=user_id):
            for order in page.get("orders", ()):
                if order["idempotencyKey"] in ours:
                    invoice = ours[order["idempotencyKey"]]
                    books.orders[invoice] = order
                    invoices[order["orderId"]] = invoice
    async for page in shop.stream("/v1/transactions"):
        for transaction in page.get("transactions", ()):
            kind = books.charged if transaction["type"].endswith("CHARGE") else books.refunded
            if transaction["orderId"] in invoices:
                kind[invoices[transaction["orderId"]]] += to_minor(transaction["amount"])
    return books


def reconcile(trade: Trade, replay: Replay, books: Books) -> Reconciliation:
    """Explain how the totals of the file become those of the shop, and list every difference."""
    outcome = replay.outcome
    file = Totals(
        sum(line.quantity for line in trade.lines), sum(line.amount_minor for line in trade.lines)
    )
    differences = [
        *_compare_orders(trade, outcome, books),
        *_compare_stock(trade, replay, books),
    ]
    return Reconciliation(file, _explain(trade, outcome), _sum_shop(trade, books), differences)


def _explain(trade: Trade, outcome: Outcome) -> dict[str, Totals]:
    explained: dict[str, Totals] = {}

    def add(reason: str, units: int, minor: int) -> None:
        explained[reason] = explained.get(reason, Totals(0, 0)).plus(Totals(units, minor))

    for left_out in trade.unexpressed:
        add(left_out.reason, -left_out.units, -left_out.amount_minor)
    for line in trade.corrections:
        add("correction of the stock, not trade", -line.quantity, 0)
    for sale in trade.sales:
        if sale.invoice in outcome.refusals:
            reason = f"order refused: {outcome.refusals[sale.invoice]}"
            add(reason, -sum(sale.units.values()), -sale.amount_minor)
    for item in trade.returns:
        if item.sale in outcome.refusals:
            add("return of an order that was refused", item.units, item.amount_minor)
    return explained


def _sum_shop(trade: Trade, books: Books) -> Totals:
    """Return the net trade: units sold less units returned, and charges less refunds.

    Units that were refunded are no longer sold.
    """
    units = 0
    for product in books.products.values():
        stock = product.get("stock", {})
        units += stock.get("sold", 0)
    units -= sum(item.units for item in trade.returns if item.is_free and item.sale in books.orders)
    return Totals(units, books.charged.total() - books.refunded.total())


def _compare_orders(trade: Trade, outcome: Outcome, books: Books) -> list[str]:
    differences: list[str] = []
    returned: Counter[str] = Counter()
    for item in trade.returns:
        returned[item.sale] += item.amount_minor
    products = {product_id: key for key, product_id in outcome.products.items()}
    for sale in trade.sales:
        order = books.orders.get(sale.invoice)
        if sale.invoice in outcome.refusals:
            if books.charged[sale.invoice]:
                differences.append(f"invoice {sale.invoice} was refused and charged")
        elif order is None:
            differences.append(f"invoice {sale.invoice} is not in the shop")
        else:
            differences += _compare_order(sale, order, products)
            charged, refunded = books.charged[sale.invoice], books.refunded[sale.invoice]
            if (charged, refunded) != (sale.amount_minor, returned[sale.invoice]):
                wanted = f"{sale.amount_minor}p charged and {returned[sale.invoice]}p refunded"
                differences.append(
                    f"invoice {sale.invoice}: {charged}p and {refunded}p, not {wanted}"
                )
    return differences


def _compare_order(sale: Sale, order: Message, products: dict[str, ProductKey]) -> list[str]:
    differences: list[str] = []
    if order["state"] != "ORDER_STATE_CONFIRMED":
        differences.append(f"invoice {sale.invoice} is {order['state']}")
    if to_minor(order.get("total")) != sale.amount_minor:
        total = to_minor(order.get("total"))
        differences.append(f"invoice {sale.invoice} is {total}p, not {sale.amount_minor}p")
    if {products[line["productId"]]: line["quantity"] for line in order["lines"]} != sale.units:
        differences.append(f"invoice {sale.invoice} has other lines")
    return differences


def _compare_stock(trade: Trade, replay: Replay, books: Books) -> list[str]:
    opening = trade.opening_stock()
    sold: Counter[ProductKey] = Counter()
    added: Counter[ProductKey] = Counter()
    for sale in trade.sales:
        if sale.invoice in replay.outcome.orders:
            sold.update(sale.units)
    for line in trade.corrections:
        added[line.product] += line.quantity
    for item in trade.returns:
        if item.sale in replay.outcome.orders:
            if item.is_free:
                added[item.product] += item.units
            else:
                sold[item.product] -= item.units
    differences: list[str] = []
    for key, units in opening.items():
        sku = replay.sku(key)
        stock = books.products.get(sku, {}).get("stock", {})
        found = (stock.get("available", 0), stock.get("reserved", 0), stock.get("sold", 0))
        wanted = (units + added[key] - sold[key], 0, sold[key])
        if found != wanted:
            counts = "(available, reserved, sold)"
            differences.append(f"stock of {sku} is {found}, not {wanted} {counts}")
    return differences
