"""A small catalogue and a user, put into the shop through its REST API as anybody would.

What is there already, by SKU or e-mail address, is left as it is.
"""

import http.client
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 30


class SeedError(Exception):
    """The shop refused a resource or did not respond; the message has its response."""


def load(host: str, port: int) -> str:
    """Add what is missing and return, for people, how much that was.

    Raises:
        SeedError: The shop refused a resource, or did not respond.
    """
    catalogue = json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    counts = []
    try:
        for collection, resources in catalogue.items():
            created = [_create(connection, f"/v1/{collection}", each) for each in resources]
            counts.append(f"{sum(created)} of {len(created)} {collection}")
    except (OSError, http.client.HTTPException) as error:
        raise SeedError(f"the gateway did not respond: {error!r}") from error
    finally:
        connection.close()
    return ", ".join(counts) + " added"


def _create(connection: http.client.HTTPConnection, path: str, resource: dict[str, Any]) -> bool:
    """Create a resource; return False if it is there already."""
    headers = {"Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(resource), headers)
    response = connection.getresponse()
    body = response.read().decode(errors="replace")
    if response.status == HTTPStatus.CONFLICT:
        return False
    if response.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        raise SeedError(f"the response to POST {path} is {response.status}: {body}")
    return True
