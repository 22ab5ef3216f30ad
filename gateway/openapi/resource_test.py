"""The document as clients get it."""

import pytest

from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_document_is_served(setup: Setup) -> None:
    answer = await setup.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.json()["openapi"] == "3.1.0"
    assert "/v1/probes/{id}" in answer.json()["paths"]
    assert setup.servicer.calls == []


async def test_document_is_compressed(setup: Setup) -> None:
    answer = await setup.client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    plain = await setup.client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert answer.json() == plain.json()


async def test_head_has_no_document(setup: Setup) -> None:
    answer = await setup.client.head("/openapi.json")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"].startswith('W/"')


@pytest.mark.parametrize("form", ["{etag}", '"other", {etag}', "*"])
async def test_client_that_has_the_document_is_told_so(setup: Setup, form: str) -> None:
    etag = (await setup.client.head("/openapi.json")).headers["etag"]
    held = {"If-None-Match": form.format(etag=etag)}
    answer = await setup.client.get("/openapi.json", headers=held)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag


async def test_client_that_has_another_document_gets_this_one(setup: Setup) -> None:
    answer = await setup.client.get("/openapi.json", headers={"If-None-Match": '"other"'})
    assert answer.status_code == 200


async def test_condition_that_cannot_be_read_is_refused(setup: Setup) -> None:
    answer = await setup.client.get("/openapi.json", headers={"If-None-Match": "other"})
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_HEADER")


async def test_document_is_only_read(setup: Setup) -> None:
    answer = await setup.client.post("/openapi.json", json={})
    assert answer.status_code == 405
