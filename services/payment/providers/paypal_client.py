"""Single calls of PayPal's REST API over HTTP, with its access token.

What is repeated, and what a response means, is decided elsewhere. Nothing here logs a request, a
response or the token, or puts one into an exception.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx
import orjson
from pydantic import SecretStr

from chassis import log
from services.payment.providers.attempts import MAX_CONCURRENT, Unknown

MAX_VERIFICATIONS = 10
"""How many webhooks are verified at once, beside the MAX_CONCURRENT items of all batches."""
MAX_RESPONSE_BYTES = 1 << 20
EXPIRY_MARGIN_SECONDS = 60.0
"""How long before its expiry an access token is renewed."""

_REFUSALS = frozenset(
    {
        (400, "INVALID_REQUEST"),
        # The v1 APIs, of which the verification of webhooks is one.
        (400, "VALIDATION_ERROR"),
        (404, "RESOURCE_NOT_FOUND"),
        (422, "UNPROCESSABLE_ENTITY"),
    }
)
"""The errors by which PayPal refuses a request; each later one would be, too.

A response with such a status and another name is not PayPal's, but of something before it.
"""
_TRANSIENT = frozenset({409, 429})

_LOG = log.logger()

Json = dict[str, Any]


class Refused(Exception):
    """PayPal has refused a request, and nothing has changed. `issue` is upper case."""

    def __init__(self, status: int, issue: str) -> None:
        super().__init__(f"{status} {issue}")
        self.status = status
        self.issue = issue

    @property
    def is_missing(self) -> bool:
        """Whether the resource does not exist, or no longer."""
        return self.status == 404 and self.issue == "INVALID_RESOURCE_ID"


class PayPalClient:
    """Calls PayPal as one app. One access token is shared, and renewed once by concurrent calls.

    Every call raises Refused, or Unknown if it may succeed when it is repeated. The caller limits
    the time.
    """

    def __init__(self, url: str, client_id: str, client_secret: SecretStr) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=None,  # noqa: S113
            # So many that no call waits for a connection.
            limits=httpx.Limits(max_connections=MAX_CONCURRENT + MAX_VERIFICATIONS),
            trust_env=False,
        )
        self._token = SecretStr("")
        self._expiry = 0.0
        self._renewing = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str) -> Json:
        """Read a resource."""
        return await self._call("GET", path, b"", {})

    async def post(self, path: str, body: Json, request_id: str = "") -> Json:
        """Make or change a resource; return all of it, or an empty object if there is none."""
        headers = {"content-type": "application/json", "prefer": "return=representation"}
        if request_id:
            headers["paypal-request-id"] = request_id
        return await self._call("POST", path, orjson.dumps(body), headers)

    async def post_bytes(self, path: str, body: bytes) -> Json:
        """Send a body as it is."""
        return await self._call("POST", path, body, {"content-type": "application/json"})

    async def _call(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Json:
        token = await self._get_token()
        status, found = await self._authorized(method, path, body, headers, token)
        if status == 401:
            self._forget(token)
            token = await self._get_token()
            status, found = await self._authorized(method, path, body, headers, token)
        _raise_for(status, found)
        return found

    async def _authorized(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], token: SecretStr
    ) -> tuple[int, Json]:
        bearer = {"authorization": f"Bearer {token.get_secret_value()}"}
        return await self._send(
            self._http.build_request(method, path, content=body, headers={**headers, **bearer})
        )

    async def _send(self, request: httpx.Request) -> tuple[int, Json]:
        """Return the status and the JSON object of a response."""
        try:
            response = await self._http.send(request, stream=True)
            try:
                return response.status_code, _parse(await _read(response))
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise Unknown(f"PayPal did not respond: {type(error).__name__}") from error

    async def _get_token(self) -> SecretStr:
        async with self._renewing:
            if time.monotonic() >= self._expiry:
                await self._renew_token()
            return self._token

    async def _renew_token(self) -> None:
        """https://developer.paypal.com/api/rest/authentication/."""
        began = time.monotonic()
        request = self._http.build_request(
            "POST", "/v1/oauth2/token", data={"grant_type": "client_credentials"}
        )
        login = httpx.BasicAuth(self._client_id, self._client_secret.get_secret_value())
        status, found = await self._send(next(login.auth_flow(request)))
        _raise_for(status, found)
        try:
            self._token = SecretStr(str(found["access_token"]))
            self._expiry = began + float(found["expires_in"]) - EXPIRY_MARGIN_SECONDS
        except (KeyError, TypeError, ValueError) as error:
            raise Unknown("PayPal returned no access token.") from error

    def _forget(self, token: SecretStr) -> None:
        """Renew a token before the next call, unless another call has renewed it already."""
        if self._token == token:
            self._expiry = 0.0


def _raise_for(status: int, found: Json) -> None:
    if 200 <= status < 300:
        return
    name = str(found.get("name") or found.get("error"))
    if (status, name) in _REFUSALS:
        raise Refused(status, _find_issue(found) or name)
    if status < 500 and status not in _TRANSIENT:
        _LOG.error("paypal_call_failed", status=status, name=name, debug_id=found.get("debug_id"))
    raise Unknown(f"PayPal responded {status}.")


def _find_issue(found: Json) -> str:
    try:
        return str(found["details"][0]["issue"])
    except (KeyError, IndexError, TypeError):
        return ""


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise Unknown("PayPal's response is too large.")
    return bytes(body)


def _parse(body: bytes) -> Json:
    """Return a JSON object, which is empty if the body is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
