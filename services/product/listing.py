"""Queries of product lists: filter, search, order and position. No SQL."""

import enum
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from chassis import errors, paging
from chassis.money import MINOR_DIGITS
from chassis.paging import Position
from services.product import filter as filters
from services.product.domain import Product
from services.product.filter import Comparison

Key = tuple[str | Decimal | uuid.UUID, ...]
"""The values of a product that a list is ordered by, which are unique."""


class Column(enum.StrEnum):
    """The fields that a list can be ordered by."""

    CREATE_TIME = "create_time"
    NAME = "name"
    SKU = "sku"
    PRICE = "price"


_KEYS: dict[Column, Callable[[Product], Key]] = {
    Column.CREATE_TIME: lambda product: (product.product_id,),  # UUIDv7 begins with the time.
    Column.NAME: lambda product: (product.details.name, product.product_id),
    Column.SKU: lambda product: (product.details.sku,),
    Column.PRICE: lambda product: (_price_units(product), product.product_id),
}
_PRICE = re.compile(r"[0-9]{1,19}(\.[0-9]{1,4})?")
_TEXT = re.compile(r"[^\x00\ud800-\udfff]*")
"""What PostgreSQL allows in text: a damaged token may contain any string of JSON."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A parsed query. Empty `words` match every product."""

    comparisons: tuple[Comparison, ...]
    words: str
    column: Column
    descending: bool

    def position_of(self, product: Product) -> Position:
        """Return the position of a product in the list."""
        return [str(value) for value in _KEYS[self.column](product)]


def parse_listing(filter_text: str, search: str, order_by: str) -> Listing:
    """Parse a query.

    Raises:
        errors.InvalidArgument: the filter or the order is invalid.
    """
    column, descending = _parse_order(order_by)
    return Listing(filters.parse(filter_text), search.strip(), column, descending)


def parse_key(position: Position, column: Column) -> Key:
    """Parse a position of `Listing.position_of`.

    Raises:
        errors.InvalidArgument: it is not a position in a list of this order.
    """
    match column, list(position):
        case Column.CREATE_TIME, [product_id]:
            return (paging.parse_id(product_id),)
        case Column.NAME, [name, product_id] if _TEXT.fullmatch(name):
            return (name, paging.parse_id(product_id))
        case Column.SKU, [sku] if _TEXT.fullmatch(sku):
            return (sku,)
        case Column.PRICE, [price, product_id] if _PRICE.fullmatch(price):
            return (Decimal(price), paging.parse_id(product_id))
    raise paging.invalid_token()


def _price_units(product: Product) -> Decimal:
    price = product.details.price
    return Decimal(price.minor).scaleb(-MINOR_DIGITS[price.currency_code])


def _parse_order(order_by: str) -> tuple[Column, bool]:
    name, *direction = order_by.split() or [Column.CREATE_TIME]
    if name not in list(Column) or direction not in ([], ["asc"], ["desc"]):
        rule = f'must be one of {", ".join(Column)}, with " desc" for descending'
        violation = errors.Violation("order_by", rule)
        raise errors.InvalidArgument("INVALID_ORDER_BY", violations=[violation])
    return Column(name), direction == ["desc"]
