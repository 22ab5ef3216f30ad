"""The control that only the fake of Stripe has; see `tools.fakes.controls` for the others.

POST   /_fake/refunds/REFUND     a form with `status`, succeeded or failed: how the bank settles it
                                 later
"""

import falcon
import falcon.asgi

from tools.fakes.network import MAX_BODY_BYTES
from tools.fakes.stripe.operations import Operations

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class RefundResource:
    """A refund that was made."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def on_post(self, req: Request, resp: Response, refund_id: str) -> None:
        """Let it succeed or fail, if it can still do that."""
        form = (await req.stream.read(MAX_BODY_BYTES)).decode("utf-8", "replace")
        if form not in ("status=succeeded", "status=failed"):
            raise falcon.HTTPBadRequest(description="status must be succeeded or failed.")
        status = form.removeprefix("status=")
        resp.media = self._operations.settle_refund(refund_id, status)
