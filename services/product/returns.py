"""Returns: units that were sold to an order and go back into stock. No I/O, no clock, no protobuf.

A return is identified by its order and its number. A repeated request returns nothing again.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chassis import errors
from chassis.violations import Violations
from services.product.reservation import Line

ReturnKey = tuple[uuid.UUID, int]
"""The order and the number of a return."""
Units = Mapping[uuid.UUID, int]
"""Numbers of units by product id."""


@dataclass(frozen=True, slots=True)
class Return:
    """Units of one order that are returned. `number` counts the returns of the order."""

    order_id: uuid.UUID
    number: int
    lines: tuple[Line, ...]

    @property
    def key(self) -> ReturnKey:
        """The order and the number."""
        return self.order_id, self.number

    @property
    def units(self) -> dict[uuid.UUID, int]:
        """The units by product id."""
        return {line.product_id: line.quantity for line in self.lines}


def check_returns(returns: Sequence[Return]) -> None:
    """Check what the proto does not state of a batch of returns.

    Raises:
        errors.InvalidArgument: a return is repeated.
        errors.Unprocessable: a product is repeated in a return.
    """
    if len({each.key for each in returns}) < len(returns):
        raise errors.InvalidArgument("DUPLICATE_RETURN", "A return is repeated in the batch.")
    violations = Violations()
    for index, each in enumerate(returns):
        distinct = len(each.units) == len(each.lines)
        violations.check(distinct, f"returns[{index}].lines", "must not repeat a product")
    violations.raise_any()


def find_errors(
    returns: Sequence[Return],
    recorded: Mapping[ReturnKey, Units],
    sold: Mapping[uuid.UUID, Units],
    returned: Mapping[uuid.UUID, Units],
) -> dict[ReturnKey, errors.Error]:
    """Return why some of the returns cannot be made; each reduces what is left for the next.

    `recorded` are those that were made before. `sold` are the units of the orders whose stock is
    sold, and `returned` those of them that were returned before; the orders must be locked.
    """
    found: dict[ReturnKey, errors.Error] = {}
    left = {order_id: Counter(units) for order_id, units in sold.items()}
    for order_id, units in returned.items():
        left[order_id].subtract(units)
    for each in returns:
        if each.key in recorded:
            error = _check_repeated(each, recorded[each.key])
        else:
            error = _check_new(each, left.get(each.order_id))
        if error is not None:
            found[each.key] = error
        elif each.key not in recorded:
            left[each.order_id].subtract(each.units)
    return found


def _check_repeated(repeated: Return, recorded: Units) -> errors.Error | None:
    if repeated.units == recorded:
        return None
    message = "The number was used for a return of other units."
    return errors.KeyReused("RETURN_DIFFERS", message, metadata=_metadata(repeated))


def _check_new(new: Return, left: Units | None) -> errors.Error | None:
    if left is None:
        message = "The stock of the order is not sold."
        return errors.FailedPrecondition("ORDER_NOT_COMMITTED", message, metadata=_metadata(new))
    for line in new.lines:
        if left.get(line.product_id, 0) < line.quantity:
            message = "More units of a product are returned than were sold to the order."
            metadata = {**_metadata(new), "product_id": str(line.product_id)}
            return errors.FailedPrecondition("RETURN_EXCEEDS_SALE", message, metadata=metadata)
    return None


def _metadata(each: Return) -> dict[str, str]:
    return {"order_id": str(each.order_id), "number": str(each.number)}
