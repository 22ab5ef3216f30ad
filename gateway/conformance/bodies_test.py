"""Request bodies: the whole message, a field of it, raw bytes, and the mask of a PATCH."""

from typing import Any

import pytest

from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "path", "body", "request_message"),
    [
        ("POST", "/v1/probes", '{"id": "a", "int64Value": "5"}', {"id": "a", "int64_value": "5"}),
        ("POST", "/v1/probes", "", {}),
        ("POST", "/v1/probes", " {} ", {}),
        ("PUT", "/v1/probes/7", '{"text": "a"}', {"id": "7", "text": "a"}),
        # The path wins over the body.
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
        ("PUT", "/v1/probes/7/counts", '{"a": 1}', {"id": "7", "counts": {"a": 1}}),
        ("PUT", "/v1/probes/7/items", '[{"size": 1}]', {"id": "7", "items": [{"size": 1}]}),
        ("PUT", "/v1/probes/7/kind", '"KIND_TWO"', {"id": "7", "kind": "KIND_TWO"}),
        ("PUT", "/v1/probes/7/kind", "2", {"id": "7", "kind": "KIND_TWO"}),
        (
            "PUT",
            "/v1/probes/7/moment",
            '"2020-01-01T00:00:00Z"',
            {"id": "7", "moment": "2020-01-01T00:00:00Z"},
        ),
        # A DELETE has a body only if its rule says so.
        ("DELETE", "/v1/probes/7:purge", '{"text": "a"}', {"id": "7", "text": "a"}),
    ],
)
async def test_body_sets_the_fields_of_the_request(
    setup: Setup, method: str, path: str, body: str, request_message: dict[str, Any]
) -> None:
    response = await setup.client.request(
        method, path, content=body, headers={"Content-Type": JSON}
    )
    assert response.status_code == 200, response.text
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
        ("PUT", "/v1/probes/7/count", "null", ""),
        ("PUT", "/v1/probes/7/counts", '{"a": "x"}', "a"),
        ("PUT", "/v1/probes/7/kind", '"KIND_THREE"', ""),
        ("PUT", "/v1/probes/7/moment", '"now"', ""),
        ("PUT", "/v1/probes/7/items?items=1", "[]", "items"),
        ("DELETE", "/v1/probes/7:forget", "{}", ""),
        ("GET", "/v1/probes/7", "{}", ""),
        ("DELETE", "/v1/probes/7", "{}", ""),
        ("POST", "/v1/probes:touch", "{}", ""),
    ],
)
async def test_body_that_does_not_fit_is_refused(
    setup: Setup, method: str, path: str, body: str, field: str
) -> None:
    response = await setup.client.request(
        method, path, content=body, headers={"Content-Type": JSON}
    )
    assert response.status_code == 400, response.text
    problem = response.json()
    assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])
    assert not setup.servicer.calls


DEEP = ["nested.child.child.name", "nested.child.child.size"]
"""grpc-gateway once joined two paths (issue 1549), and took only one repeated field."""


