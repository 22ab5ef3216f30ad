"""Versions of resources: conditional reads and conditional changes.

grpc-gateway (issue 4263) and Envoy's transcoder do not support them.
"""

import pytest
from note.v1 import note_pb2

from gateway.testing.fixtures import Notes, Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("version", ["7", '"7"', "a b", "50%", "é", "\n", "a,b", "%22"])
async def test_tag_of_a_version_can_be_sent_back(notes: Notes, version: str) -> None:
    notes.add(version)
    tag = (await notes.client.get("/v1/notes/1")).headers["ETag"]
    known = await notes.client.get("/v1/notes/1", headers={"If-None-Match": tag})
    assert known.status_code == 304
    changed = await notes.client.put("/v1/notes/1", json={}, headers={"If-Match": tag})
    assert changed.status_code == 200
    again = await notes.client.put("/v1/notes/1", json={}, headers={"If-Match": tag})
    assert again.status_code == 412


async def test_weak_version_is_for_reading_only(notes: Notes) -> None:
    notes.add('W/"7"')
    response = await notes.client.get("/v1/notes/1", headers={"If-None-Match": '"7"'})
    assert (response.status_code, response.headers["ETag"]) == (304, 'W/"7"')
    for method in ("GET", "PUT"):
        response = await notes.client.request(method, "/v1/notes/1", headers={"If-Match": 'W/"7"'})
        assert response.status_code == 412


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("known", ['"7"', 'W/"7"', '"6", "7"', "*"])
async def test_client_with_the_current_version_gets_304(
    notes: Notes, method: str, known: str
) -> None:
    response = await notes.client.request(method, "/v1/notes/1", headers={"If-None-Match": known})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == '"7"'
    assert "Content-Type" not in response.headers


async def test_client_with_another_version_gets_the_current_one(notes: Notes) -> None:
    response = await notes.client.get("/v1/notes/1", headers={"If-None-Match": '"6", "77"'})
    assert response.status_code == 200
    assert response.headers["ETag"] == '"7"'
    assert response.json()["text"] == "old"


async def test_header_may_have_several_lines(notes: Notes) -> None:
    lines = [("If-None-Match", '"7"'), ("If-None-Match", '"8"')]
    assert (await notes.client.get("/v1/notes/1", headers=lines)).status_code == 304


async def test_failure_is_reported_whatever_the_condition(notes: Notes) -> None:
    for headers in ({"If-None-Match": "*"}, {"If-Match": '"7"'}):
        assert (await notes.client.get("/v1/notes/2", headers=headers)).status_code == 404


@pytest.mark.parametrize(
    ("wanted", "status"),
    [('"7"', 200), ("*", 200), ('"6", "7"', 200), ('"6"', 412), ('W/"7"', 412), ('""', 412)],
)
async def test_read_with_if_match_compares_the_version(
    notes: Notes, wanted: str, status: int
) -> None:
    response = await notes.client.get("/v1/notes/1", headers={"If-Match": wanted})
    assert response.status_code == status
    if status == 412:
        assert response.json()["reason"] == "ETAG_MISMATCH"


async def test_if_match_is_evaluated_before_if_none_match(notes: Notes) -> None:
    headers = {"If-Match": '"6"', "If-None-Match": '"7"'}
    assert (await notes.client.get("/v1/notes/1", headers=headers)).status_code == 412


@pytest.mark.parametrize(
    ("path", "tag"),
    [("/v1/notes/1:cover", '"c"'), ("/v1/notes/1:text", None)],
)
async def test_tag_is_that_of_the_shown_field(notes: Notes, path: str, tag: str | None) -> None:
    assert (await notes.client.get(path)).headers.get("ETag") == tag
    known = await notes.client.get(path, headers={"If-None-Match": '"c"'})
    assert known.status_code == (304 if tag else 200)


async def test_resource_without_a_version_has_no_tag(notes: Notes) -> None:
    notes.add(etag="")
    assert "ETag" not in (await notes.client.get("/v1/notes/1")).headers
    wanted = await notes.client.get("/v1/notes/1", headers={"If-Match": '""'})
    assert wanted.status_code == 412


@pytest.mark.parametrize(
    ("method", "path", "body", "tagged"),
    [
        ("PATCH", "/v1/notes/1", {"text": "new"}, True),
        ("PUT", "/v1/notes/1", {"text": "new"}, False),
        ("POST", "/v1/notes/1:archive", {}, False),
        ("POST", "/v1/notes", {"noteId": "2", "etag": "1"}, True),
    ],
)
async def test_change_has_an_etag_if_its_response_represents_the_target(
    notes: Notes, method: str, path: str, body: object, *, tagged: bool
) -> None:
    response = await notes.client.request(method, path, json=body)
    assert response.is_success
    assert ("ETag" in response.headers) is tagged


