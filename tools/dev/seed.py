"""A small catalogue and a user, put into the shop through its REST API as an admin would.

What is there already, by SKU or e-mail address, is left as it is.
"""

import json
from pathlib import Path
from typing import Any

import httpx

from tools.client.auth import Bearer
from tools.client.session import LoginError, Session

_TIMEOUT_SECONDS = 30


class SeedError(Exception):
    """The shop refused a resource or did not respond; the message has its response."""


def load(url: str, admin: Session) -> str:
    """Add what is missing and return, for people, how much that was.

    Raises:
        SeedError: The shop refused the login or a resource, or did not respond.
    """
    catalogue = json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
    counts = []
    try:
        with httpx.Client(
            base_url=url, auth=Bearer(admin), timeout=_TIMEOUT_SECONDS, trust_env=False
        ) as client:
            for collection, resources in catalogue.items():
                created = [_create(client, f"/v1/{collection}", each) for each in resources]
                counts.append(f"{sum(created)} of {len(created)} {collection}")
    except LoginError as error:
        variables = "USERSERVICE_ADMIN_EMAIL and USERSERVICE_ADMIN_PASSWORD"
        raise SeedError(f"{error}\n{variables} are to be those of an admin.") from error
    except httpx.HTTPError as error:
        raise SeedError(f"the gateway did not respond: {error!r}") from error
    return ", ".join(counts) + " added"


def _create(client: httpx.Client, path: str, resource: dict[str, Any]) -> bool:
    """Create a resource; return False if it is there already."""
    response = client.post(path, json=resource)
    if response.status_code == httpx.codes.CONFLICT:
        return False
    if not response.is_success:
        raise SeedError(f"the response to POST {path} is {response.status_code}: {response.text}")
    return True
