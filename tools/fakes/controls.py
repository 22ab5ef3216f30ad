"""The controls that every fake has. No provider has them, and no fault happens to them.

PUT    /_fake/faults             the faults of the network: the fields of `Faults.set`, for example
                                 {"seed": 7, "rules": [{"kind": "lose_response", "nth": 1}]}
GET    /_fake/faults             how often each kind of fault has happened
PUT    /_fake/webhooks           the faults of webhooks: the fields of `WebhookFaults`, and "url"
DELETE /_fake/idempotency_keys   every idempotency key expires
"""

import re
from collections.abc import Sequence
from typing import Protocol

import falcon
import falcon.asgi

from tools.fakes.faults import CONTROL_PATH, Faults, Kind, Rule
from tools.fakes.webhooks import WebhookFaults, Webhooks

Router = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]


class IdempotencyKeys(Protocol):
    """The idempotency keys of a fake."""

    def expire_all(self) -> None:
        """Let every key expire."""


def add_controls(app: Router, faults: Faults, webhooks: Webhooks, keys: IdempotencyKeys) -> None:
    """Add the routes of the controls."""
    app.add_route(f"{CONTROL_PATH}faults", FaultsResource(faults))
    app.add_route(f"{CONTROL_PATH}webhooks", WebhooksResource(webhooks))
    app.add_route(f"{CONTROL_PATH}idempotency_keys", KeysResource(keys))


class FaultsResource:
    """The faults of the network."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Replace all rules."""
        body = await req.get_media()
        try:
            self._faults.set(*_parse_rules(body.get("rules", [])), seed=int(body.get("seed", 0)))
        except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
            raise falcon.HTTPBadRequest(description=str(error)) from error
        resp.status = falcon.HTTP_204

    async def on_get(self, _: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Return counts by kind."""
        resp.media = dict(self._faults.happened)


def _parse_rules(rules: Sequence[dict[str, object]]) -> list[Rule]:
    return [Rule(**{**rule, "kind": Kind(rule["kind"])}) for rule in rules]  # type: ignore[arg-type]


class WebhooksResource:
    """Where webhooks are sent, and their faults."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Set the faults, and the URL if there is one."""
        body = await req.get_media()
        try:
            url = str(body.pop("url", self._webhooks.url))
            faults = WebhookFaults(**body)
        except (AttributeError, TypeError) as error:
            raise falcon.HTTPBadRequest(description=str(error)) from error
        self._webhooks.url = url
        self._webhooks.set_faults(faults)
        resp.status = falcon.HTTP_204


class KeysResource:
    """The idempotency keys."""

    def __init__(self, keys: IdempotencyKeys) -> None:
        self._keys = keys

    async def on_delete(self, _: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Let every key expire."""
        self._keys.expire_all()
        resp.status = falcon.HTTP_204
