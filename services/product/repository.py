"""All SQL of products. Callers own the connections and their transactions.

The SQL of stock and reservations is in `stock_repository`.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import orjson
import psycopg

from chassis import errors, idempotency
from chassis.database import Connection, fetch
from chassis.idempotency import RepeatableRequest
from chassis.money import MINOR_DIGITS, Amount
from services.product.domain import Details, Product, Stock
from services.product.filter import Comparison
from services.product.listing import Column, Key, Listing

_COLUMNS: LiteralString = (
    "p.product_id, p.sku, p.name, p.description, p.categories, p.price_minor, p.currency_code,"
    " p.image_uri, p.attributes::text, p.version, p.create_time, p.update_time,"
    " s.available, s.reserved, s.sold, s.stocked"
)
_JOIN: LiteralString = "products p JOIN stock s USING (product_id)"
# A CTE that calls a volatile function is evaluated once, row by row: ids ascend in request order.
_INSERT: LiteralString = f"""
WITH new AS MATERIALIZED (
    SELECT uuidv7() AS product_id, * FROM unnest(
        %(skus)s::text[], %(names)s::text[], %(descriptions)s::text[], %(categories)s::jsonb[],
        %(prices_minor)s::bigint[], %(currency_codes)s::text[], %(currency_digits)s::integer[],
        %(image_uris)s::text[], %(attributes)s::jsonb[], %(creator_ids)s::uuid[],
        %(idempotency_keys)s::text[], %(request_hashes)s::bytea[], %(units)s::bigint[]
    ) AS new (sku, name, description, categories, price_minor, currency_code, currency_digits,
              image_uri, attributes, creator_id, idempotency_key, request_hash, units)
), p AS (
    INSERT INTO products (product_id, sku, name, description, categories, price_minor,
                          currency_code, currency_digits, image_uri, attributes, creator_id,
                          idempotency_key, request_hash)
    -- PostgreSQL cannot make an array of arrays of different lengths: each travels as JSON.
    SELECT product_id, sku, name, description, ARRAY(SELECT jsonb_array_elements_text(categories)),
           price_minor, currency_code, currency_digits, image_uri, attributes, creator_id,
           idempotency_key, request_hash
    FROM new
    ON CONFLICT DO NOTHING
    RETURNING *
), s AS (
    INSERT INTO stock (product_id, available, stocked)
    SELECT product_id, units, units FROM p JOIN new USING (product_id)
    RETURNING *
), opening AS (
    INSERT INTO stock_adjustments (product_id, delta, reason)
    SELECT product_id, units, 'opening stock' FROM p JOIN new USING (product_id) WHERE units <> 0
)
SELECT {_COLUMNS} FROM p JOIN s USING (product_id) ORDER BY product_id
"""
_KEYS: dict[Column, Sequence[tuple[LiteralString, LiteralString]]] = {
    Column.CREATE_TIME: [("p.product_id", "uuid")],
    Column.NAME: [("p.name", "text"), ("p.product_id", "uuid")],
    Column.SKU: [("p.sku", "text")],
    Column.PRICE: [("p.price_units", "numeric"), ("p.product_id", "uuid")],
}
_FIELDS: dict[str, LiteralString] = {
    "sku": "p.sku",
    "name": "p.name",
    "currency_code": "p.currency_code",
    "price": "p.price_units",
    "available": "s.available",
}
_OPERATORS: dict[str, LiteralString] = {
    "=": " = %s",
    "!=": " <> %s",
    "<": " < %s",
    "<=": " <= %s",
    ">": " > %s",
    ">=": " >= %s",
}


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to insert."""

    details: Details
    units: int
    """Its opening stock."""
    request: RepeatableRequest | None = None
    """The request that adds it, if that has an idempotency key."""


async def insert_products(connection: Connection, products: Sequence[NewProduct]) -> list[Product]:
    """Insert products with their opening stock; return them in order.

    Those whose SKU is taken, or whose request was performed before, are left out.
    """
    details = [product.details for product in products]
    requests = [product.request for product in products]
    return await fetch(
        connection,
        _to_product,
        _INSERT,
        {
            "skus": [item.sku for item in details],
            "names": [item.name for item in details],
            "descriptions": [item.description for item in details],
            "categories": [_to_json(item.categories) for item in details],
            "prices_minor": [item.price.minor for item in details],
            "currency_codes": [item.price.currency_code for item in details],
            "currency_digits": [MINOR_DIGITS[item.price.currency_code] for item in details],
            "image_uris": [item.image_uri for item in details],
            "attributes": [_to_json(item.attributes) for item in details],
            "creator_ids": [each and each.user_id for each in requests],
            "idempotency_keys": [each and each.idempotency_key for each in requests],
            "request_hashes": [each and each.request_hash for each in requests],
            "units": [product.units for product in products],
        },
    )


async def get_added_product(connection: Connection, request: RepeatableRequest | None) -> Product:
    """Get the product that a request has added, which was left out when it was repeated.

    Raises:
        errors.AlreadyExists: it has added none, because the SKU is taken.
        errors.KeyReused: the product was added by another request with the same key.
    """
    product_id = await idempotency.find_made(
        connection, "SELECT product_id, request_hash FROM products", request
    )
    if product_id is None:
        raise _sku_taken()
    return await get_product(connection, product_id)


