"""How the columns of the tables `orders` and `order_lines` map to orders."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from chassis.money import Amount
from services.order.domain import Line, Order, PaymentAction, Refusal, State

_PLAIN: tuple[LiteralString, ...] = (
    "order_id",
    "user_id",
    "idempotency_key",
    "request_hash",
    "payment_method",
    "create_time",
    "update_time",
    "version",
    "payment_id",
    "manual_capture",
    "refunded_minor",
    "pending_refunds",
)
"""The columns that are the fields of `Order` with the same names."""

# In the order of the parameters of `to_order`.
SELECT: LiteralString = (
    "SELECT product_ids, quantities, prices_minor, state, total_minor, currency_code,"
    " refusal_reason, refusal_message, refusal_metadata,"
    " action_redirect_url, action_client_secret, action_expire_time, action_expire_time <= now(),"
    f" {', '.join(_PLAIN)} FROM orders JOIN LATERAL ("
    " SELECT array_agg(product_id ORDER BY line_number) AS product_ids,"
    " array_agg(quantity ORDER BY line_number) AS quantities,"
    " array_agg(unit_price_minor ORDER BY line_number) AS prices_minor"
    " FROM order_lines WHERE order_lines.order_id = orders.order_id) AS lines ON true"
)


def to_order(
    product_ids: Sequence[uuid.UUID],
    quantities: Sequence[int],
    prices_minor: Sequence[int | None],
    state: str,
    total_minor: int | None,
    currency_code: str,
    refusal_reason: str | None,
    refusal_message: str,
    refusal_metadata: Mapping[str, str],
    redirect_url: str | None,
    client_secret: str,
    expire_time: dt.datetime,
    is_expired: bool,
    *plain: Any,
) -> Order:
    """Return the order of a row of `SELECT`."""
    return Order(
        **dict(zip(_PLAIN, plain, strict=True)),
        lines=tuple(map(Line, product_ids, quantities, prices_minor)),
        state=State(state),
        total=None if total_minor is None else Amount(total_minor, currency_code),
        refusal=_to_refusal(refusal_reason, refusal_message, refusal_metadata),
        action=_to_action(redirect_url, client_secret, expire_time, is_expired),
    )


def to_parameters(orders: Sequence[Order]) -> Mapping[str, object]:
    """Return the columns of orders, an array each, as the parameters of a statement."""
    totals = [order.total for order in orders]
    refusals = [order.refusal for order in orders]
    actions = [order.action for order in orders]
    return {
        "order_ids": [order.order_id for order in orders],
        "versions": [order.version for order in orders],
        "states": [str(order.state) for order in orders],
        "currency_codes": [total and total.currency_code for total in totals],
        "totals_minor": [total and total.minor for total in totals],
        "payment_ids": [order.payment_id for order in orders],
        "reasons": [refusal and refusal.reason for refusal in refusals],
        "messages": [refusal and refusal.message for refusal in refusals],
        "metadatas": [refusal and Jsonb(dict(refusal.metadata)) for refusal in refusals],
        "prices": [_to_prices(order) for order in orders],
        "redirect_urls": [action and action.redirect_url for action in actions],
        "client_secrets": [action and action.client_secret for action in actions],
    }


def _to_refusal(reason: str | None, message: str, metadata: Mapping[str, str]) -> Refusal | None:
    return None if reason is None else Refusal(reason, message, metadata)


def _to_action(url: str | None, secret: str, *expiry: Any) -> PaymentAction | None:
    return None if url is None else PaymentAction(url, secret, *expiry)


def _to_prices(order: Order) -> str | None:
    """Return the prices of an order that becomes PAYING as an array literal of PostgreSQL."""
    if order.state is not State.PAYING:
        return None
    return "{" + ",".join(str(line.unit_price_minor) for line in order.lines) + "}"
