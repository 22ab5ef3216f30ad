"""What all requests have in common: methods, types, limits, headers, deadlines and failures."""

import asyncio
import gzip
import json

import httpx
import pytest
from probe.v1 import probe_pb2

from gateway.http.body import MAX_BODY_BYTES
from gateway.testing.fixtures import Setup
from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.wire import connect

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/json"
NDJSON = "application/x-ndjson"
TYPE = {"Content-Type": JSON}


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/v1", 404, None),
        ("GET", "/v1/probes/", 404, None),
        ("GET", "/v2/probes/7", 404, None),
        ("POST", "/v1/probes/a/b", 404, None),
        ("PUT", "/v1/probes", 405, "OPTIONS, POST, REPORT"),
        ("GET", "/v1/probes", 405, "OPTIONS, POST, REPORT"),
        ("GET", "/v1/probes/7:reset", 405, "OPTIONS, POST"),
        ("PATCH", "/v1/probes/special", 200, None),
        ("POST", "/v1/groups/1/probes/2", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/v1/probes/7", 204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        # The headers of a stream need its call, and without a body nothing would end the call.
        ("POST", "/v1/probes:watch", 405, "GET, OPTIONS"),
        ("HEAD", "/v1/probes:watch", 405, "GET, OPTIONS"),
        ("HEAD", "/v1/anything:watch", 405, "DELETE, GET, OPTIONS, PATCH, POST, PUT"),
        ("OPTIONS", "/v1/probes", 204, "OPTIONS, POST, REPORT"),
        ("OPTIONS", "/v2/probes", 404, None),
        ("OPTIONS", "/v1/anything", 200, None),
    ],
)
async def test_path_without_a_route_is_404_and_a_method_without_one_405(
    setup: Setup, method: str, path: str, status: int, allow: str | None
) -> None:
    response = await setup.client.request(method, path)
    assert response.status_code == status
    if status >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        if method != "HEAD":
            assert response.json()["status"] == status
    assert response.headers.get("Allow") == allow


@pytest.mark.parametrize("path", ["/v1/probes:watch?count=-1", "/v1/anything:watch?count=-1"])
async def test_head_never_begins_a_stream(setup: Setup, path: str) -> None:
    response = await setup.client.head(path)
    assert (response.status_code, setup.servicer.calls) == (405, [])


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/v1/probes/7"])
async def test_head_is_get_without_the_body(setup: Setup, path: str) -> None:
    headers = {"Accept-Encoding": "identity"}
    get = await setup.client.get(path, headers=headers)
    head = await setup.client.head(path, headers=headers)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers.get(name) == get.headers.get(name)


