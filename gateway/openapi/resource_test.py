"""The document as clients get it."""

import pytest

from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_document_is_served(setup: Setup) -> None:
    response = await setup.client.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["cache-control"] == "no-cache"
    assert response.json()["openapi"] == "3.1.0"
    assert "/v1/probes/{id}" in response.json()["paths"]
    assert setup.servicer.calls == []


async def test_document_is_compressed(setup: Setup) -> None:
    response = await setup.client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    plain = await setup.client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert response.json() == plain.json()


async def test_head_has_no_document(setup: Setup) -> None:
    response = await setup.client.head("/openapi.json")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["etag"].startswith('W/"')


@pytest.mark.parametrize("value", ["{etag}", '"other", {etag}', "*"])
async def test_client_with_the_current_version_gets_304(setup: Setup, value: str) -> None:
    etag = (await setup.client.head("/openapi.json")).headers["etag"]
    held = {"If-None-Match": value.format(etag=etag)}
    response = await setup.client.get("/openapi.json", headers=held)
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag


async def test_client_with_another_version_gets_the_document(setup: Setup) -> None:
    response = await setup.client.get("/openapi.json", headers={"If-None-Match": '"other"'})
    assert response.status_code == 200


async def test_malformed_condition_is_refused(setup: Setup) -> None:
    response = await setup.client.get("/openapi.json", headers={"If-None-Match": "other"})
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_HEADER")


async def test_document_is_only_read(setup: Setup) -> None:
    response = await setup.client.post("/openapi.json", json={})
    assert response.status_code == 405
