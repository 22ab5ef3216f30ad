"""Responses: bodies, statuses, and headers that a service sends itself."""

import json

import pytest

from gateway.testing.fixtures import Notes, Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/probes/7:tags?tags=a&tags=b", b'["a","b"]'),
        ("/v1/probes/7:tags", b"[]"),
        ("/v1/probes/7:nested?nested.name=a", b'{"name":"a"}'),
        ("/v1/probes/7:nested", b"{}"),
        ("/v1/probes/7:count?int64_value=5", b'"5"'),
        ("/v1/probes/7:count", b'"0"'),
        ("/v1/probes/7:kind?kind=2", b'"KIND_TWO"'),
        ("/v1/probes/7:kind?kind=77", b"77"),
        ("/v1/probes/7:kind", b'"KIND_UNSPECIFIED"'),
        ("/v1/probes/7:moment?moment=2020-01-01T00:00:00Z", b'"2020-01-01T00:00:00Z"'),
        ("/v1/probes/7:wrapped?wrapped_int32=0", b"0"),
        ("/v1/probes/7:counts", b"{}"),
        ("/v1/probes/7:items", b"[]"),
    ],
)
async def test_response_body_can_be_a_field(setup: Setup, path: str, body: bytes) -> None:
    response = await setup.client.get(path)
    assert (response.status_code, response.content) == (200, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/probes/7/counts", b'{"a":1}'),
        ("/v1/probes/7/items", b'[{"name":"a"},{}]'),
    ],
)
async def test_map_and_list_are_bodies_both_ways(setup: Setup, path: str, body: bytes) -> None:
    response = await setup.client.put(path, content=body, headers=JSON)
    field = path.rpartition("/")[2]
    assert response.json()[field] == json.loads(body)


async def test_empty_response_has_no_content(setup: Setup) -> None:
    response = await setup.client.delete("/v1/probes/7")
    assert (response.status_code, response.content) == (204, b"")
    assert "Content-Type" not in response.headers


async def test_head_is_get_without_the_body(setup: Setup) -> None:
    response = await setup.client.head("/v1/probes/7")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Length"] == str(len(b'{"id":"7"}'))
    assert (await setup.client.head("/v1/probes:watch")).status_code == 405


@pytest.mark.parametrize("content_type", ["image/png", "application/json", ""])
async def test_raw_body_is_unchanged_both_ways(setup: Setup, content_type: str) -> None:
    data = bytes(range(256))
    headers = {"Content-Type": content_type} if content_type else {}
    response = await setup.client.post("/v1/raw/7", content=data, headers=headers)
    assert (response.status_code, response.content) == (200, data)
    assert response.headers["Content-Type"] == (content_type or "application/octet-stream")


async def test_raw_body_may_be_a_whole_request_and_response(setup: Setup) -> None:
    headers = {"Content-Type": "image/png"}
    response = await setup.client.post("/v1/raw:echo", content=b"\x00\xff", headers=headers)
    assert (response.content, response.headers["Content-Type"]) == (b"\x00\xff", "image/png")
    empty = await setup.client.post("/v1/raw:echo")
    assert (empty.status_code, empty.content) == (200, b"")


async def test_raw_body_may_be_a_field_of_a_response(setup: Setup) -> None:
    headers = {"Content-Type": "text/csv"}
    response = await setup.client.post("/v1/raw/7:wrap", content=b"a,b", headers=headers)
    assert (response.content, response.headers["Content-Type"]) == (b"a,b", "text/csv")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/raw/7"),
        ("POST", "/v1/raw:echo"),
        ("POST", "/v1/raw/7:wrap"),
        ("GET", "/v1/raw:download?count=2"),
    ],
)
async def test_raw_body_never_acts_as_a_page_of_the_gateway(
    setup: Setup, method: str, path: str
) -> None:
    """The client that stores a file chooses its type, and /docs has the same origin."""
    script = b"<script>fetch('/v1/users')</script>" if method == "POST" else b""
    headers = {"Content-Type": "text/html"}
    response = await setup.client.request(method, path, content=script, headers=headers)
    assert response.status_code == 200
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


async def test_raw_body_within_a_message_is_json(setup: Setup) -> None:
    response = await setup.client.get("/v1/raw/7:whole?payload.data=AP8")
    assert response.json() == {"id": "7", "payload": {"data": "AP8="}}


@pytest.mark.parametrize("path", ["/v1/notes", "/v1/notes?validateOnly=false"])
async def test_creation_is_201_with_its_location(notes: Notes, path: str) -> None:
    response = await notes.client.post(path, json={"noteId": "2", "text": "new"})
    assert response.status_code == 201
    assert response.headers["Location"] == "/v1/notes/2"
    assert response.headers["Content-Type"] == "application/json"
    found = await notes.client.get(response.headers["Location"])
    assert found.json() == response.json() == {"noteId": "2", "text": "new"}


async def test_creation_by_put_has_a_location(notes: Notes) -> None:
    response = await notes.client.put("/v1/notes/2:make", json={"etag": "1"})
    assert (response.status_code, response.headers["Location"]) == (201, "/v1/notes/2")
    assert "ETag" not in response.headers


@pytest.mark.parametrize("note_id", ["a/b", "a b?c#d", "é", "50%", "a:text", "%2F", "a+b"])
async def test_location_leads_to_the_resource_whatever_its_id(notes: Notes, note_id: str) -> None:
    response = await notes.client.post("/v1/notes", json={"noteId": note_id})
    location = response.headers["Location"]
    assert location.isascii()
    assert location.count("/") == 3
    found = await notes.client.get(location)
    assert found.json() == {"noteId": note_id}


