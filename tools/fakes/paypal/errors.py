"""What PayPal refuses, as its error responses say it.

https://developer.paypal.com/api/rest/responses/
"""

import uuid
from typing import Any


class PayPalError(Exception):
    """A call that is refused: the HTTP status, PayPal's name of the error, and the issue."""

    def __init__(
        self, status: int, name: str, issue: str = "", description: str = "", link: str = ""
    ) -> None:
        super().__init__(issue or name)
        self.status = status
        self.name = name
        self.issue = issue
        self.description = description
        self.link = link
        """Where the payer has to go, if that would help."""


def unprocessable(issue: str, link: str = "") -> PayPalError:
    """Return the error of what breaks a business rule."""
    return PayPalError(422, "UNPROCESSABLE_ENTITY", issue, link=link)


def invalid(issue: str, description: str) -> PayPalError:
    """Return the error of a malformed request."""
    return PayPalError(400, "INVALID_REQUEST", issue, description)


def not_found() -> PayPalError:
    """Return the error of an unknown or expired id."""
    description = "Specified resource ID does not exist. Please check the ID and try again."
    return PayPalError(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID", description)


def make_error(status: int) -> dict[str, Any]:
    """Return the body of an error that is about no field of the request."""
    names = {
        401: "AUTHENTICATION_FAILURE",
        409: "RESOURCE_CONFLICT",
        429: "RATE_LIMIT_REACHED",
    }
    return render(PayPalError(status, names.get(status, "INTERNAL_SERVER_ERROR")))


def render(error: PayPalError) -> dict[str, Any]:
    """Return the body of an error response."""
    detail = {"issue": error.issue, "description": error.description or error.issue}
    link = {"href": error.link, "rel": "payer-action", "method": "GET"}
    return {
        "name": error.name,
        "message": error.description or error.name,
        "debug_id": uuid.uuid4().hex[:13],
        "details": [detail] if error.issue else [],
        "links": [link] if error.link else [],
    }
