"""Idempotency-Key with a real database: a repeated request is performed once."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
import pytest_asyncio
from note.v1 import note_pb2

from gateway.calls.idempotency import WAIT_SECONDS
from gateway.testing import fixtures
from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.note_servicer import NoteServicer, serve_notes
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "gateway"
JSON_WITH_KEY = {"Content-Type": "application/json", "Idempotency-Key": "key"}

# One gateway and one database serve all tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Setup(fixtures.Setup):
    async def post(
        self, path: str, body: object, key: str | None = "key", **headers: str
    ) -> httpx.Response:
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.client.post(path, json=body, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(database_url: str) -> AsyncIterator[Setup]:
    async with Setup.serve(database_url=app_url(database_url)) as setup:
        yield setup


@pytest.fixture
def setup(running: Setup, clean_database_url: str) -> Setup:
    del clean_database_url
    running.servicer.calls.clear()
    return running


def count(url: str, condition: str = "true") -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            f"SELECT count(*) FROM idempotency_records WHERE {condition}".encode()
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_second_request_gets_the_first_response(setup: Setup) -> None:
    first = await setup.post("/v1/probes", {"id": "1"})
    second = await setup.post("/v1/probes", {"id": "1"})
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert first.headers["Content-Type"] == second.headers["Content-Type"]
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
    assert len(setup.servicer.calls) == 1


@pytest_asyncio.fixture(loop_scope="module")
async def notes(clean_database_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, NoteServicer]]:
    async with serve_notes() as (servicer, port):
        app = make_app(
            descriptor_set(note_pb2.DESCRIPTOR), port, database_url=app_url(clean_database_url)
        )
        async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
            client.headers["Idempotency-Key"] = "key"
            yield client, servicer


async def test_repeated_creation_has_its_location(
    notes: tuple[httpx.AsyncClient, NoteServicer],
) -> None:
    client, servicer = notes
    for replayed in (None, "true"):
        response = await client.post("/v1/notes", json={"noteId": "1", "etag": "7"})
        assert response.status_code == 201
        assert response.headers["Location"] == "/v1/notes/1"
        assert response.headers["ETag"] == '"7"'
        assert response.headers.get("Idempotent-Replayed") == replayed
    assert len(servicer.calls) == 1


async def test_response_that_is_not_final_is_not_recorded(
    notes: tuple[httpx.AsyncClient, NoteServicer], clean_database_url: str
) -> None:
    client, servicer = notes
    body = {"note": {"noteId": "1"}, "aside": {"trailing": ["retry-after: 1"]}}
    for _ in range(2):
        assert (await client.post("/v1/notes:import", json=body)).status_code == 202
    assert len(servicer.calls) == 2
    assert count(clean_database_url) == 0


@pytest.mark.parametrize("path", ["/v1/notes?validate_only=true", "/v1/notes:import"])
async def test_validation_is_not_recorded(
    notes: tuple[httpx.AsyncClient, NoteServicer], path: str, clean_database_url: str
) -> None:
    client, servicer = notes
    note = {"noteId": "1"}
    body = {"note": note, "validateOnly": True} if path.endswith("import") else note
    for _ in range(2):
        assert (await client.post(path, json=body)).status_code == 200
    assert len(servicer.calls) == 2
    assert count(clean_database_url) == 0
    created = await client.post("/v1/notes", json=note)
    assert created.status_code == 201
    # The response to a creation must not be repeated for a request that only validates.
    assert (await client.post(path, json=body)).status_code == 200


async def test_change_that_fails_its_condition_releases_the_key(
    notes: tuple[httpx.AsyncClient, NoteServicer], clean_database_url: str
) -> None:
    client, servicer = notes
    servicer.notes["1"] = note_pb2.Note(note_id="1", etag="7")
    for tag, status in (('"6"', 412), ('"7"', 200)):
        response = await client.post("/v1/notes/1:archive", json={}, headers={"If-Match": tag})
        assert response.status_code == status
    assert count(clean_database_url) == 1


async def test_post_to_a_rule_of_any_method_is_recorded(setup: Setup) -> None:
    for _ in range(2):
        posted = await setup.client.post("/v1/anything", headers={"Idempotency-Key": "key"})
        await setup.client.put("/v1/anything", headers={"Idempotency-Key": "key"})
    assert posted.headers["Idempotent-Replayed"] == "true"
    assert len(setup.servicer.calls) == 3


async def test_key_is_forwarded_to_the_service(setup: Setup) -> None:
    await setup.post("/v1/probes", {}, key="abc")
    assert setup.servicer.calls[0].metadata["idempotency-key"] == "abc"


async def test_requests_without_a_key_are_not_recorded(
    setup: Setup, clean_database_url: str
) -> None:
    await setup.post("/v1/probes", {}, key=None)
    await setup.post("/v1/probes", {}, key=None)
    assert len(setup.servicer.calls) == 2
    assert count(clean_database_url) == 0


async def test_equal_request_in_another_spelling_is_repeated(setup: Setup) -> None:
    await setup.client.post(
        "/v1/probes", content='{"id": "1", "int32Value": 2}', headers=JSON_WITH_KEY
    )
    second = await setup.client.post(
        "/v1/probes", content='{"int32_value":"2","id":"1"}', headers=JSON_WITH_KEY
    )
    assert second.headers["Idempotent-Replayed"] == "true"


async def test_key_of_another_request_is_refused(setup: Setup) -> None:
    await setup.post("/v1/probes", {"id": "1"})
    refused = await setup.post("/v1/probes", {"id": "2"})
    assert (refused.status_code, refused.json()["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(setup.servicer.calls) == 1


async def test_key_means_nothing_at_another_path_or_for_another_caller(setup: Setup) -> None:
    await setup.post("/v1/probes", {}, Authorization="Bearer a")
    await setup.post("/v1/probes", {}, Authorization="Bearer b")
    await setup.post("/v1/probes/1:reset", {}, Authorization="Bearer a")
    await setup.post("/v1/probes/2:reset", {}, Authorization="Bearer a")
    assert len(setup.servicer.calls) == 4


@pytest.mark.parametrize("code", [3, 5, 6, 7, 9, 11])
async def test_final_failure_is_repeated(setup: Setup, code: int) -> None:
    body = {"message": "taken", "reason": "TAKEN", "metadata": {"http_status": "422"}}
    first = await setup.post(f"/v1/failures/{code}", body)
    second = await setup.post(f"/v1/failures/{code}", body)
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert second.headers["Content-Type"] == "application/problem+json"
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(setup.servicer.calls) == 1


@pytest.mark.parametrize("code", [1, 2, 4, 8, 10, 12, 13, 14, 15, 16])
async def test_transient_failure_releases_the_key(
    setup: Setup, clean_database_url: str, code: int
) -> None:
    for _ in range(2):
        await setup.post(f"/v1/failures/{code}", {"message": "m"})
    assert len(setup.servicer.calls) == 2
    assert count(clean_database_url) == 0


async def test_lost_response_does_not_release_the_key(setup: Setup) -> None:
    """The request took effect; only its response is too large for gRPC."""
    for replayed in (None, "true"):
        response = await setup.post("/v1/waits", {"size": 5_000_000})
        assert (response.status_code, response.json()["reason"]) == (500, "RESPONSE_TOO_LARGE")
        assert response.headers.get("Idempotent-Replayed") == replayed
    assert len(setup.servicer.calls) == 1


async def test_request_that_is_refused_before_the_call_is_not_recorded(
    setup: Setup, clean_database_url: str
) -> None:
    await setup.post("/v1/probes", {"unknown": 1})
    assert count(clean_database_url) == 0
    assert (await setup.post("/v1/probes", {"id": "1"})).status_code == 200


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a\tb", b"\xe9"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_bad_key_is_refused(setup: Setup, method: str, key: bytes) -> None:
    response = await setup.client.request(
        method,
        "/v1/probes/1",
        content="{}",
        headers=[(b"Idempotency-Key", key), (b"Content-Type", b"application/json")],
    )
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_IDEMPOTENCY_KEY")
    assert not setup.servicer.calls


async def test_longest_key_is_accepted(setup: Setup) -> None:
    assert (await setup.post("/v1/probes", {}, key="x" * 255)).status_code == 200


async def test_concurrent_requests_are_performed_once(setup: Setup) -> None:
    responses = await asyncio.gather(
        *(setup.post("/v1/waits", {"seconds": 0.3}) for _ in range(20))
    )
    assert len(setup.servicer.calls) == 1
    assert {response.status_code for response in responses} == {200}
    assert sum("Idempotent-Replayed" not in response.headers for response in responses) == 1


async def test_repeated_request_waits_for_a_limited_time(
    setup: Setup,
) -> None:
    first = asyncio.create_task(setup.post("/v1/waits", {"seconds": 4}))
    await setup.servicer.wait_for(1)
    started = asyncio.get_running_loop().time()
    # It waits for longer than a claim lasts, which the gateway therefore has to renew.
    second = await setup.post("/v1/waits", {"seconds": 4})
    waited = asyncio.get_running_loop().time() - started
    assert (second.status_code, second.headers["Retry-After"]) == (409, "1")
    assert waited >= WAIT_SECONDS
    assert (await first).status_code == 200
    assert (await setup.post("/v1/waits", {"seconds": 4})).headers["Idempotent-Replayed"] == "true"


async def test_client_that_disconnected_gets_the_response_when_it_retries(setup: Setup) -> None:
    first = asyncio.create_task(setup.post("/v1/waits", {"seconds": 0.5}))
    await setup.servicer.wait_for(1)
    first.cancel()
    again = await setup.post("/v1/waits", {"seconds": 0.5})
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (200, "true")
    assert len(setup.servicer.calls) == 1
    assert not setup.servicer.cancelled.is_set()


async def test_other_request_while_the_first_runs_is_refused_at_once(setup: Setup) -> None:
    first = asyncio.create_task(setup.post("/v1/waits", {"seconds": 1}))
    await setup.servicer.wait_for(1)
    assert (await setup.post("/v1/waits", {"seconds": 2})).status_code == 422
    await first


async def test_database_that_is_down_stops_only_requests_with_a_key() -> None:
    async with Setup.serve() as setup:
        setup.client.timeout = httpx.Timeout(20)
        refused = await setup.post("/v1/probes", {})
        taken = await setup.post("/v1/probes", {}, key=None)
    assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
    assert taken.status_code == 200
    assert len(setup.servicer.calls) == 1
