"""Secrets that browsers keep in cookies, by a header that no page of another site can send."""

from http.cookies import SimpleCookie
from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from gateway.testing.fixtures import Sessions
from gateway.testing.session_servicer import LIFETIME_SECONDS

ASK = {"X-Session": "cookie"}
REMOTE = {"X-Forwarded-For": "203.0.113.9"}
REFRESH = "/v1/sessions/current:refresh"
LOGOUT = "/v1/sessions/current:logout"
SHOP = "https://shop.example"


def cookie_of(response: httpx.Response, name: str = "refresh") -> tuple[str, dict[str, Any]]:
    """Return the value and the attributes of the only cookie that a response sets."""
    (header,) = response.headers.get_list("Set-Cookie")
    (morsel,) = SimpleCookie(header).values()
    assert morsel.key == name
    return morsel.value, {name: value for name, value in morsel.items() if value}


async def post(sessions: Sessions, path: str, **headers: str) -> httpx.Response:
    sessions.client.cookies.clear()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await sessions.client.post(path, json={}, headers=named)


async def test_login_puts_the_secret_into_a_cookie_and_not_into_the_body() -> None:
    async with Sessions.serve() as sessions:
        response = await sessions.login(X_Session="cookie")
        value, attributes = cookie_of(response)
    assert value == "refresh-1"
    max_age = int(attributes.pop("max-age"))
    assert LIFETIME_SECONDS - 60 < max_age <= LIFETIME_SECONDS
    assert attributes == {"path": "/v1/sessions", "httponly": True, "samesite": "Strict"}
    assert response.json().keys() == {"accessToken", "refreshExpireTime"}
    assert response.headers["Cache-Control"] == "no-store"


async def test_without_the_header_the_secret_is_in_the_body() -> None:
    async with Sessions.serve() as sessions:
        for value in ("", "true", "Cookie, cookie"):
            response = await sessions.login(X_Session=value)
            assert "Set-Cookie" not in response.headers
            assert response.json()["refreshToken"]


async def test_cookie_fills_the_field_and_is_replaced() -> None:
    async with Sessions.serve() as sessions:
        await sessions.login()
        response = await post(sessions, REFRESH, Cookie="a=b; refresh=refresh-1", **ASK)
        assert response.status_code == 200
        value, attributes = cookie_of(response)
        assert value == sessions.servicer.refresh_token == "refresh-2"
        assert "max-age" not in attributes
        assert "refreshToken" not in response.json()


async def test_cookie_without_the_header_is_ignored() -> None:
    """A page of another site can have the cookie sent, but not the header."""
    async with Sessions.serve() as sessions:
        await sessions.login()
        for path in (REFRESH, LOGOUT):
            response = await post(sessions, path, Cookie="refresh=refresh-1")
            assert response.status_code == 401
            assert "Set-Cookie" not in response.headers
        assert sessions.servicer.refresh_token == "refresh-1"


async def test_field_in_the_body_wins_over_the_cookie() -> None:
    async with Sessions.serve() as sessions:
        await sessions.login()
        headers = {"Cookie": "refresh=stolen", **ASK}
        body = {"refreshToken": "refresh-1"}
        response = await sessions.client.post(REFRESH, json=body, headers=headers)
        assert response.status_code == 200


async def test_logout_deletes_the_cookie_and_a_failure_does_not() -> None:
    async with Sessions.serve() as sessions:
        await sessions.login()
        refused = await post(sessions, LOGOUT, Cookie="refresh=other", **ASK)
        assert (refused.status_code, "Set-Cookie" in refused.headers) == (401, False)
        response = await post(sessions, LOGOUT, Cookie="refresh=refresh-1", **ASK)
        assert response.status_code == 204
        value, attributes = cookie_of(response)
    assert value == ""
    assert attributes["path"] == "/v1/sessions"
    assert attributes["max-age"] == "0"


async def test_cookie_is_for_tls_only_unless_the_client_is_on_this_machine() -> None:
    proxies = frozenset({ip_network("127.0.0.0/8")})
    async with Sessions.serve(apigateway_trusted_proxies=proxies) as sessions:
        remote = await sessions.login(X_Session="cookie", **REMOTE)
        local = await sessions.login(X_Session="cookie")
    assert cookie_of(remote, "__Secure-refresh")[1]["secure"] is True
    assert "secure" not in cookie_of(local)[1]


async def test_cookie_that_may_have_been_set_without_tls_is_ignored() -> None:
    proxies = frozenset({ip_network("127.0.0.0/8")})
    async with Sessions.serve(apigateway_trusted_proxies=proxies) as sessions:
        await sessions.login()
        planted = await post(sessions, REFRESH, Cookie="refresh=refresh-1", **ASK, **REMOTE)
        assert planted.status_code == 401
        await sessions.login()
        cookie = f"__Secure-refresh={sessions.servicer.refresh_token}"
        assert (await post(sessions, REFRESH, Cookie=cookie, **ASK, **REMOTE)).status_code == 200


@pytest.mark.parametrize(
    "cookies",
    [
        ["refresh=refresh-1; refresh=other"],
        ["refresh=other; a=b; refresh=refresh-1"],
        ["refresh=refresh-1", "refresh=refresh-1"],
    ],
)
async def test_two_cookies_of_the_name_are_refused(cookies: list[str]) -> None:
    async with Sessions.serve() as sessions:
        await sessions.login()
        headers = [*ASK.items(), *(("Cookie", cookie) for cookie in cookies)]
        response = await sessions.client.post(REFRESH, json={}, headers=headers)
        assert (response.status_code, response.json()["reason"]) == (400, "AMBIGUOUS_COOKIE")
        assert sessions.servicer.refresh_token == "refresh-1"


@pytest.mark.parametrize(("origin", "allowed"), [(SHOP, "true"), ("https://evil.example", None)])
async def test_pages_of_named_origins_may_use_cookies(origin: str, allowed: str | None) -> None:
    async with Sessions.serve(apigateway_cors_origins=frozenset({SHOP})) as sessions:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-session",
        }
        response = await sessions.client.options(REFRESH, headers=headers)
    assert response.headers.get("Access-Control-Allow-Credentials") == allowed


async def test_pages_of_any_origin_may_not_use_cookies() -> None:
    async with Sessions.serve(apigateway_cors_origins=frozenset({"*"})) as sessions:
        response = await sessions.login(Origin="https://evil.example")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers


async def test_document_describes_the_header_and_the_cookie() -> None:
    async with Sessions.serve() as sessions:
        document = (await sessions.client.get("/openapi.json")).json()
    operation = document["paths"][REFRESH]["post"]
    (parameter,) = [each for each in operation["parameters"] if each["name"] == "X-Session"]
    assert parameter["schema"] == {"type": "string", "enum": ["cookie"]}
    assert "fills `refresh_token`" in parameter["description"]
    assert "Set-Cookie" in operation["responses"]["200"]["headers"]
    assert "parameters" not in document["paths"]["/v1/calls:count"]["post"] or all(
        each["name"] != "X-Session"
        for each in document["paths"]["/v1/calls:count"]["post"]["parameters"]
    )
