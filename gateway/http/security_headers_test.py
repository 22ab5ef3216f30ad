"""The headers that every response has, and those of pages and raw bytes instead."""

import pytest

from gateway.testing.fixtures import Setup
from gateway.testing.wire import connect

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/probes/7", 200),
        ("HEAD", "/v1/probes/7", 200),
        ("DELETE", "/v1/probes/7", 204),
        ("GET", "/v1/probes:watch?count=1", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/probes", 405),
        ("GET", "/openapi.json", 200),
        ("GET", "/healthz", 200),
    ],
)
async def test_every_response_has_them(setup: Setup, method: str, path: str, status: int) -> None:
    response = await setup.client.request(method, path)
    assert response.status_code == status
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "Strict-Transport-Security" not in response.headers


async def test_refusal_of_what_cannot_be_parsed_has_them(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_raw(b"GET / HTTP/1.1\r\n\r\n")
        status, headers, _ = await wire.read_response()
    assert (status, headers["content-security-policy"]) == (400, POLICY)
    assert headers["x-content-type-options"] == "nosniff"


async def test_page_of_the_docs_has_a_policy_of_its_own(setup: Setup) -> None:
    response = await setup.client.get("/docs")
    if response.status_code == 200:
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert response.headers.get_list("Content-Security-Policy") == [
        response.headers["Content-Security-Policy"]
    ]


async def test_raw_bytes_have_a_policy_of_their_own(setup: Setup) -> None:
    response = await setup.client.post("/v1/raw/7", content=b"<script>")
    assert response.headers.get_list("Content-Security-Policy") == ["default-src 'none'; sandbox"]
    assert response.headers.get_list("X-Content-Type-Options") == ["nosniff"]


@pytest.mark.parametrize("header", ["Authorization", "Cookie"])
async def test_response_to_credentials_is_not_stored(setup: Setup, header: str) -> None:
    for path in ("/v1/probes/7", "/nowhere"):
        response = await setup.client.get(path, headers={header: "a=b"})
        assert response.headers.get_list("Cache-Control") == ["no-store"]
    assert "Cache-Control" not in (await setup.client.get("/v1/probes/7")).headers