async def get_product(
    connection: Connection, product_id: uuid.UUID, *, lock: bool = False
) -> Product:
    """Get a product; `lock` locks its details, and not its stock, until the transaction ends.

    Raises:
        errors.NotFound: the product does not exist.
    """
    found = await get_products(connection, [product_id], lock=lock)
    if not found:
        raise errors.not_found("product", product_id)
    return found[0]


async def get_products(
    connection: Connection, product_ids: Sequence[uuid.UUID], *, lock: bool = False
) -> list[Product]:
    """Get the existing ones of the products, in any order; `lock` is as for one."""
    return await fetch(
        connection,
        _to_product,
        f"SELECT {_COLUMNS} FROM unnest(%b::uuid[]) AS given (product_id)"
        f" JOIN {_JOIN} USING (product_id)" + (" FOR UPDATE OF p" if lock else ""),
        (list(set(product_ids)),),
    )


async def list_products(
    connection: Connection, listing: Listing, after: Key | None, limit: int
) -> list[Product]:
    """List at most `limit` products of a listing, in its order, after a key."""
    conditions, parameters = _conditions(listing)
    direction: LiteralString = " DESC" if listing.descending else ""
    keys = _KEYS[listing.column]
    if after is not None:
        names = ", ".join(name for name, _ in keys)
        values = ", ".join(f"%s::{kind}" for _, kind in keys)
        conditions.append(f"({names}) {'<' if listing.descending else '>'} ({values})")
        parameters += after
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(name + direction for name, _ in keys)
    return await fetch(
        connection,
        _to_product,
        f"SELECT {_COLUMNS} FROM {_JOIN}{where} ORDER BY {order} LIMIT %s",
        (*parameters, limit),
    )


async def update_details(connection: Connection, product_id: uuid.UUID, details: Details) -> None:
    """Replace the details of a product, which must be locked.

    Raises:
        errors.AlreadyExists: the SKU is taken.
    """
    try:
        await connection.execute(
            "UPDATE products SET sku = %s, name = %s, description = %s, categories = %s,"
            " price_minor = %s, currency_code = %s, currency_digits = %s, image_uri = %s,"
            " attributes = %s::jsonb, version = version + 1, update_time = now()"
            " WHERE product_id = %s",
            (
                details.sku,
                details.name,
                details.description,
                list(details.categories),
                details.price.minor,
                details.price.currency_code,
                MINOR_DIGITS[details.price.currency_code],
                details.image_uri,
                _to_json(details.attributes),
                product_id,
            ),
        )
    except psycopg.errors.UniqueViolation as error:
        raise _sku_taken() from error


async def delete_product(connection: Connection, product_id: uuid.UUID) -> None:
    """Delete a product with its stock, which must be locked."""
    await connection.execute("DELETE FROM products WHERE product_id = %s", (product_id,))


def _sku_taken() -> errors.AlreadyExists:
    return errors.AlreadyExists("SKU_TAKEN", "There is a product with this SKU already.")


def _conditions(listing: Listing) -> tuple[list[str], list[Any]]:
    """Return SQL conditions, which contain no value of the query, and their parameters."""
    conditions: list[str] = []
    parameters: list[Any] = []
    for comparison in listing.comparisons:
        condition, parameter = _condition(comparison)
        conditions.append(condition)
        parameters.append(parameter)
    if listing.words:
        conditions.append("p.search @@ websearch_to_tsquery('english_words', %s)")
        parameters.append(listing.words)
    return conditions, parameters


def _condition(comparison: Comparison) -> tuple[LiteralString, Any]:
    if comparison.field == "categories":
        return "p.categories @> %s::text[]", [comparison.value]
    if comparison.field == "attributes":
        condition: LiteralString = "p.attributes @> %s::jsonb"
        if comparison.operator == "!=":
            condition = f"NOT {condition}"
        return condition, _to_json(_document(comparison))
    return _FIELDS[comparison.field] + _OPERATORS[comparison.operator], comparison.value


def _document(comparison: Comparison) -> Mapping[str, Any]:
    """Return the attributes that those of a matching product contain."""
    document: Any = [comparison.value] if comparison.operator == ":" else comparison.value
    for key in reversed(comparison.path):
        document = {key: document}
    attributes: Mapping[str, Any] = document
    return attributes


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _to_product(
    product_id: uuid.UUID,
    sku: str,
    name: str,
    description: str,
    categories: Sequence[str],
    price_minor: int,
    currency_code: str,
    image_uri: str,
    attributes: str,
    version: int,
    create_time: dt.datetime,
    update_time: dt.datetime,
    *stock: int,
) -> Product:
    details = Details(
        sku,
        name,
        description,
        tuple(categories),
        Amount(price_minor, currency_code),
        image_uri,
        orjson.loads(attributes),
    )
    return Product(product_id, details, Stock(*stock), version, create_time, update_time)
