"""The JSON of resources, as the references of Orders v2 and Payments v2 show it.

`base` is the URL of the server, for links.
"""

from typing import Any

from tools.fakes.paypal.clock import to_text
from tools.fakes.paypal.resources import Authorization, Capture, Order, Refund

Json = dict[str, Any]


def payer_link(order_id: str, base: str) -> str:
    """Return the URL of the page on which the payer approves an order."""
    return f"{base}/checkoutnow?token={order_id}"


def show_order(order: Order, base: str) -> Json:
    """Return an order."""
    unit: Json = {
        "reference_id": "default",
        "amount": order.amount.to_json(),
        "custom_id": order.custom_id,
        "invoice_id": order.invoice_id,
    }
    if order.authorizations or order.captures:
        unit["payments"] = _show_payments(order, base)
    return {
        "id": order.id,
        "intent": order.intent,
        "status": order.status,
        "purchase_units": [unit],
        "create_time": to_text(order.create_time),
        "links": _link_order(order, base),
    }


def _show_payments(order: Order, base: str) -> Json:
    shown = {
        "authorizations": [show_authorization(each, base) for each in order.authorizations],
        "captures": [show_capture(each, base) for each in order.captures],
        "refunds": [show_refund(each, base) for each in order.refunds],
    }
    return {name: resources for name, resources in shown.items() if resources}


def _link_order(order: Order, base: str) -> list[Json]:
    links = [_link("self", f"{base}/v2/checkout/orders/{order.id}")]
    if order.status in ("CREATED", "PAYER_ACTION_REQUIRED"):
        rel = "approve" if order.status == "CREATED" else "payer-action"
        links.append(_link(rel, payer_link(order.id, base)))
    if order.status in ("CREATED", "APPROVED"):
        action = order.intent.lower()
        url = f"{base}/v2/checkout/orders/{order.id}/{action}"
        links.append(_link(action, url, "POST"))
    return links


def show_authorization(authorization: Authorization, base: str) -> Json:
    """Return an authorization."""
    url = f"{base}/v2/payments/authorizations/{authorization.id}"
    order = authorization.order
    return {
        "id": authorization.id,
        "status": authorization.status,
        "amount": authorization.amount.to_json(),
        "custom_id": order.custom_id,
        "invoice_id": order.invoice_id,
        "supplementary_data": {"related_ids": {"order_id": order.id}},
        "create_time": to_text(authorization.create_time),
        "expiration_time": to_text(authorization.expiration_time),
        "links": [
            _link("self", url),
            _link("capture", f"{url}/capture", "POST"),
            _link("void", f"{url}/void", "POST"),
            _link("up", f"{base}/v2/checkout/orders/{order.id}"),
        ],
    }


def show_capture(capture: Capture, base: str) -> Json:
    """Return a capture."""
    url = f"{base}/v2/payments/captures/{capture.id}"
    return {
        "id": capture.id,
        "status": capture.status,
        "amount": capture.amount.to_json(),
        "final_capture": capture.final,
        "custom_id": capture.order.custom_id,
        "invoice_id": capture.invoice_id,
        "supplementary_data": {"related_ids": {"order_id": capture.order.id}},
        "create_time": to_text(capture.create_time),
        "links": [
            _link("self", url),
            _link("refund", f"{url}/refund", "POST"),
            _link("up", f"{base}/v2/checkout/orders/{capture.order.id}"),
        ],
    }


def show_refund(refund: Refund, base: str) -> Json:
    """Return a refund, which names its capture by a link only."""
    return {
        "id": refund.id,
        "status": refund.status,
        "amount": refund.amount.to_json(),
        "custom_id": refund.capture.order.custom_id,
        "invoice_id": refund.invoice_id,
        "create_time": to_text(refund.create_time),
        "links": [
            _link("self", f"{base}/v2/payments/refunds/{refund.id}"),
            _link("up", f"{base}/v2/payments/captures/{refund.capture.id}"),
        ],
    }


def minimize(resource: Json) -> Json:
    """Return what `Prefer: return=minimal` leaves of a resource; it is the default."""
    return {name: resource[name] for name in ("id", "status", "links")}


def _link(rel: str, href: str, method: str = "GET") -> Json:
    return {"rel": rel, "href": href, "method": method}