@pytest.mark.parametrize("note_id", ["", ".", ".."])
async def test_resource_without_a_valid_path_has_no_location(notes: Notes, note_id: str) -> None:
    response = await notes.client.post("/v1/notes", json={"noteId": note_id})
    assert response.status_code == 200
    assert "Location" not in response.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/notes?validate_only=true", {"noteId": "2", "etag": "1"}),
        ("/v1/notes?validateOnly=true", {"noteId": "2", "etag": "1"}),
        ("/v1/notes:import", {"note": {"noteId": "2", "etag": "1"}, "validateOnly": True}),
    ],
)
async def test_validation_creates_nothing(notes: Notes, path: str, body: object) -> None:
    """By AIP-163 the response is that of the creation, as far as the service can tell."""
    response = await notes.client.post(path, json=body)
    assert (response.status_code, response.json()) == (200, {"noteId": "2", "etag": "1"})
    assert "Location" not in response.headers
    assert "ETag" not in response.headers
    assert (await notes.client.get("/v1/notes/2")).status_code == 404


async def test_validation_of_a_change_has_no_new_version(notes: Notes) -> None:
    response = await notes.client.patch("/v1/notes/1?validate_only=true", json={"text": "new"})
    assert (response.status_code, response.json()["text"]) == (200, "new")
    assert "ETag" not in response.headers
    assert notes.servicer.notes["1"].text == "old"


async def test_failed_creation_has_no_location(notes: Notes) -> None:
    body = {"note": {"noteId": "2"}, "aside": {"code": 6, "initial": ["location: /v1/x"]}}
    response = await notes.client.post("/v1/notes:import", json=body)
    assert response.status_code == 409
    assert "Location" not in response.headers


@pytest.mark.parametrize("where", ["initial", "trailing"])
@pytest.mark.parametrize(
    ("sent", "tag"),
    [
        ('etag: "x"', '"x"'),
        ('etag: W/"x"', 'W/"x"'),
        # An invalid entity tag is ignored, and the derived one is sent.
        ("etag: x", '"7"'),
        ('etag: "x', '"7"'),
        ('etag: "a b"', '"7"'),
        ("etag: ", '"7"'),
    ],
)
async def test_tag_that_the_service_sends_wins(
    notes: Notes, where: str, sent: str, tag: str
) -> None:
    query = {f"aside.{where}": sent}
    response = await notes.client.get("/v1/notes/1", params=query)
    assert response.headers["ETag"] == tag
    known = await notes.client.get("/v1/notes/1", params=query, headers={"If-None-Match": tag})
    assert known.status_code == 304


async def test_later_metadata_wins(notes: Notes) -> None:
    query = {"aside.initial": 'etag: "x"', "aside.trailing": ['etag: "y"', "etag: z"]}
    assert (await notes.client.get("/v1/notes/1", params=query)).headers["ETag"] == '"y"'


@pytest.mark.parametrize(
    ("sent", "location"),
    [
        ("location: /v1/elsewhere/2", "/v1/elsewhere/2"),
        ("location: https://other.example/a?b=c#d", "https://other.example/a?b=c#d"),
        ("location: a b", "/v1/notes/2"),
        ("location: ", "/v1/notes/2"),
        ("location: /v1/%zz", "/v1/notes/2"),
    ],
)
async def test_location_that_the_service_sends_wins(notes: Notes, sent: str, location: str) -> None:
    body = {"note": {"noteId": "2"}, "aside": {"trailing": [sent]}}
    response = await notes.client.post("/v1/notes:import", json=body)
    assert (response.status_code, response.headers["Location"]) == (201, location)


async def test_creation_that_is_not_done_is_202_with_the_time_to_look_again(notes: Notes) -> None:
    body = {"note": {"noteId": "2"}, "aside": {"trailing": ["retry-after: 7"]}}
    response = await notes.client.post("/v1/notes:import", json=body)
    assert (response.status_code, response.headers["Retry-After"]) == (202, "7")
    assert response.headers["Location"] == "/v1/notes/2"


async def test_sent_location_of_a_resource_that_was_not_created_is_ignored(notes: Notes) -> None:
    query = {"aside.initial": "location: /v1/notes/2"}
    response = await notes.client.get("/v1/notes/1", params=query)
    assert (response.status_code, response.headers["Location"]) == (200, "/v1/notes/2")


@pytest.mark.parametrize("where", ["initial", "trailing"])
@pytest.mark.parametrize(
    ("sent", "header"),
    [
        ("retry-after: 7", "7"),
        ("retry-after: Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"),
        # An invalid Retry-After is ignored, and the RetryInfo is used.
        ("retry-after: soon", "2"),
        ("retry-after: -1", "2"),
        ("retry-after: 1.5", "2"),
    ],
)
async def test_failure_has_a_retry_after_header(
    notes: Notes, where: str, sent: str, header: str
) -> None:
    query = {f"aside.{where}": sent, "aside.code": "14", "aside.retry_delay": "2s"}
    response = await notes.client.get("/v1/notes/1", params=query)
    assert (response.status_code, response.headers["Retry-After"]) == (503, header)


async def test_other_metadata_is_not_returned(notes: Notes) -> None:
    sent = ["x-internal: 1", "set-cookie: a=b", "grpc-metadata-x: 1", "retry-after: 5"]
    for where in ("initial", "trailing"):
        response = await notes.client.get("/v1/notes/1", params={f"aside.{where}": sent})
        assert response.status_code == 200
        assert set(response.headers) == {
            "content-type",
            "content-length",
            "content-security-policy",
            "date",
            "etag",
            "ratelimit",
            "ratelimit-policy",
            "referrer-policy",
            "server",
            "x-content-type-options",
            "x-request-id",
        }
