"""The orders of a run: each is decided by the seed of the run and its number alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from bazaar.order.v1 import order_pb2

MAX_LINES = 3
MAX_QUANTITY = 3
SCARCE_SHARE = 0.2
"""The share of lines that want a scarce product."""

MANUAL_CAPTURE = "sandbox:"
"""How payment methods begin whose payments are captured manually."""
_ACTION = "pm_sandbox_action"
PAYMENT_METHODS = {
    "pm_card_visa": 45,
    f"{MANUAL_CAPTURE}pm_card_visa": 15,
    _ACTION: 5,
    f"{MANUAL_CAPTURE}{_ACTION}": 5,
    "pm_sandbox_lost": 10,
    "pm_sandbox_duplicate": 5,
    "pm_card_declined": 10,
    "pm_card_insufficient_funds": 5,
}
"""The payment methods of orders, with their shares in percent."""
_DECLINED = frozenset({"pm_card_declined", "pm_card_insufficient_funds"})
APPROVAL_SHARE = 0.7
"""The share of payments that their customers approve if they are asked to."""


@dataclass(slots=True)
class Catalogue:
    """The users, and the products with all units of them that the shop has ever had."""

    user_ids: list[str]
    plentiful: list[str]
    scarce: list[str]
    stocked: dict[str, int]
    """Units by product id."""


def approves(request: order_pb2.CreateOrderRequest) -> bool:
    """Return whether the customer approves the payment of an order if asked to."""
    return Random(f"approval {request.idempotency_key}").random() < APPROVAL_SHARE


def may_be_charged(request: order_pb2.CreateOrderRequest) -> bool:
    """Return whether the payment of an order is neither declined nor left without approval."""
    method = request.payment_method.removeprefix(MANUAL_CAPTURE)
    return method not in _DECLINED and (method != _ACTION or approves(request))


class Orders:
    """Makes the requests of a run."""

    def __init__(self, seed: int, catalogue: Catalogue) -> None:
        self._seed = seed
        self._catalogue = catalogue

    def make(self, number: int) -> order_pb2.CreateOrderRequest:
        """Make the request for an order, which is the same whenever it is made."""
        random = Random(f"order {self._seed} {number}")
        methods, weights = list(PAYMENT_METHODS), list(PAYMENT_METHODS.values())
        return order_pb2.CreateOrderRequest(
            user_id=random.choice(self._catalogue.user_ids),
            idempotency_key=f"{self._seed}-{number}",
            payment_method=random.choices(methods, weights)[0],
            lines=[
                order_pb2.CreateOrderRequest.Line(
                    product_id=product_id, quantity=random.randint(1, MAX_QUANTITY)
                )
                for product_id in self._choose_products(random)
            ],
        )

    def find(self, idempotency_key: str) -> order_pb2.CreateOrderRequest | None:
        """Make the request with an idempotency key; return None if it is not of this run."""
        seed, _, number = idempotency_key.partition("-")
        if seed != str(self._seed) or not number.isdecimal():
            return None
        return self.make(int(number))

    def _choose_products(self, random: Random) -> Sequence[str]:
        scarce = sum(random.random() < SCARCE_SHARE for _ in range(random.randint(1, MAX_LINES)))
        plentiful = random.randint(0 if scarce else 1, MAX_LINES - scarce)
        return [
            *random.sample(self._catalogue.scarce, scarce),
            *random.sample(self._catalogue.plentiful, plentiful),
        ]
