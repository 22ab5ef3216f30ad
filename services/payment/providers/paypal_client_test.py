"""The access token, the secrets, and responses that PayPal would not send."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator

import falcon
import falcon.asgi
import pytest
from pydantic import SecretStr

from services.payment.providers.attempts import Unknown
from services.payment.providers.paypal_client import (
    MAX_RESPONSE_BYTES,
    PayPalClient,
    Refused,
)
from tools.fakes.faults import Kind, Rule
from tools.fakes.paypal.app import CLIENT_ID, CLIENT_SECRET
from tools.fakes.paypal.testing import PayPal
from tools.fakes.serving import serve_in_thread

pytest_plugins = ("tools.fakes.paypal.testing",)

UNKNOWN_ORDER = "/v2/checkout/orders/UNKNOWN"


@pytest.fixture
async def client(paypal: PayPal) -> AsyncIterator[PayPalClient]:
    client = PayPalClient(paypal.url, CLIENT_ID, SecretStr(CLIENT_SECRET))
    yield client
    await client.close()


def count_tokens(paypal: PayPal) -> int:
    return int(paypal.client.get("/_fake/tokens").json()["issued"])


async def look(client: PayPalClient) -> str:
    """Make a call that is authorized, and refused because there is no such order."""
    with pytest.raises(Refused) as caught:
        await client.get(UNKNOWN_ORDER)
    assert caught.value.is_missing
    return str(caught.value)


async def test_concurrent_calls_share_one_access_token(
    paypal: PayPal, client: PayPalClient
) -> None:
    before = count_tokens(paypal)
    await asyncio.gather(*(look(client) for _ in range(20)))
    assert count_tokens(paypal) == before + 1


async def test_an_expired_token_is_renewed_once_by_concurrent_calls(
    paypal: PayPal, client: PayPalClient
) -> None:
    await look(client)
    before = count_tokens(paypal)
    paypal.client.delete("/_fake/tokens").raise_for_status()
    await asyncio.gather(*(look(client) for _ in range(20)))
    assert count_tokens(paypal) == before + 1


async def test_a_token_is_renewed_before_it_expires(
    paypal: PayPal, client: PayPalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await look(client)
    before = count_tokens(paypal)
    monkeypatch.setattr(client, "_expiry", client._expiry - 9 * 3600 + 60)
    await look(client)
    assert count_tokens(paypal) == before + 1


async def test_a_token_that_cannot_be_renewed_is_asked_for_again(
    paypal: PayPal, client: PayPalClient
) -> None:
    paypal.faults.set(Rule(Kind.LOSE_RESPONSE, "/v1/oauth2/token", nth=1))
    with pytest.raises(Unknown):
        await client.get(UNKNOWN_ORDER)
    await look(client)


async def test_wrong_credentials_are_logged_and_nothing_is_known(
    paypal: PayPal, capsys: pytest.CaptureFixture[str]
) -> None:
    client = PayPalClient(paypal.url, CLIENT_ID, SecretStr("wrong-secret"))
    with pytest.raises(Unknown):
        await client.get(UNKNOWN_ORDER)
    await client.close()
    logged = capsys.readouterr()
    assert "invalid_client" in logged.out + logged.err
    assert "wrong-secret" not in logged.out + logged.err


async def test_no_secret_is_in_a_log_or_a_representation(
    paypal: PayPal,
    client: PayPalClient,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    for kind in (Kind.LOSE_RESPONSE, Kind.FAIL_AFTER):
        await look(client)
        paypal.faults.set(Rule(kind, UNKNOWN_ORDER))
        with pytest.raises(Unknown) as caught:
            await client.get(UNKNOWN_ORDER)
        paypal.faults.set()
        shown = [repr(caught.value), repr(caught.value.__cause__), repr(vars(client))]
        texts = [*shown, caplog.text, *capsys.readouterr()]
        for secret in (CLIENT_SECRET, client._token.get_secret_value()):
            assert not any(secret in text for text in texts)


class Strange:
    """Issues tokens, and serves one response to everything else."""

    def __init__(self) -> None:
        self.status = falcon.HTTP_200
        self.body = b"{}"
        self.trickles = False

    async def on_post(self, _: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = {"access_token": "token", "expires_in": 1_000}

    async def on_get(self, _: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.status = self.status
        resp.stream = self._trickle() if self.trickles else self._send()

    async def _send(self) -> AsyncIterator[bytes]:
        yield self.body

    async def _trickle(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)


@pytest.fixture
def strange() -> Strange:
    return Strange()


@pytest.fixture
def strange_url(strange: Strange) -> Iterator[str]:
    app = falcon.asgi.App()
    app.add_route(UNKNOWN_ORDER, strange)
    app.add_route("/v1/oauth2/token", strange)
    with serve_in_thread(app) as url:
        yield url


@pytest.fixture
async def strange_client(strange_url: str) -> AsyncIterator[PayPalClient]:
    client = PayPalClient(strange_url, CLIENT_ID, SecretStr(CLIENT_SECRET))
    yield client
    await client.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (falcon.HTTP_404, b"<html>404 Not Found</html>"),
        (falcon.HTTP_404, b'{"name": "NOT_FOUND"}'),
        (falcon.HTTP_422, b"[]"),
        (falcon.HTTP_400, b"\xff"),
        (falcon.HTTP_403, b'{"name": "NOT_AUTHORIZED"}'),
        (falcon.HTTP_302, b""),
        (falcon.HTTP_500, b"{"),
    ],
)
async def test_only_paypal_itself_can_refuse(
    strange: Strange, strange_client: PayPalClient, status: str, body: bytes
) -> None:
    strange.status, strange.body = status, body
    with pytest.raises(Unknown):
        await strange_client.get(UNKNOWN_ORDER)


async def test_a_refusal_without_an_issue_is_no_missing_resource(
    strange: Strange, strange_client: PayPalClient
) -> None:
    strange.status, strange.body = falcon.HTTP_404, b'{"name": "RESOURCE_NOT_FOUND"}'
    with pytest.raises(Refused) as caught:
        await strange_client.get(UNKNOWN_ORDER)
    assert not caught.value.is_missing


@pytest.mark.parametrize("name", ["INVALID_REQUEST", "VALIDATION_ERROR"])
async def test_a_malformed_request_is_refused_by_both_generations_of_apis(
    strange: Strange, strange_client: PayPalClient, name: str
) -> None:
    strange.status, strange.body = falcon.HTTP_400, json.dumps({"name": name}).encode()
    with pytest.raises(Refused, match=name):
        await strange_client.get(UNKNOWN_ORDER)


async def test_a_response_is_limited_in_size(
    strange: Strange, strange_client: PayPalClient
) -> None:
    strange.body = b'{"a": "' + b"x" * MAX_RESPONSE_BYTES + b'"}'
    with pytest.raises(Unknown, match="too large"):
        await strange_client.get(UNKNOWN_ORDER)


async def test_a_connection_is_free_again_after_a_call_that_was_given_up(
    strange: Strange, strange_client: PayPalClient
) -> None:
    strange.trickles = True
    for _ in range(25):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await strange_client.get(UNKNOWN_ORDER)
    strange.trickles = False
    async with asyncio.timeout(10):
        assert await strange_client.get(UNKNOWN_ORDER) == {}
