"""What the shop has told its clients, and whether the orders are what it told them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bazaar.order.v1 import order_pb2
from bazaar.product.v1 import product_pb2
from chassis.conversion import parse_money
from tools.chaos.orders import Catalogue, Orders, may_be_charged

MAX_EXAMPLES = 5
"""How many violations of a check are described; the others are counted."""

_STATES = order_pb2.OrderState
_CHARGED = frozenset(
    {_STATES.ORDER_STATE_CONFIRMED, _STATES.ORDER_STATE_SHIPPED, _STATES.ORDER_STATE_DELIVERED}
)
_UNCHARGED = frozenset({_STATES.ORDER_STATE_REJECTED, _STATES.ORDER_STATE_CANCELLED})
_ACTIVE = frozenset(
    {_STATES.ORDER_STATE_PENDING, _STATES.ORDER_STATE_PAYING, _STATES.ORDER_STATE_CANCELLING}
)
_NOT_CANCELLABLE = "ORDER_NOT_CANCELLABLE"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What one response says of an order: its state, or else the reason of a refusal."""

    order_id: str
    state: order_pb2.OrderState.ValueType = _STATES.ORDER_STATE_UNSPECIFIED
    reason: str = ""
    total_minor: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether the order can only be shipped, or refunded, from here."""
        return bool(self.reason) or self.state in _CHARGED | _UNCHARGED

    def contradicts(self, order: order_pb2.Order) -> bool:
        """Return whether an order that has become final cannot be what was acknowledged."""
        if self.order_id != order.order_id:
            return True
        if self.total_minor not in {None, _total_minor(order)}:
            return True
        if self.reason == _NOT_CANCELLABLE:
            return order.state == _STATES.ORDER_STATE_CANCELLED
        if self.reason:
            return order.refusal_reason != self.reason or order.state not in _UNCHARGED
        if self.state in _CHARGED:
            return order.state not in _CHARGED
        return self.state in _UNCHARGED and order.state != self.state


@dataclass(slots=True)
class Finding:
    """How many items a check has looked at, and how many violate it, with some examples."""

    checked: int = 0
    violations: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, violated: bool, example: str = "") -> None:
        """Count one item."""
        self.checked += 1
        if violated:
            self.violations += 1
            if len(self.examples) < MAX_EXAMPLES:
                self.examples.append(example)


Findings = defaultdict[str, Finding]
"""Findings by the name of their check, which says what a violation is."""


class Record:
    """All acknowledgements of a run, by the idempotency keys of the orders."""

    def __init__(self) -> None:
        self.responses: Counter[str] = Counter()
        """How many responses of each kind the clients got."""
        self.unauthenticated = Finding()
        """The refusals, of which none may say that the client is not logged in."""
        self._acknowledged: defaultdict[str, set[Acknowledgement]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._acknowledged)

    def note(self, idempotency_key: str, acknowledgement: Acknowledgement) -> None:
        """Keep what the shop has acknowledged."""
        self._acknowledged[idempotency_key].add(acknowledgement)

    def check(
        self, orders: Iterable[order_pb2.Order], requests: Orders, findings: Findings
    ) -> None:
        """Compare all orders that the shop has with what was requested and acknowledged."""
        seen: set[str] = set()
        for order in orders:
            key, example = order.idempotency_key, _describe(order)
            request = requests.find(key)
            findings["orders that nobody requested"].note(
                request is None or _differs(order, request), example
            )
            findings["two orders for one key"].note(key in seen, example)
            seen.add(key)
            wrong = [each for each in self._acknowledged.get(key, ()) if each.contradicts(order)]
            findings["orders that contradict an acknowledgement"].note(
                bool(wrong), f"{example}, but acknowledged as {wrong}"
            )
            refused = request is not None and not may_be_charged(request)
            findings["orders charged though declined or not approved"].note(
                refused and order.state in _CHARGED, example
            )
        for key in self._acknowledged:
            findings["acknowledged orders lost"].note(key not in seen, f"key {key}")


def check_stock(
    orders: Iterable[order_pb2.Order],
    returned: Mapping[str, int],
    products: Iterable[product_pb2.Product],
    catalogue: Catalogue,
    findings: Findings,
) -> None:
    """Compare the units that were bought, returned and delivered with the stock."""
    sold: Counter[str] = Counter()
    sold.subtract(returned)
    for order in orders:
        if order.state in _CHARGED:
            for line in order.lines:
                sold[line.product_id] += line.quantity
    for product in products:
        stocked, bought = catalogue.stocked[product.product_id], sold[product.product_id]
        example = f"{product.product_id}: {bought} sold of {stocked}, but {product.stock}"
        findings["products oversold"].note(bought > stocked, example)
        stock = (product.stock.stocked, product.stock.sold, product.stock.reserved)
        findings["products with other stock than was sold and delivered"].note(
            stock != (stocked, bought, 0), example
        )


def is_active(order: order_pb2.Order) -> bool:
    """Return whether the order is not final yet."""
    return order.state in _ACTIVE


def acknowledge(order: order_pb2.Order) -> Acknowledgement:
    """Return what a response that is an order acknowledges."""
    return Acknowledgement(order.order_id, order.state, total_minor=_total_minor(order))


def _total_minor(order: order_pb2.Order) -> int | None:
    return parse_money(order.total, "total").minor if order.HasField("total") else None


def _differs(order: order_pb2.Order, request: order_pb2.CreateOrderRequest) -> bool:
    ordered = [(line.product_id, line.quantity) for line in order.lines]
    return order.user_id != request.user_id or ordered != [
        (line.product_id, line.quantity) for line in request.lines
    ]


def _describe(order: order_pb2.Order) -> str:
    state = _STATES.Name(order.state).removeprefix("ORDER_STATE_")
    return f"order {order.order_id} with key {order.idempotency_key} is {state}"
