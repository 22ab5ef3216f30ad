"""Responses for web pages of other origins (the CORS protocol of the Fetch standard)."""

from collections.abc import Collection
from typing import Any

import falcon

EXPOSED_HEADERS = (
    "Allow, ETag, Idempotent-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After,"
    " X-Request-Id"
)
"""The headers that a page may read in addition to those that the standard exposes always."""


class CrossOrigin(falcon.CORSMiddleware[Any, Any]):
    """Falcon's middleware, with a Vary header where responses depend on the origin."""

    def __init__(self, origins: Collection[str]) -> None:
        every = "*" in origins
        # Pages of named origins may use cookies; those of any origin get none.
        credentials = None if every else origins
        super().__init__("*" if every else origins, EXPOSED_HEADERS, credentials)
        self._varies = not every

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,
        req_succeeded: bool,
    ) -> None:
        """Add the headers of the protocol."""
        super().process_response(req, resp, resource, req_succeeded)
        if self._varies:
            resp.append_header("Vary", "Origin")
