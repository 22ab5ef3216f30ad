"""Requests of proto2, whose required fields may be in path, query or body."""

import pytest
from google.protobuf import json_format

from gateway.http.problems import Problem
from gateway.routing.routes import compile_routes
from gateway.routing.templates import Match
from gateway.routing.transcoding import RequestParts
from gateway.testing.protos import compile_protos

DESCRIPTORS = compile_protos(
    {
        "tree/v1/tree.proto": """
            syntax = "proto2";
            package tree.v1;
            import "google/api/annotations.proto";

            service TreeService {
              rpc Plant(Tree) returns (Tree) {
                option (google.api.http) = {post: "/v1/trees/{name}" body: "place"};
              }
            }

            message Tree {
              required string name = 1;
              required Place place = 2;
              required int32 height = 3;
            }

            message Place { required double latitude = 1; }
        """
    }
)
ROUTES = compile_routes(DESCRIPTORS)
WHOLE = {"name": "oak", "place": {"latitude": 0.0}, "height": 0}


def put_together(body: bytes, query: list[tuple[str, str]]) -> dict[str, object]:
    match = ROUTES.find("POST", "/v1/trees/oak")
    assert isinstance(match, Match)
    parts = RequestParts(match.target, match.variables, query)
    return json_format.MessageToDict(parts.message(body, "application/json"))


def test_required_fields_may_come_from_path_query_and_body() -> None:
    assert put_together(b'{"latitude": 0}', [("height", "0")]) == WHOLE


@pytest.mark.parametrize(
    ("body", "query", "field"),
    [
        (b'{"latitude": 0}', [], "height"),
        (b"", [("height", "0")], "place"),
        (b"{}", [("height", "0")], "place.latitude"),
    ],
)
def test_required_field_that_is_missing_is_named(
    body: bytes, query: list[tuple[str, str]], field: str
) -> None:
    with pytest.raises(Problem) as caught:
        put_together(body, query)
    assert (caught.value.status, caught.value.reason) == (400, "MISSING_FIELD")
    assert [error.field for error in caught.value.errors] == [field]