@pytest.mark.parametrize(
    ("query", "body", "paths"),
    [
        ("", {"text": "a", "nested": {"child": {"size": 0}}}, ["text", "nested.child.size"]),
        ("", {"counts": {"a": 1}, "items": [{"name": "a"}]}, ["counts", "items"]),
        ("", {"attributes": {"a": {"b": 1}}, "moment": None}, ["attributes", "moment"]),
        ("", {"nested": {}}, ["nested"]),
        ("", {"otherName": "a"}, ["renamed"]),
        ("", {"nested": {"child": {"child": {"name": "a", "size": 1}}}}, DEEP),
        ("", {"any": {"@type": "x/probe.v1.Probe.Nested", "name": "a"}}, ["any"]),
        ("", {"moments": [], "items": [], "counts": {}}, ["moments", "items", "counts"]),
        ("", {"wrappedInt32": None, "nested": None}, ["wrapped_int32", "nested"]),
        # A client may send a resource back: fields that it cannot change are not in the mask.
        ("", {"text": "a", "state": "s", "etag": "e"}, ["text"]),
        ("", {"text": "a", "origin": {"name": "b", "child": {"size": 1}}}, ["text"]),
        ("", {"nested": {"name": "a", "state": "s"}}, ["nested.name"]),
        # A merge patch that is empty changes nothing (RFC 7396).
        ("", {}, []),
        ("update_mask=int32_value", {"text": "a"}, ["int32_value"]),
        ("updateMask=int32Value,text", {"text": "a"}, ["int32_value", "text"]),
        ("update_mask=*", {"text": "a"}, ["*"]),
        ("update_mask=nested.child.name", {}, ["nested.child.name"]),
        # Paths within a map, a list or a well-known type are for the service to check.
        ("update_mask=counts.a,items.*.name", {}, ["counts.a", "items.*.name"]),
        ("update_mask=attributes.a.b,moment.seconds", {}, ["attributes.a.b", "moment.seconds"]),
    ],
)
async def test_update_mask_is_that_of_the_client_or_filled_from_the_body(
    setup: Setup, query: str, body: dict[str, Any], paths: list[str]
) -> None:
    response = await setup.client.patch(f"/v1/probes/7?{query}", json=body)
    assert response.status_code == 200, response.text
    assert response.json().get("tags", []) == paths
    assert setup.request()["id"] == "7"


@pytest.mark.parametrize(
    "query",
    [
        "update_mask=",
        "update_mask=,",
        "updateMask=price",
        "updateMask=text,price",
        "update_mask=nested.price",
        "update_mask=text.a",
        "update_mask=.",
        "update_mask=text.",
        "update_mask=nested.*",
        "update_mask=nested.name.a",
    ],
)
@pytest.mark.parametrize("body", [{"text": "a"}, {}, None])
async def test_mask_that_names_no_field_is_refused(
    setup: Setup, query: str, body: dict[str, Any] | None
) -> None:
    response = await setup.client.patch(f"/v1/probes/7?{query}", json=body)
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_UPDATE_MASK")
    assert response.json()["errors"][0]["field"] == "updateMask"
    assert not setup.servicer.calls


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/probes/7", {"state": "s"}),
        ("/v1/probes/7", {"nested": {"state": "s"}}),
        ("/v1/probes/7", {"etag": "e"}),
        ("/v1/owned/7", {"id": "7"}),
        ("/v1/probes/7", {"origin": {"name": "a"}}),
    ],
)
async def test_body_with_nothing_to_change_is_refused(
    setup: Setup, path: str, body: dict[str, Any]
) -> None:
    """A service could take an empty mask for all fields."""
    response = await setup.client.patch(path, json=body)
    assert (response.status_code, response.json()["reason"]) == (400, "NOTHING_TO_CHANGE")
    assert not setup.servicer.calls


async def test_field_in_the_path_is_not_a_query_parameter(setup: Setup) -> None:
    response = await setup.client.patch("/v1/owned/7", json={"id": "8", "text": "a"})
    assert response.json() == {"tags": ["text"]}
    assert setup.request()["probe"] == {"id": "7", "text": "a"}


async def test_whole_request_as_body_has_its_own_mask(setup: Setup) -> None:
    """As in grpc-gateway: its fields are those of the request, not of the resource."""
    response = await setup.client.patch("/v1/probes/7:whole", json={"probe": {"text": "a"}})
    assert response.json() == {"id": "7"}
    body = {"probe": {"text": "a"}, "updateMask": "text,nested.name"}
    response = await setup.client.patch("/v1/probes/7:whole", json=body)
    assert response.json() == {"id": "7", "tags": ["text", "nested.name"]}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_only_a_patch_of_a_resource_has_a_mask(setup: Setup, method: str) -> None:
    path = "/v1/probes/7" if method == "PUT" else "/v1/probes/7:whole"
    response = await setup.client.request(method, path, json={})
    assert response.status_code == 200
    assert "update_mask" not in setup.request()
    assert "mask" not in setup.request()
