"""HTTP requests, the gRPC calls that they become, and the answers: one table for each kind of rule.

Where grpc-gateway and Envoy's transcoder differ from one another or from google/api/http.proto, the
choice made here stands beside its cases:

- Unknown query parameters are refused; both of the others drop them (grpc-gateway issue 1210).
- A path that reads as a verb is never a resource; grpc-gateway falls back to the resource.
- A literal wins over a variable; in grpc-gateway the last rule that was registered wins.
- Fields with default values are left out, as json_format and Envoy do; grpc-gateway writes them.
- A record of a stream is the message itself, as in Envoy; grpc-gateway wraps it in `result`. A
  failure is `{"error": ...}` in grpc-gateway and here; Envoy cuts the stream.
- Numbers with a fraction or an exponent are no integers, not even 1.0; both of the others take it.
- A body that no rule asks for is refused; both of the others ignore it.
- An Empty answer is 204 without a body; both of the others send 200 and `{}`.
"""

from typing import Any

import pytest

from gateway.testing.fixtures import Setup
from gateway.testing.wire import connect

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "path", "request_message"),
    [
        ("GET", "/v1/probes/7", {"id": "7"}),
        ("GET", "/v1/probes/a%2Fb%3Fc%20%C3%A9", {"id": "a/b?c é"}),
        ("GET", "/v1/probes/a:b", {"id": "a:b"}),
        ("GET", "/v1/probes/special", {}),
        ("GET", "/v1/groups/1/probes/2", {"nested": {"name": "groups/1/probes/2"}}),
        ("GET", "/v1/groups/a%2Fb/probes/c%20d", {"nested": {"name": "groups/a%2Fb/probes/c d"}}),
        ("GET", "/v1/files/a/b/c%2Fd", {"id": "a/b/c%2Fd"}),
        ("GET", "/v1/files/a/b:stat", {"id": "a/b"}),
        (
            "GET",
            "/v1/typed/-5/true/KIND_TWO/2020-01-01T00:00:00Z",
            {
                "int32_value": -5,
                "bool_value": True,
                "kind": "KIND_TWO",
                "moment": "2020-01-01T00:00:00Z",
            },
        ),
        ("DELETE", "/v1/probes/7:forget", {"id": "7"}),
        ("REPORT", "/v1/probes", {}),
        *((method, "/v1/anything", {}) for method in ("GET", "POST", "PUT", "PATCH", "LOCK")),
        ("POST", "/v1/probes:touch", {}),
    ],
)
async def test_paths(setup: Setup, method: str, path: str, request_message: dict[str, Any]) -> None:
    answer = await setup.client.request(method, path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == JSON
    assert setup.request() == request_message


@pytest.mark.parametrize(
    ("query", "request_message"),
    [
        ("", {}),
        ("int32_value=-7&int64_value=8", {"int32_value": -7, "int64_value": "8"}),
        ("int32Value=7&uint64Value=9", {"int32_value": 7, "uint64_value": "9"}),
        ("otherName=a", {"renamed": "a"}),
        ("nested.name=a&nested.child.size=3", {"nested": {"name": "a", "child": {"size": 3}}}),
        ("tags=a&tags=b&tags=", {"tags": ["a", "b", ""]}),
        ("tags=a,b", {"tags": ["a,b"]}),
        ("tags=a%26b+c%2Bd%C3%A9", {"tags": ["a&b c+dé"]}),
        ("numbers=1&numbers=-2", {"numbers": [1, -2]}),
        ("kind=KIND_ONE", {"kind": "KIND_ONE"}),
        ("kind=2&kinds=KIND_ONE&kinds=2", {"kind": "KIND_TWO", "kinds": ["KIND_ONE", "KIND_TWO"]}),
        ("kind=77", {"kind": 77}),
        ("bool_value=true&maybe=0", {"bool_value": True, "maybe": 0}),
        ("bool_value=false", {}),
        ("double_value=1.5e3", {"double_value": 1500.0}),
        ("float_value=-Infinity", {"float_value": "-Infinity"}),
        ("bytes_value=-_8", {"bytes_value": "+/8="}),
        ("bytes_value=%2B/8%3D", {"bytes_value": "+/8="}),
        ("moment=2020-01-01T00:00:00.5%2B01:00", {"moment": "2019-12-31T23:00:00.500Z"}),
        ("moments=2020-01-01T00:00:00Z", {"moments": ["2020-01-01T00:00:00Z"]}),
        ("span=1.5s", {"span": "1.500s"}),
        ("mask=a,b_c.d,eF", {"mask": "a,bC.d,eF"}),
        ("wrapped_int32=0&wrapped_bool=false", {"wrapped_int32": 0, "wrapped_bool": False}),
        ("wrapped_uint64=7&wrapped_text=", {"wrapped_uint64": "7", "wrapped_text": ""}),
        ("wrapped_double=NaN", {"wrapped_double": "NaN"}),
        ("wrapped_bytes=AA", {"wrapped_bytes": "AA=="}),
        ("text=a", {"text": "a"}),
        ("number=0", {"number": 0}),
    ],
)
async def test_query(setup: Setup, query: str, request_message: dict[str, Any]) -> None:
    answer = await setup.client.get(f"/v1/probes/special?{query}")
    assert answer.status_code == 200, answer.text
    assert setup.request() == request_message


@pytest.mark.parametrize(
    ("query", "field", "status"),
    [
        *(("is_admin=1", "is_admin", 400), ("nested.price=1", "nested.price", 400)),
        *(("nested=1", "nested", 400), ("nested.child=1", "nested.child", 400)),
        *(("items.name=a", "items.name", 400), ("counts=1", "counts", 400)),
        *(("counts.a=1", "counts.a", 400), ("attributes=%7B%7D", "attributes", 400)),
        *(("anything=1", "anything", 400), ("any=a", "any", 400), ("empty=", "empty", 400)),
        *(
            ("id.x=a", "id.x", 400),
            ("moment.seconds=1", "moment.seconds", 400),
            ("=a", "(no name)", 400),
        ),
        (f"nested{'.child' * 10}.name=a", f"nested{'.child' * 10}.name", 400),
        *(("int32_value=1&int32Value=2", "int32_value", 400), ("text=a&number=1", "number", 400)),
        *(("int32_value=", "int32_value", 400), ("int32_value=1.0", "int32_value", 400)),
        *(("int32_value=%D9%A3", "int32_value", 400), ("int32_value=%201", "int32_value", 400)),
        *(("int32_value=2147483648", "int32_value", 422), ("uint32_value=-1", "uint32_value", 422)),
        *(("numbers=1&numbers=x", "numbers", 400), ("kind=KIND_THREE", "kind", 400)),
        *(("bool_value=1", "bool_value", 400), ("bool_value=True", "bool_value", 400)),
        *(("double_value=1e999", "double_value", 400), ("double_value=0x1", "double_value", 400)),
        *(("tags=a%00b", "tags", 400), ("wrapped_int32=x", "wrapped_int32", 400)),
        *(("moment=now", "moment", 400), ("span=1", "span", 400)),
        ("bytes_value=*", "bytes_value", 400),
    ],
)
async def test_bad_query(setup: Setup, query: str, field: str, status: int) -> None:
    answer = await setup.client.get(f"/v1/probes/special?{query}")
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["code"] == "INVALID_ARGUMENT"
    assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])
    assert not setup.servicer.calls


