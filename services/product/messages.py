"""Conversion between the messages of the product service and its domain."""

import math
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from google.protobuf import struct_pb2

from bazaar.product.v1 import product_pb2
from chassis import conversion, errors, status
from services.product import domain
from services.product.reservation import Line, ReservationRequest, ReservationResult
from services.product.returns import Return

MAX_RESERVATION_LINES = 50_000
"""The most lines of all reservations or returns of a request: the response with their prices is to
stay below `chassis.transport.MAX_MESSAGE_BYTES`."""


def parse_details(message: product_pb2.Product) -> domain.Details:
    """Convert the details of a product.

    Raises:
        errors.Unprocessable: the price or an attribute is invalid.
    """
    return domain.Details(
        sku=message.sku,
        name=message.name,
        description=message.description,
        categories=tuple(message.categories),
        price=conversion.parse_money(message.price, "price"),
        image_uri=message.image_uri,
        attributes=parse_struct(message.attributes),
    )


def to_message(product: domain.Product) -> product_pb2.Product:
    """Convert a product with its stock; the etag contains both."""
    message = product_pb2.Product()
    fill_message(message, product)
    return message


def fill_message(message: product_pb2.Product, product: domain.Product) -> None:
    """Convert a product into an empty message, such as a new item of a list."""
    details = product.details
    message.product_id = str(product.product_id)
    message.sku = details.sku
    message.name = details.name
    message.description = details.description
    message.categories.extend(details.categories)
    conversion.fill_money(message.price, details.price)
    stock = message.stock
    stock.available = product.stock.available
    stock.reserved = product.stock.reserved
    stock.sold = product.stock.sold
    stock.stocked = product.stock.stocked
    message.image_uri = details.image_uri
    if details.attributes:
        _fill_struct(message.attributes, details.attributes)
    message.etag = product.etag
    message.create_time.CopyFrom(conversion.to_timestamp(product.create_time))
    message.update_time.CopyFrom(conversion.to_timestamp(product.update_time))


def parse_adjustment(
    request: product_pb2.AdjustStockRequest, idempotency_key: str
) -> domain.Adjustment:
    """Convert an adjustment, without checking it."""
    product_id = uuid.UUID(request.product_id)
    return domain.Adjustment(product_id, request.delta, request.reason, idempotency_key)


def parse_requests(request: product_pb2.ReserveStockRequest) -> list[ReservationRequest]:
    """Convert requests, in order.

    Raises:
        errors.InvalidArgument: they have too many lines.
    """
    _check_lines("reservations", request.reservations)
    return [_parse_request(item) for item in request.reservations]


def parse_returns(request: product_pb2.ReturnStockRequest) -> list[Return]:
    """Convert returns, in order.

    Raises:
        errors.InvalidArgument: they have too many lines.
    """
    _check_lines("returns", request.returns)
    return [
        Return(uuid.UUID(item.order_id), item.number, _parse_lines(item.lines))
        for item in request.returns
    ]


def to_return_result(
    request: Return, error: errors.Error | None
) -> product_pb2.ReturnStockResponse.Result:
    """Convert the result of a return."""
    message = product_pb2.ReturnStockResponse.Result(
        order_id=str(request.order_id), number=request.number
    )
    if error is not None:
        message.error.CopyFrom(status.to_status(error))
    return message


def to_result(result: ReservationResult) -> product_pb2.ReservationResult:
    """Convert the result of a step for an order."""
    message = product_pb2.ReservationResult(order_id=str(result.order_id))
    if result.state is not None:
        message.state = product_pb2.ReservationState.Value(f"RESERVATION_STATE_{result.state}")
    for line in result.lines:
        priced = message.lines.add(product_id=str(line.product_id))
        conversion.fill_money(priced.unit_price, line.price)
    if result.error is not None:
        message.error.CopyFrom(status.to_status(result.error))
    return message


def parse_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Convert a Struct to a JSON object; a double without a fraction becomes an int: 3, not 3.0.

    Raises:
        errors.Unprocessable: it contains NUL, which jsonb does not allow, or NaN or an infinity.
    """
    return {_check_text(key): _parse_value(value) for key, value in struct.fields.items()}


def _parse_request(message: product_pb2.ReserveStockRequest.Reservation) -> ReservationRequest:
    return ReservationRequest(uuid.UUID(message.order_id), _parse_lines(message.lines))


def _parse_lines(lines: Iterable[product_pb2.StockLine]) -> tuple[Line, ...]:
    return tuple(Line(uuid.UUID(line.product_id), line.quantity) for line in lines)


def _check_lines(
    field: str,
    items: Iterable[
        product_pb2.ReserveStockRequest.Reservation | product_pb2.ReturnStockRequest.Return
    ],
) -> None:
    if sum(len(item.lines) for item in items) > MAX_RESERVATION_LINES:
        message = f"{field} have more than {MAX_RESERVATION_LINES} lines together"
        raise errors.InvalidArgument("BATCH_TOO_LARGE", message)


def _parse_value(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return _check_text(value.string_value)
        case "number_value":
            return _parse_number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return parse_struct(value.struct_value)
        case "list_value":
            return [_parse_value(item) for item in value.list_value.values]
        case _:
            return None


def _parse_number(number: float) -> int | float:
    if not math.isfinite(number):
        _reject_attributes("must not contain NaN or an infinity")
    return domain.simplify_number(number)


def _check_text(text: str) -> str:
    if "\x00" in text:
        _reject_attributes("must not contain NUL")
    return text


def _reject_attributes(rule: str) -> NoReturn:
    violation = errors.Violation("attributes", rule)
    raise errors.Unprocessable("INVALID_FIELD", violations=[violation])


def _fill_struct(struct: struct_pb2.Struct, attributes: Mapping[str, Any]) -> None:
    fields = struct.fields
    for key, value in attributes.items():
        _fill_value(fields[key], value)


def _fill_value(message: struct_pb2.Value, value: Any) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int | float):
        message.number_value = value
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        _fill_struct(message.struct_value, value)
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:
            _fill_value(message.list_value.values.add(), item)
    else:
        message.null_value = struct_pb2.NULL_VALUE
