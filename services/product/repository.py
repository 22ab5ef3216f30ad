"""The SQL of the catalogue. Takes a connection, returns domain objects, never commits.

The SQL of the stock is in `stock_repository`.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import orjson
import psycopg

from chassis import errors
from chassis.database import Connection
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


async def insert_products(
    connection: Connection, products: Sequence[tuple[Details, int]]
) -> list[Product]:
    """Insert products with their opening stock, all or none; return them in the same order.

    Raises:
        errors.AlreadyExists: a SKU is taken.
    """
    ids = await _new_ids(connection, len(products))
    details = [item for item, _ in products]
    await _insert_details(connection, ids, details)
    await connection.execute(
        "WITH opening AS (SELECT * FROM unnest(%s::uuid[], %s::bigint[]) AS o (product_id, units)),"
        " recorded AS (INSERT INTO stock_adjustments (product_id, delta, reason)"
        "  SELECT product_id, units, 'opening stock' FROM opening WHERE units <> 0)"
        " INSERT INTO stock (product_id, available, stocked)"
        " SELECT product_id, units, units FROM opening",
        (ids, [units for _, units in products]),
    )
    found = {product.product_id: product for product in await get_products(connection, ids)}
    return [found[product_id] for product_id in ids]


async def get_products(
    connection: Connection, product_ids: Sequence[uuid.UUID], *, lock: bool = False
) -> list[Product]:
    """Get those of the products that exist, by id.

    `lock` keeps their details, and not their stock, until the transaction ends.
    """
    cursor = connection.cursor(binary=True)
    await cursor.execute(
        f"SELECT {_COLUMNS} FROM unnest(%b::uuid[]) AS wanted (product_id)"
        f" JOIN {_JOIN} USING (product_id)" + (" FOR UPDATE OF p" if lock else ""),
        (list(set(product_ids)),),
    )
    return [_to_product(row) for row in await cursor.fetchall()]


async def list_products(
    connection: Connection, listing: Listing, after: Key | None, limit: int
) -> list[Product]:
    """List products in the order of the listing, beginning after a key: at most `limit`."""
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
    cursor = connection.cursor(binary=True)
    await cursor.execute(
        f"SELECT {_COLUMNS} FROM {_JOIN}{where} ORDER BY {order} LIMIT %s", (*parameters, limit)
    )
    return [_to_product(row) for row in await cursor.fetchall()]


async def update_details(connection: Connection, product_id: uuid.UUID, details: Details) -> None:
    """Replace the details of a product that is locked.

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
    """Delete a product with its stock, which is locked."""
    await connection.execute("DELETE FROM products WHERE product_id = %s", (product_id,))


async def _new_ids(connection: Connection, count: int) -> list[uuid.UUID]:
    cursor = await connection.execute("SELECT uuidv7() FROM generate_series(1, %s)", (count,))
    return [row[0] for row in await cursor.fetchall()]


async def _insert_details(
    connection: Connection, ids: Sequence[uuid.UUID], details: Sequence[Details]
) -> None:
    try:
        await connection.execute(
            "INSERT INTO products (product_id, sku, name, description, categories, price_minor,"
            " currency_code, currency_digits, image_uri, attributes)"
            " SELECT product_id, sku, name, description,"
            # To PostgreSQL arrays of different lengths make no array: each travels as JSON.
            " ARRAY(SELECT jsonb_array_elements_text(categories)), price_minor,"
            " currency_code, currency_digits, image_uri, attributes"
            " FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::jsonb[],"
            " %s::bigint[], %s::text[], %s::integer[], %s::text[], %s::jsonb[])"
            " AS d (product_id, sku, name, description, categories,"
            " price_minor, currency_code, currency_digits, image_uri, attributes)",
            (
                list(ids),
                [item.sku for item in details],
                [item.name for item in details],
                [item.description for item in details],
                [_to_json(item.categories) for item in details],
                [item.price.minor for item in details],
                [item.price.currency_code for item in details],
                [MINOR_DIGITS[item.price.currency_code] for item in details],
                [item.image_uri for item in details],
                [_to_json(item.attributes) for item in details],
            ),
        )
    except psycopg.errors.UniqueViolation as error:
        raise _sku_taken() from error


def _conditions(listing: Listing) -> tuple[list[str], list[Any]]:
    """Return SQL conditions, which hold no value of the query, and the parameters in them."""
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
    """Return the smallest attributes that satisfy a comparison: what the others must contain."""
    document: Any = [comparison.value] if comparison.operator == ":" else comparison.value
    for key in reversed(comparison.path):
        document = {key: document}
    found: Mapping[str, Any] = document
    return found


def _sku_taken() -> errors.AlreadyExists:
    return errors.AlreadyExists("SKU_TAKEN", "There is a product with this SKU already.")


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _to_product(row: tuple[Any, ...]) -> Product:
    (
        product_id,
        sku,
        name,
        description,
        categories,
        price_minor,
        currency_code,
        image_uri,
        attributes,
        version,
        create_time,
        update_time,
        *stock,
    ) = row
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
