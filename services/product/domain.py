"""Products and their stock, with the rules for changing them. No I/O, no clock, no protobuf.

Reservations of stock by orders are in `reservation`.
"""

import datetime as dt
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chassis import errors
from chassis.money import Amount
from chassis.violations import Violations

MAX_STOCK = 2_000_000_000
MAX_ATTRIBUTES_BYTES = 16 * 1024
MAX_EXACT = 2**53
"""Every whole number up to this is a double."""
UPDATABLE = frozenset(
    {"sku", "name", "description", "categories", "price", "image_uri", "attributes"}
)

_IMAGE_URI = re.compile(r"https?://[^\s/?#]+[^\s]*")


class OutOfStock(errors.FailedPrecondition):
    """Fewer units are available than are requested."""

    http_status = 409


@dataclass(frozen=True, slots=True)
class Details:
    """The fields of a product that clients write. `attributes` are a JSON object."""

    sku: str
    name: str
    description: str
    categories: tuple[str, ...]
    price: Amount
    image_uri: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stock:
    """Numbers of units; `available + reserved + sold == stocked`."""

    available: int
    reserved: int
    sold: int
    stocked: int


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the catalogue. `version` counts the changes of its details."""

    product_id: uuid.UUID
    details: Details
    stock: Stock
    version: int
    create_time: dt.datetime
    update_time: dt.datetime

    @property
    def etag(self) -> str:
        """A different one for every state that clients see: orders change stock, but no version."""
        stock = self.stock
        return f"{self.version}-{stock.available}-{stock.reserved}-{stock.sold}"


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Units that are added to the stock, or removed if `delta` is negative, other than by orders.

    A product is adjusted once per `idempotency_key` that is not empty.
    """

    product_id: uuid.UUID
    delta: int
    reason: str
    idempotency_key: str


def check_details(details: Details) -> Details:
    """Check what the proto does not state of the details of a product; return them in normal form.

    Raises:
        errors.Unprocessable: with a violation per invalid field.
    """
    violations = Violations()
    sku = violations.check_text(details.sku, "sku", 1, 64)
    name = violations.check_text(details.name, "name", 1, 200)
    description = violations.check_text(
        details.description, "description", 0, 10_000, multiline=True
    )
    categories = tuple(
        violations.check_text(category, f"categories[{index}]", 1, 100)
        for index, category in enumerate(details.categories)
    )
    image_uri = _check_image_uri(violations, details.image_uri)
    _check_attributes(violations, details.attributes)
    violations.raise_any()
    return replace(
        details,
        sku=sku,
        name=name,
        description=description,
        categories=categories,
        image_uri=image_uri,
    )


def check_etag(product: Product, etag: str) -> None:
    """Check that the details of a product have not changed since an etag, if it is not empty.

    An etag stays valid while only the stock changes: products sell while they are edited.

    Raises:
        errors.Aborted: the details have changed.
    """
    if etag and etag.partition("-")[0] != str(product.version):
        raise errors.Aborted("ETAG_MISMATCH", "The product was changed meanwhile: get it again.")


def is_changed(before: Details, after: Details) -> bool:
    """Return whether details differ in their stored form."""
    return replace(before, attributes={}) != replace(after, attributes={}) or (
        _to_canonical_json(before.attributes) != _to_canonical_json(after.attributes)
    )


def check_deletable(product_id: uuid.UUID, stock: Stock) -> None:
    """Check that no order has reserved a product.

    Raises:
        errors.FailedPrecondition: one has.
    """
    if stock.reserved:
        raise errors.FailedPrecondition(
            "PRODUCT_RESERVED",
            "An active order has reserved this product.",
            metadata={"product_id": str(product_id)},
        )


def check_adjustment(adjustment: Adjustment) -> Adjustment:
    """Check what the proto does not state of an adjustment, and return it in normal form.

    Raises:
        errors.Unprocessable: with a violation per invalid field.
    """
    violations = Violations()
    reason = violations.check_text(adjustment.reason, "reason", 0, 200)
    violations.raise_any()
    return replace(adjustment, reason=reason)


def adjust_stock(stock: Stock, adjustment: Adjustment) -> Stock:
    """Return the stock after an adjustment.

    Raises:
        OutOfStock: fewer units are available than are removed.
        errors.FailedPrecondition: there would be more than `MAX_STOCK`.
    """
    metadata = {"product_id": str(adjustment.product_id)}
    if stock.available + adjustment.delta < 0:
        message = "Fewer units are available than are to be removed."
        raise OutOfStock("OUT_OF_STOCK", message, metadata=metadata)
    if stock.stocked + adjustment.delta > MAX_STOCK:
        message = f"The stock of a product cannot exceed {MAX_STOCK} units."
        raise errors.FailedPrecondition("STOCK_LIMIT", message, metadata=metadata)
    return replace(
        stock,
        available=stock.available + adjustment.delta,
        stocked=stock.stocked + adjustment.delta,
    )


def check_repeated(adjustment: Adjustment, recorded: Adjustment) -> None:
    """Check that an adjustment is the recorded one with its idempotency key.

    Raises:
        errors.KeyReused: it is another one.
    """
    if adjustment != recorded:
        message = "This idempotency key was used for another adjustment."
        violation = errors.Violation("idempotency_key", "must not be used for two adjustments")
        raise errors.KeyReused("IDEMPOTENCY_KEY_REUSED", message, violations=[violation])


def simplify_number(number: float) -> int | float:
    """Return the number as attributes store it: an int if it is whole and exact as a double."""
    return int(number) if number.is_integer() and abs(number) <= MAX_EXACT else number


def _to_canonical_json(attributes: Mapping[str, Any]) -> str:
    # As in google.protobuf.Struct, all numbers are doubles. As JSON, 1 differs from true.
    doubles = json.loads(json.dumps(attributes), parse_int=float)
    return json.dumps(doubles, sort_keys=True)


def _check_image_uri(violations: Violations, image_uri: str) -> str:
    uri = violations.check_text(image_uri, "image_uri", 0, 2_000)
    violations.check(
        not uri or _IMAGE_URI.fullmatch(uri) is not None,
        "image_uri",
        "must be an http or https URI",
    )
    return uri


def _check_attributes(violations: Violations, attributes: Mapping[str, Any]) -> None:
    size = len(json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode())
    violations.check(
        size <= MAX_ATTRIBUTES_BYTES,
        "attributes",
        f"must be at most {MAX_ATTRIBUTES_BYTES} bytes as JSON",
    )
