"""What all calls of the REST APIs have in common: their bodies, their ids and their responses."""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import Any

import falcon
import falcon.asgi

from tools.fakes.paypal.errors import PayPalError, invalid
from tools.fakes.paypal.idempotency_keys import MAX_LENGTH, IdempotencyKeys
from tools.fakes.paypal.representations import Json, minimize


async def read_object(req: falcon.asgi.Request) -> Mapping[str, Any]:
    """Return the JSON object in the body; an empty body is an empty object."""
    if req.content_type != falcon.MEDIA_JSON:
        raise PayPalError(415, "UNSUPPORTED_MEDIA_TYPE")
    body = await req.stream.read()
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise invalid("MALFORMED_REQUEST_JSON", "The body is no JSON.") from error
    if not isinstance(value, dict):
        raise invalid("MALFORMED_REQUEST_JSON", "The body is no JSON object.")
    return value


def make_once(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    keys: IdempotencyKeys,
    lifetime: dt.timedelta,
    make: Callable[[], Callable[[], Json]],
) -> None:
    """Respond with what `make` makes, or what the call with this PayPal-Request-Id has made.

    `make` returns a function that shows the latest state of what it has made.
    """
    request_id = req.get_header("PayPal-Request-Id", default="")
    if len(request_id) > MAX_LENGTH:
        raise invalid("INVALID_STRING_LENGTH", "PayPal-Request-Id is too long.")
    call = f"{req.method} {req.path}"
    show = keys.find(call, request_id)
    if show is None:
        show = make()
        keys.store(call, request_id, lifetime, show)
    resource = show()
    complete = req.get_header("Prefer") == "return=representation"
    resp.media = resource if complete else minimize(resource)
    resp.status = falcon.HTTP_201
