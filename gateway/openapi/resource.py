"""/openapi.json: the document as it is served."""

import hashlib
from collections.abc import Mapping
from typing import Any

import falcon.asgi
import orjson

from gateway.http.conditions import parse_entity_tags
from gateway.http.media_types import JSON

PATH = "/openapi.json"


class OpenApi:
    """Serves one document, at GET and HEAD."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._data = orjson.dumps(document)
        # Weak, because the same document may be sent compressed (RFC 9110 §8.8.1).
        self._etag = f'W/"{hashlib.sha256(self._data).hexdigest()[:32]}"'

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Respond with the document, or 304 if the client has it (RFC 9110 §13.1.2).

        Raises:
            Problem: If-None-Match is malformed.
        """
        resp.set_headers({"ETag": self._etag, "Cache-Control": "no-cache"})
        known = req.get_header("If-None-Match")
        if known is not None and parse_entity_tags("If-None-Match", known).match_weakly(self._etag):
            resp.status = 304
        else:
            resp.data = self._data
            resp.content_type = JSON

    on_head = on_get