async def test_query_that_is_no_text_or_too_long_is_refused(setup: Setup) -> None:
    for query in ("tags=%ff", "&".join(f"tags={number}" for number in range(300))):
        answer = await setup.client.get(f"/v1/probes/special?{query}")
        assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_QUERY")
    async with connect(setup.url) as wire:
        await wire.send_raw(b"GET /v1/probes/special?tags=\xff HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await wire.read_head())[0] == 400


@pytest.mark.parametrize("path", ["/v1/probes/%ff", "/v1/probes/%00", "/v1/files/a/%c3"])
async def test_path_that_is_no_text_is_refused(setup: Setup, path: str) -> None:
    answer = await setup.client.get(path)
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_PATH")


@pytest.mark.parametrize(
    ("path", "field", "status"),
    [
        ("/v1/typed/x/true/KIND_ONE/2020-01-01T00:00:00Z", "int32_value", 400),
        ("/v1/typed/2147483648/true/KIND_ONE/2020-01-01T00:00:00Z", "int32_value", 422),
        ("/v1/typed/1/yes/KIND_ONE/2020-01-01T00:00:00Z", "bool_value", 400),
        ("/v1/typed/1/true/KIND_NONE/2020-01-01T00:00:00Z", "kind", 400),
        ("/v1/typed/1/true/1/now", "moment", 400),
    ],
)
async def test_bad_path_variable(setup: Setup, path: str, field: str, status: int) -> None:
    answer = await setup.client.get(path)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("method", "path", "body", "request_message"),
    [
        ("POST", "/v1/probes", '{"id": "a", "int64Value": "5"}', {"id": "a", "int64_value": "5"}),
        ("POST", "/v1/probes", "", {}),
        ("POST", "/v1/probes", " {} ", {}),
        ("PUT", "/v1/probes/7", '{"text": "a"}', {"id": "7", "text": "a"}),
        # What the path says cannot be said otherwise by the body.
        ("PUT", "/v1/probes/7", '{"id": "8"}', {"id": "7"}),
        ("POST", "/v1/probes/7:reset", "", {"id": "7"}),
        ("POST", "/v1/probes/7", '{"name": "a"}', {"id": "7", "nested": {"name": "a"}}),
        ("POST", "/v1/probes/7", "{}", {"id": "7", "nested": {}}),
        ("POST", "/v1/probes/7", "", {"id": "7"}),
        (
            "POST",
            "/v1/probes/7?text=b&tags=c",
            '{"size": 1}',
            {"id": "7", "nested": {"size": 1}, "text": "b", "tags": ["c"]},
        ),
        ("PUT", "/v1/probes/7/tags", '["a", "b"]', {"id": "7", "tags": ["a", "b"]}),
        ("PUT", "/v1/probes/7/count", "5", {"id": "7", "int64_value": "5"}),
        ("PUT", "/v1/probes/7/count", '"5"', {"id": "7", "int64_value": "5"}),
    ],
)
async def test_bodies(
    setup: Setup, method: str, path: str, body: str, request_message: dict[str, Any]
) -> None:
    answer = await setup.client.request(method, path, content=body, headers={"Content-Type": JSON})
    assert answer.status_code == 200, answer.text
    assert setup.request() == request_message


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/probes", "null", ""),
        ("POST", "/v1/probes", '{"price": 1}', "price"),
        ("POST", "/v1/probes?text=a", "{}", "text"),
        ("PUT", "/v1/probes/7?id=8", "{}", "id"),
        ("GET", "/v1/probes/7?id=8", "", "id"),
        ("POST", "/v1/probes/7?nested.size=1", "{}", "nested.size"),
        ("POST", "/v1/probes/7", "null", ""),
        ("POST", "/v1/probes/7", '{"id": "a"}', "id"),
        ("POST", "/v1/probes/7", '{"child": {"size": "x"}}', "child.size"),
        ("PUT", "/v1/probes/7/tags", '"a"', ""),
        ("PUT", "/v1/probes/7/tags", '["a", 1]', "[1]"),
        ("PUT", "/v1/probes/7/count", "1.5", ""),
        ("GET", "/v1/probes/7", "{}", ""),
        ("DELETE", "/v1/probes/7", "{}", ""),
        ("POST", "/v1/probes:touch", "{}", ""),
    ],
)
async def test_bad_bodies(setup: Setup, method: str, path: str, body: str, field: str) -> None:
    answer = await setup.client.request(method, path, content=body, headers={"Content-Type": JSON})
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])
    assert not setup.servicer.calls


