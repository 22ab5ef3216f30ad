"""Query parameters: names, types, and what is refused."""

from typing import Any

import pytest

from gateway.testing.fixtures import Setup
from gateway.testing.wire import connect

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")


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
        ("kinds=1&kinds=77", {"kinds": ["KIND_ONE", 77]}),
        ("bool_value=true&maybe=0", {"bool_value": True, "maybe": 0}),
        ("bool_value=false", {}),
        ("double_value=1.5e3", {"double_value": 1500.0}),
        ("float_value=-Infinity", {"float_value": "-Infinity"}),
        ("bytes_value=-_8", {"bytes_value": "+/8="}),
        ("bytes_value=%2B/8%3D", {"bytes_value": "+/8="}),
        ("moment=2020-01-01T00:00:00.5%2B01:00", {"moment": "2019-12-31T23:00:00.500Z"}),
        (
            "moments=2020-01-01T00:00:00Z&moments=0001-01-01T00:00:00Z",
            {"moments": ["2020-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]},
        ),
        ("span=1.5s", {"span": "1.500s"}),
        ("span=-0.000000001s", {"span": "-0.000000001s"}),
        ("mask=a,b_c.d,eF", {"mask": "a,bC.d,eF"}),
        ("mask=", {"mask": ""}),
        ("wrapped_int32=0&wrapped_bool=false", {"wrapped_int32": 0, "wrapped_bool": False}),
        ("wrapped_uint64=7&wrapped_text=", {"wrapped_uint64": "7", "wrapped_text": ""}),
        ("wrapped_double=NaN", {"wrapped_double": "NaN"}),
        ("wrapped_bytes=AA", {"wrapped_bytes": "AA=="}),
        ("wrappedUint64=18446744073709551615", {"wrapped_uint64": "18446744073709551615"}),
        ("nested.child.child.name=deep", {"nested": {"child": {"child": {"name": "deep"}}}}),
        ("text=a", {"text": "a"}),
        ("number=0", {"number": 0}),
    ],
)
async def test_query_sets_the_fields_of_the_request(
    setup: Setup, query: str, request_message: dict[str, Any]
) -> None:
    response = await setup.client.get(f"/v1/probes/special?{query}")
    assert response.status_code == 200, response.text
    assert setup.request() == request_message


@pytest.mark.parametrize(
    ("query", "field", "status"),
    [
        ("is_admin=1", "is_admin", 400),
        ("nested.price=1", "nested.price", 400),
        ("nested=1", "nested", 400),
        ("nested.child=1", "nested.child", 400),
        ("items.name=a", "items.name", 400),
        ("counts=1", "counts", 400),
        ("counts.a=1", "counts.a", 400),
        ("attributes=%7B%7D", "attributes", 400),
        ("anything=1", "anything", 400),
        ("any=a", "any", 400),
        ("empty=", "empty", 400),
        ("id.x=a", "id.x", 400),
        ("moment.seconds=1", "moment.seconds", 400),
        ("=a", "(not a name)", 400),
        (f"nested{'.child' * 10}.name=a", f"nested{'.child' * 10}.name", 400),
        ("int32_value=1&int32Value=2", "int32_value", 400),
        ("text=a&number=1", "number", 400),
        ("int32_value=", "int32_value", 400),
        ("int32_value=1.0", "int32_value", 400),
        ("int32_value=%D9%A3", "int32_value", 400),
        ("int32_value=%201", "int32_value", 400),
        ("int32_value=2147483648", "int32_value", 422),
        ("uint32_value=-1", "uint32_value", 422),
        ("numbers=1&numbers=x", "numbers", 400),
        ("kind=KIND_THREE", "kind", 400),
        ("bool_value=1", "bool_value", 400),
        ("bool_value=True", "bool_value", 400),
        ("double_value=1e999", "double_value", 400),
        ("double_value=0x1", "double_value", 400),
        ("tags=a%00b", "tags", 400),
        ("wrapped_int32=x", "wrapped_int32", 400),
        ("moment=now", "moment", 400),
        ("span=1", "span", 400),
        ("bytes_value=*", "bytes_value", 400),
        # The problem names the parameter as the client does.
        ("int32Value=x", "int32Value", 400),
        ("nested.child.size=x", "nested.child.size", 400),
        ("int32Value=1&int32_value=2", "int32Value", 400),
        ("otherName=%00", "otherName", 400),
        ("boolValue=1", "boolValue", 400),
        ("wrappedInt32=2147483648", "wrappedInt32", 422),
    ],
)
async def test_query_that_does_not_fit_is_refused(
    setup: Setup, query: str, field: str, status: int
) -> None:
    response = await setup.client.get(f"/v1/probes/special?{query}")
    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["code"] == "INVALID_ARGUMENT"
    assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])
    assert not setup.servicer.calls


async def test_query_that_is_not_utf_8_or_too_long_is_refused(setup: Setup) -> None:
    for query in ("tags=%ff", "&".join(f"tags={number}" for number in range(300))):
        response = await setup.client.get(f"/v1/probes/special?{query}")
        assert (response.status_code, response.json()["reason"]) == (400, "INVALID_QUERY")
    async with connect(setup.url) as wire:
        await wire.send_raw(b"GET /v1/probes/special?tags=\xff HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await wire.read_head())[0] == 400
