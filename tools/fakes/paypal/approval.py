"""The page on which the payer approves an order, in place of PayPal's own.

    GET  /checkoutnow?token=ORDER          for people
    POST /checkoutnow?token=ORDER          a form with `action`, approve or cancel, and `instrument`

Like PayPal's page, it sends the payer back to the return URL with `token` and `PayerID`, or to the
cancel URL with `token`: https://developer.paypal.com/docs/api/orders/v2/#orders_create, under
`experience_context`.
"""

import html
from string import Template
from urllib.parse import urlencode

import falcon
import falcon.asgi

from tools.fakes.paypal.books import Books
from tools.fakes.paypal.errors import PayPalError
from tools.fakes.paypal.resources import Instrument, Order

PAYER_ID = "FAKEPAYER0001"

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A fake of PayPal</title>
<h1>A fake of PayPal: no money moves</h1>
<p>$text</p>
$form
</html>
""")
_FORM = Template("""<form method="post">
<p><label>Funding source <select name="instrument">$options</select></label></p>
<p><button name="action" value="approve">Pay now</button>
<button name="action" value="cancel">Cancel</button></p>
</form>""")


class ApprovalPage:
    """The page, which is addressed by the order's id in `token`."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Show the page."""
        try:
            order = self._books.find_order(req.get_param("token", default=""))
        except PayPalError:
            _respond(resp, falcon.HTTP_404, "This payment has expired.")
            return
        form = _FORM.substitute(options="".join(f"<option>{each}" for each in Instrument))
        _respond(resp, falcon.HTTP_200, f"Pay {order.amount.to_json()}?", form)

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Approve or cancel the order, and send the payer back to the shop."""
        fields = await req.get_media()
        try:
            order = self._books.find_order(req.get_param("token", default=""))
            instrument = Instrument(fields.get("instrument", Instrument.ACCEPTED))
        except PayPalError:
            _respond(resp, falcon.HTTP_404, "This payment has expired.")
            return
        except ValueError:
            _respond(resp, falcon.HTTP_400, "This is no funding source.")
            return
        if fields.get("action") == "approve":
            self._books.approve(order, instrument)
            _send_back(resp, order, order.return_url, {"PayerID": PAYER_ID})
        else:
            _send_back(resp, order, order.cancel_url, {})


def _send_back(resp: falcon.asgi.Response, order: Order, url: str, query: dict[str, str]) -> None:
    if url:
        separator = "&" if "?" in url else "?"
        resp.status = falcon.HTTP_303
        resp.location = url + separator + urlencode({"token": order.id, **query})
    else:
        _respond(resp, falcon.HTTP_200, "You may close this page.")


def _respond(resp: falcon.asgi.Response, status: str, text: str, form: str = "") -> None:
    resp.status = status
    resp.content_type = falcon.MEDIA_HTML
    resp.text = _PAGE.substitute(text=html.escape(text), form=form)