CHANGES = [
    ("PATCH", "/v1/notes/1", '{"text": "new"}'),
    ("PATCH", "/v1/notes/1", ""),
    ("PUT", "/v1/notes/1", '{"text": "new"}'),
    ("POST", "/v1/notes/1:archive", "{}"),
    ("DELETE", "/v1/notes/1", ""),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_change_of_the_current_version_succeeds(
    notes: Notes, method: str, path: str, body: str
) -> None:
    for tag in ('"7"', "*", 'W/"7", "7"'):
        notes.add()
        response = await notes.client.request(
            method, path, content=body, headers=JSON | {"If-Match": tag}
        )
        assert response.is_success, tag
        assert notes.servicer.notes.get("1", note_pb2.Note()).etag != "7"


@pytest.mark.parametrize("tag", ['"6"', '"7+"', 'W/"7"', '""', 'W/"6", W/"7"'])
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_change_of_another_version_is_refused(
    notes: Notes, method: str, path: str, body: str, tag: str
) -> None:
    response = await notes.client.request(
        method, path, content=body, headers=JSON | {"If-Match": tag}
    )
    assert (response.status_code, response.json()["code"]) == (412, "ABORTED")
    assert response.json()["title"] == "Precondition Failed"
    assert notes.servicer.notes["1"].etag == "7"


async def test_change_of_a_missing_resource_is_not_found(notes: Notes) -> None:
    for tag in ('"7"', "*"):
        response = await notes.client.patch("/v1/notes/2", json={}, headers={"If-Match": tag})
        assert response.status_code == 404


async def test_etag_is_not_a_field_to_change(notes: Notes) -> None:
    body = {"text": "new", "etag": "7"}
    response = await notes.client.patch("/v1/notes/1", json=body, headers={"If-Match": '"7"'})
    assert response.status_code == 200
    (request,) = notes.servicer.calls
    assert isinstance(request, note_pb2.UpdateNoteRequest)
    assert request.update_mask.paths == ["text"]


async def test_etag_of_the_body_may_equal_if_match(notes: Notes) -> None:
    body = {"text": "new", "etag": "7"}
    same = await notes.client.patch("/v1/notes/1", json=body, headers={"If-Match": '"7"'})
    assert same.status_code == 200
    other = await notes.client.patch("/v1/notes/1", json=body, headers={"If-Match": '"8"'})
    assert (other.status_code, other.json()["reason"]) == (400, "INVALID_HEADER")


async def test_conflict_without_a_condition_stays_a_conflict(notes: Notes) -> None:
    body = {"text": "new", "etag": "6"}
    for headers in ({}, {"If-Match": "*"}):
        response = await notes.client.patch("/v1/notes/1", json=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (409, "ABORTED")


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        # Before it is created, a resource has no version.
        ("POST", "/v1/notes", "If-Match"),
        ("POST", "/v1/notes:import", "If-Match"),
        ("PUT", "/v1/notes/2:make", "If-Match"),
        # By AIP-154 the etag within a resource counts in an update only.
        ("POST", "/v1/notes/1:replace", "If-Match"),
        ("POST", "/v1/notes/1:lock", "If-Match"),
        ("GET", "/v1/notes/1:text", "If-Match"),
        # If-None-Match is compared with the response of a read; a service has no field for it.
        *((method, "/v1/notes/1", "If-None-Match") for method in ("PUT", "PATCH", "DELETE")),
        ("POST", "/v1/notes", "If-None-Match"),
    ],
)
async def test_condition_without_a_version_to_compare_is_refused(
    notes: Notes, method: str, path: str, header: str
) -> None:
    response = await notes.client.request(method, path, headers={header: '"7"'})
    assert (response.status_code, response.json()["reason"]) == (400, "UNSUPPORTED_CONDITION")
    assert header in response.json()["detail"]
    assert not notes.servicer.calls


async def test_only_one_version_can_be_forwarded(notes: Notes) -> None:
    response = await notes.client.delete("/v1/notes/1", headers={"If-Match": '"6", "7"'})
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_HEADER")
    assert not notes.servicer.calls


@pytest.mark.parametrize(
    ("method", "path", "header", "status"),
    [
        ("GET", "/v1/probes:watch?count=1", "If-Match", 400),
        ("POST", "/v1/probes:collect", "If-Match", 400),
        ("POST", "/v1/probes:chat", "If-None-Match", 400),
        # A stream has no version, so the client cannot have the current one.
        ("GET", "/v1/probes:watch?count=1", "If-None-Match", 200),
    ],
)
async def test_streams_have_no_version(method: str, path: str, header: str, status: int) -> None:
    async with Setup.serve() as setup:
        response = await setup.client.request(method, path, headers={header: '"7"'})
    assert response.status_code == status


async def test_date_conditions_are_ignored(notes: Notes) -> None:
    """Without Last-Modified RFC 9110 §13.1.3 and §13.1.4 have these two ignored."""
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        headers = {name: "Sat, 29 Oct 2044 19:43:31 GMT"}
        assert (await notes.client.get("/v1/notes/1", headers=headers)).status_code == 200
