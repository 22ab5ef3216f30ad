"""The page on which the customer approves a payment, in place of the bank's.

    GET  /_fake/actions/INTENT          for people
    POST /_fake/actions/INTENT          a form with `action`, approve or fail

Stripe sends the customer back to `return_url` with these parameters:
https://docs.stripe.com/payments/payment-intents/verifying-status
"""

from html import escape
from urllib.parse import urlencode

import falcon
import falcon.asgi

from tools.fakes.network import MAX_BODY_BYTES
from tools.fakes.stripe.operations import Operations

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class ApprovalPage:
    """The page, which is addressed by the id of the intent."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def on_get(self, _: Request, resp: Response, intent_id: str) -> None:
        """Ask the customer."""
        intent = self._operations.retrieve_intent(intent_id, "")
        resp.content_type = falcon.MEDIA_HTML
        resp.text = (
            f"<!DOCTYPE html><title>3-D Secure</title><h1>Pay {intent['amount']} minor units of"
            f" {escape(str(intent['currency']).upper())}?</h1><form method=post>"
            "<button name=action value=approve>Approve</button>"
            "<button name=action value=fail>Fail</button></form>"
        )

    async def on_post(self, req: Request, _: Response, intent_id: str) -> None:
        """Complete or fail the action, and redirect the customer to the shop."""
        action = (await req.stream.read(MAX_BODY_BYTES)).decode("utf-8", "replace")
        if action not in ("action=approve", "action=fail"):
            raise falcon.HTTPBadRequest(description="action must be approve or fail.")
        approved = action == "action=approve"
        before = self._operations.retrieve_intent(intent_id, "")
        after = self._operations.change_intent(
            intent_id, lambda intent: intent.complete_action(approved=approved)
        )
        query = {
            "payment_intent": intent_id,
            "payment_intent_client_secret": after["client_secret"],
            "redirect_status": "failed" if after["last_payment_error"] else "succeeded",
        }
        next_action = before["next_action"] or {}
        return_url = next_action.get("redirect_to_url", {}).get("return_url")
        if return_url is None:
            raise falcon.HTTPConflict(description=f"The intent is {after['status']}.")
        separator = "&" if "?" in return_url else "?"
        raise falcon.HTTPSeeOther(f"{return_url}{separator}{urlencode(query)}")