@pytest.mark.parametrize(
    ("query", "body", "paths"),
    [
        ("", {"text": "a", "nested": {"child": {"size": 0}}}, ["text", "nested.child.size"]),
        ("", {"counts": {"a": 1}, "items": [{"name": "a"}]}, ["counts", "items"]),
        ("", {"attributes": {"a": {"b": 1}}, "moment": None}, ["attributes", "moment"]),
        ("", {"nested": {}}, ["nested"]),
        ("", {"otherName": "a"}, ["renamed"]),
        # A client may send back what it read: what only the service sets is not asked for.
        ("", {"text": "a", "state": "s", "etag": "e"}, ["text"]),
        ("", {}, []),
        ("update_mask=int32_value", {"text": "a"}, ["int32_value"]),
        ("updateMask=int32Value,text", {"text": "a"}, ["int32_value", "text"]),
        ("update_mask=*", {"text": "a"}, ["*"]),
        ("update_mask=", {"text": "a"}, []),
    ],
)
async def test_update_mask(
    setup: Setup, query: str, body: dict[str, Any], paths: list[str]
) -> None:
    answer = await setup.client.patch(f"/v1/probes/7?{query}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json().get("tags", []) == paths
    assert setup.request()["id"] == "7"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/probes/7:tags?tags=a&tags=b", b'["a","b"]'),
        ("/v1/probes/7:tags", b"[]"),
        ("/v1/probes/7:nested?nested.name=a", b'{"name":"a"}'),
        ("/v1/probes/7:nested", b"{}"),
        ("/v1/probes/7:count?int64_value=5", b'"5"'),
        ("/v1/probes/7:count", b'"0"'),
    ],
)
async def test_response_body(setup: Setup, path: str, body: bytes) -> None:
    answer = await setup.client.get(path)
    assert (answer.status_code, answer.content) == (200, body)


async def test_empty_answer_has_no_content(setup: Setup) -> None:
    answer = await setup.client.delete("/v1/probes/7")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Type" not in answer.headers


async def test_head_is_get_without_the_body(setup: Setup) -> None:
    answer = await setup.client.head("/v1/probes/7")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(b'{"id":"7"}'))
    assert (await setup.client.head("/v1/probes:watch")).status_code == 405


@pytest.mark.parametrize("content_type", ["image/png", "application/json", ""])
async def test_raw_body_goes_both_ways_as_it_is(setup: Setup, content_type: str) -> None:
    data = bytes(range(256))
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await setup.client.post("/v1/raw/7", content=data, headers=headers)
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["Content-Type"] == (content_type or "application/octet-stream")
