"""Path templates: the RPC of a path, and the values of its variables."""

from typing import Any

import pytest

from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("method", "path", "request_message"),
    [
        ("GET", "/v1/probes/7", {"id": "7"}),
        # A value of one segment is decoded whole; in one of several, a slash stays encoded.
        ("GET", "/v1/probes/a%2Fb%3Fc%20%C3%A9", {"id": "a/b?c é"}),
        ("GET", "/v1/probes/%2525", {"id": "%25"}),
        ("GET", "/v1/probes/a+b", {"id": "a+b"}),
        ("GET", "/v1/probes/special", {}),
        ("GET", "/v1/groups/1/probes/2", {"nested": {"name": "groups/1/probes/2"}}),
        ("GET", "/v1/groups/a%2Fb/probes/c%20d", {"nested": {"name": "groups/a%2Fb/probes/c d"}}),
        ("GET", "/v1/files/a/b/c%2Fd", {"id": "a/b/c%2Fd"}),
        ("GET", "/v1/files", {}),
        ("GET", "/v1/files/a/b:stat", {"id": "a/b"}),
        (
            "GET",
            "/v1/groups/1/files/a/b:peek",
            {"nested": {"name": "groups/1"}, "id": "files/a/b"},
        ),
        ("GET", "/v1/any/thing/x/of/y", {"nested": {"child": {"name": "x"}}, "id": "y"}),
        # A verb is what follows the last colon of the last segment, if there is such a verb.
        ("GET", "/v1/probes/a:b", {"id": "a:b"}),
        ("DELETE", "/v1/probes/7:forget", {"id": "7"}),
        ("DELETE", "/v1/probes/a:b:forget", {"id": "a:b"}),
        ("GET", "/v1/probes/7%3Atags", {"id": "7:tags"}),
        ("POST", "/v1/probes:touch", {}),
        # Custom methods, and `*` for every method.
        ("REPORT", "/v1/probes", {}),
        *((method, "/v1/anything", {}) for method in ("GET", "POST", "PUT", "PATCH", "LOCK")),
    ],
)
async def test_path_sets_the_fields_of_the_request(
    setup: Setup, method: str, path: str, request_message: dict[str, Any]
) -> None:
    response = await setup.client.request(method, path)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert setup.request() == request_message


@pytest.mark.parametrize(
    ("path", "request_message"),
    [
        (
            "/v1/typed/-5/true/KIND_TWO/2020-01-01T00:00:00Z",
            {
                "int32_value": -5,
                "bool_value": True,
                "kind": "KIND_TWO",
                "moment": "2020-01-01T00:00:00Z",
            },
        ),
        (
            "/v1/typed/0/false/77/2020-01-01T01:00:00.5%2B01:00",
            {"kind": 77, "moment": "2020-01-01T00:00:00.500Z"},
        ),
        (
            "/v1/wrapped/0/1.5s/a,b_c.d/-_8",
            {
                "wrapped_uint64": "0",
                "span": "1.500s",
                "mask": "a,bC.d",
                "bytes_value": "+/8=",
            },
        ),
    ],
)
async def test_variables_have_the_types_of_their_fields(
    setup: Setup, path: str, request_message: dict[str, Any]
) -> None:
    response = await setup.client.get(path)
    assert response.status_code == 200, response.text
    assert setup.request() == request_message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/probes/"),
        ("GET", "/v1/probes//x"),
        ("GET", "//v1/probes/7"),
        ("GET", "/V1/probes/7"),
        ("GET", "/v1/probes/7/"),
        ("GET", "/v1/groups/1/probes/"),
        ("GET", "/v1/groups/1"),
        ("GET", "/v1/groups/1/probes/2/3"),
        ("POST", "/v1/none:touch"),
        ("GET", "/v1/any/thing/x/of/"),
        ("GET", "/v1/any/x/of/y"),
    ],
)
async def test_path_without_a_route_is_not_found(setup: Setup, method: str, path: str) -> None:
    # httpx would take `//v1` for a host.
    response = await setup.client.request(method, setup.url + path)
    assert (response.status_code, response.json()["reason"]) == (404, "UNKNOWN_PATH")
    assert not setup.servicer.calls


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
async def test_path_variable_of_another_type_is_refused(
    setup: Setup, path: str, field: str, status: int
) -> None:
    response = await setup.client.get(path)
    assert response.status_code == status
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("path", ["/v1/probes/%ff", "/v1/probes/%00", "/v1/files/a/%c3"])
async def test_path_that_is_not_utf_8_is_refused(setup: Setup, path: str) -> None:
    response = await setup.client.get(path)
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_PATH")