@pytest.mark.parametrize(
    ("path", "content_type", "status"),
    [
        ("/v1/probes", JSON, 200),
        ("/v1/probes", "Application/JSON; charset=UTF-8", 200),
        ("/v1/probes", 'application/json;charset="utf-8"', 200),
        ("/v1/probes", "", 415),
        ("/v1/probes", "text/plain", 415),
        ("/v1/probes", "application/jsonp", 415),
        ("/v1/probes", "application/x-www-form-urlencoded", 415),
        ("/v1/probes", NDJSON, 415),
        ("/v1/probes", "application/json; charset=latin-1", 415),
        ("/v1/probes:chat", NDJSON, 200),
        ("/v1/probes:chat", "application/jsonl", 200),
        ("/v1/probes:chat", JSON, 415),
        ("/v1/probes:collect", "text/plain", 415),
        ("/v1/probes:chat", "", 415),
        ("/v1/raw:echo", "", 200),
        ("/v1/raw:upload", "", 200),
    ],
)
async def test_body_of_another_media_type_is_415(
    setup: Setup, path: str, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await setup.client.post(path, content="{}", headers=headers)
    assert response.status_code == status, response.text
    assert bool(setup.servicer.calls) == (status == 200)


@pytest.mark.parametrize(
    "path", ["/v1/probes", "/v1/probes:chat", "/v1/raw:echo", "/v1/raw:upload"]
)
async def test_compressed_body_is_refused(setup: Setup, path: str) -> None:
    content_type = NDJSON if path == "/v1/probes:chat" else JSON
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    response = await setup.client.post(path, content=gzip.compress(b"{}"), headers=headers)
    assert response.status_code == 415
    assert response.json()["reason"] == "UNSUPPORTED_CONTENT_ENCODING"
    assert response.headers["Accept-Encoding"] == "identity"
    assert not setup.servicer.calls


async def test_encoding_without_a_body_is_ignored(setup: Setup) -> None:
    response = await setup.client.post("/v1/probes", headers={"Content-Encoding": "gzip"})
    assert response.status_code == 200


async def test_body_over_the_limit_is_refused(setup: Setup) -> None:
    padding = " " * (MAX_BODY_BYTES - 2)
    assert (
        await setup.client.post("/v1/probes", content="{}" + padding, headers=TYPE)
    ).status_code == 200
    response = await setup.client.post("/v1/probes", content="{}" + padding + " ", headers=TYPE)
    assert (response.status_code, response.json()["reason"]) == (413, "TOO_LARGE")


async def test_chunked_body_over_the_limit_is_refused_before_its_end(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("POST", "/v1/probes", TYPE | {"Transfer-Encoding": "chunked"})
        for _ in range(MAX_BODY_BYTES // 65_536 + 1):
            await wire.send_chunk(b" " * 65_536)
        assert (await wire.read_head())[0] == 413
    assert not setup.servicer.calls


async def test_half_a_body_makes_no_call(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("POST", "/v1/probes", {"Content-Length": "10"})
        await wire.send_raw(b"{}")
        wire.abort()
    # A later request is served after the first one's end was noticed.
    await setup.client.get("/v1/probes/7")
    assert [call.rpc for call in setup.servicer.calls] == ["GetProbe"]


async def test_refusal_is_a_problem(setup: Setup) -> None:
    body = {
        "message": "Too few.",
        "reason": "OUT_OF_STOCK",
        "metadata": {"http_status": "409", "product": "7"},
        "fields": ["lines[0]"],
        "retryDelay": "2s",
    }
    response = await setup.client.post("/v1/failures/9", json=body)
    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "2"
    assert response.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "Too few.",
        "code": "FAILED_PRECONDITION",
        "reason": "OUT_OF_STOCK",
        "errors": [{"field": "lines[0]", "description": "is wrong"}],
        "metadata": {"product": "7"},
    }


REQUEST_ID = "0AF76519-16cd-43dd-8448-eb211c80319c"


async def test_only_allowed_headers_are_forwarded(setup: Setup) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {
        "Authorization": "Bearer a.b.c",
        "X-Request-Id": REQUEST_ID,
        "traceparent": trace,
        "Cookie": "a=b",
        "Grpc-Metadata-X-Admin": "1",
        "X-Anything": "1",
        "tracestate": "a=b",
        "X-Forwarded-For": "203.0.113.9",
    }
    response = await setup.client.get("/v1/probes/7", headers=headers)
    seen = {key: value for key, value in setup.metadata().items() if key != "user-agent"}
    assert seen == {
        "authorization": "Bearer a.b.c",
        "x-forwarded-for": "127.0.0.1",
        "x-request-id": REQUEST_ID,
        "traceparent": trace,
    }
    assert response.headers["X-Request-Id"] == REQUEST_ID


async def test_headers_that_an_rpc_asks_for_are_forwarded_to_it(setup: Setup) -> None:
    headers = {"X-Signature": "t=1,v1=a", "X-Signed-Time": "1", "X-Anything": "1"}
    body = b'{ "a" : 1.0,\r\n "a" : "\xc3\xa9\\u00e9" }\n'
    response = await setup.client.post("/v1/raw/7", content=body, headers=headers)
    assert response.content == body
    seen = setup.metadata()
    assert (seen["x-signature"], seen["x-signed-time"]) == ("t=1,v1=a", "1")
    assert "x-anything" not in seen
    await setup.client.get("/v1/probes/7", headers=headers)
    assert "x-signature" not in setup.metadata()


async def test_a_header_that_an_rpc_asks_for_must_be_printable(setup: Setup) -> None:
    headers = {b"X-Signature": b"\xe9"}
    response = await setup.client.post("/v1/raw/7", content=b"a", headers=headers)
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_HEADER")
    assert setup.servicer.calls == []


@pytest.mark.parametrize(
    "trace",
    [
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "0af7651916cd43dd8448eb211c80319c",
    ],
)
async def test_malformed_traceparent_is_not_forwarded(setup: Setup, trace: str) -> None:
    """The next one starts a new trace then (W3C Trace Context §3.2.4)."""
    await setup.client.get("/v1/probes/7", headers={"traceparent": trace})
    assert "traceparent" not in setup.metadata()


@pytest.mark.parametrize("given", [REQUEST_ID, "0af7651916cd43dd8448eb211c80319c"])
async def test_a_request_keeps_the_id_that_it_comes_with(setup: Setup, given: str) -> None:
    response = await setup.client.get("/v1/probes/7", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] == given


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "a b",
        "a" * 33,
        "a\tb",
        "my-id.1",
        "4242424242424242",
        "42" * 16,
        "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k",
    ],
)
async def test_request_id_is_generated_unless_a_valid_one_is_given(
    setup: Setup, given: str | None
) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    response = await setup.client.get("/v1/probes/7", headers=headers)
    made = response.headers["X-Request-Id"]
    assert len(made) == 32
    assert made != given
    assert setup.metadata()["x-request-id"] == made
    assert len((await setup.client.get("/none")).headers["X-Request-Id"]) == 32


async def test_header_that_grpc_cannot_carry_is_refused(setup: Setup) -> None:
    response = await setup.client.get("/v1/probes/7", headers={b"Authorization": b"Bearer \xe9"})
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_HEADER")


@pytest.mark.parametrize(
    ("asked", "lowest", "highest"),
    [
        (None, 9, 10.5),
        ("2S", 1, 2.5),
        ("1500m", 1, 1.9),
        ("1H", 290, 310),
        ("2M", 110, 125),
        ("99999999H", 290, 310),
    ],
)
async def test_grpc_timeout_is_the_deadline_of_the_call_up_to_a_limit(
    setup: Setup, asked: str | None, lowest: float, highest: float
) -> None:
    headers = {} if asked is None else {"Grpc-Timeout": asked}
    await setup.client.get("/v1/probes/7", headers=headers)
    remaining = setup.servicer.calls[0].time_remaining_seconds
    assert remaining is not None
    assert lowest <= remaining <= highest


@pytest.mark.parametrize("asked", ["1", "S", "-1S", "1.5S", "123456789S", "1s"])
async def test_bad_deadline_is_refused(setup: Setup, asked: str) -> None:
    response = await setup.client.get("/v1/probes/7", headers={"Grpc-Timeout": asked})
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_HEADER")


async def test_call_past_its_deadline_is_504(setup: Setup) -> None:
    response = await setup.client.post(
        "/v1/waits", json={"seconds": 30}, headers={"Grpc-Timeout": "50m"}
    )
    assert (response.status_code, response.json()["code"]) == (504, "DEADLINE_EXCEEDED")


async def test_client_that_leaves_cancels_its_call(setup: Setup) -> None:
    setup.servicer.cancelled.clear()
    body = b'{"seconds": 30}'
    async with connect(setup.url) as wire:
        length = {"Content-Length": str(len(body))}
        await wire.send_head("POST", "/v1/waits", TYPE | length)
        await wire.send_raw(body)
        await setup.servicer.wait_for(1)
        wire.abort()
        await asyncio.wait_for(setup.servicer.cancelled.wait(), timeout=3)


async def test_connection_stays_usable_after_a_watched_call(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        for number in range(2):
            await wire.send_head("POST", "/v1/waits", TYPE | {"Content-Length": "16"})
            await wire.send_raw(b'{"seconds": 0.2}')
            status, headers = await wire.read_head()
            assert status == 200
            body = await wire.read_raw(int(headers["content-length"]))
            assert json.loads(body) == {"number": number + 1}


async def test_call_that_was_cancelled_is_499(setup: Setup) -> None:
    response = await setup.client.post("/v1/failures/1", json={"message": "m"})
    assert (response.status_code, response.json()["code"]) == (499, "CANCELLED")
    assert response.json()["title"] == "Client Closed Request"


async def test_streams_have_no_deadline_of_their_own(setup: Setup) -> None:
    await setup.client.get("/v1/probes:watch?count=1")
    assert setup.servicer.calls[0].time_remaining_seconds is None


@pytest.mark.parametrize("asked", ["9999999H", "99999999H", "99999999S"])
async def test_deadline_of_a_stream_may_be_far_away(setup: Setup, asked: str) -> None:
    headers = {"Grpc-Timeout": asked}
    response = await setup.client.get("/v1/probes:watch?count=1", headers=headers)
    assert response.status_code == 200
    remaining = setup.servicer.calls[0].time_remaining_seconds
    assert remaining is not None
    assert remaining > 29 * 86_400


async def test_response_over_the_limit_of_grpc_is_a_failure_of_the_server(setup: Setup) -> None:
    response = await setup.client.post("/v1/waits", json={"size": 5_000_000})
    assert (response.status_code, response.json()["reason"]) == (500, "RESPONSE_TOO_LARGE")
    assert "larger than max" not in response.text
    stream = await setup.client.get("/v1/probes:watch?count=1&size=5000000")
    assert (stream.status_code, stream.json()["reason"]) == (500, "RESPONSE_TOO_LARGE")


async def test_quota_of_a_service_stays_429(setup: Setup) -> None:
    response = await setup.client.post("/v1/failures/8", json={"message": "Too many messages."})
    assert (response.status_code, response.json()["code"]) == (429, "RESOURCE_EXHAUSTED")
    assert response.json()["detail"] == "Too many messages."


async def test_service_that_is_down_is_503_without_its_address() -> None:
    app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port=1)
    async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.post("/v1/probes", json={})
        ready = await client.get("/readyz")
        live = await client.get("/healthz")
    assert response.status_code == 503
    assert "127.0.0.1" not in response.text
    assert ready.status_code == 503
    assert ready.json()["services"] == {"probe.v1.ProbeService": False}
    assert live.status_code == 200


async def test_concurrent_requests_do_not_mix(setup: Setup) -> None:
    responses = await asyncio.gather(
        *(setup.client.get(f"/v1/probes/{number}?tags={number}") for number in range(200))
    )
    for number, response in enumerate(responses):
        assert response.json() == {"id": str(number), "tags": [str(number)]}
