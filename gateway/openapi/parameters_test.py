"""Parameters: the segments of paths, and the fields of queries."""

from typing import Any

from gateway.openapi.document import make_document
from gateway.routing.routes import compile_routes
from gateway.testing.protos import compile_library

TEXT = """
service LibraryService {
  rpc GetBook(GetBookRequest) returns (Author) {
    option (google.api.http) = {
      get: "/v1/books/{book_id}"
      additional_bindings {get: "/v1/{name=shelves/*/books/*}"}
      additional_bindings {get: "/v1/files/{name=**}"}
      additional_bindings {get: "/v1/kinds/{kind}/{since}/{copies}"}
      additional_bindings {get: "/v1/kinds/*"}
    };
  }
  rpc Search(SearchRequest) returns (Author) {
    option (google.api.http) = {get: "/v1/books:search"};
  }
  rpc UpdateAuthor(UpdateAuthorRequest) returns (Author) {
    option (google.api.http) = {
      patch: "/v1/{author.name=authors/*}"
      body: "author"
      additional_bindings {post: "/v1/{author.name=authors/*}:change"}
    };
  }
  rpc AddAuthor(UpdateAuthorRequest) returns (Author) {
    option (google.api.http) = {post: "/v1/authors" body: "*"};
  }
}
message GetBookRequest {
  // The book to get.
  string book_id = 1;
  // A resource name.
  string name = 2;
  Kind kind = 3;
  google.protobuf.Timestamp since = 4;
  int32 copies = 5;
}
message UpdateAuthorRequest {
  Author author = 1;
  // What to change.
  google.protobuf.FieldMask update_mask = 2;
}
message Author {
  string name = 1;
  Author teacher = 2;
  string email = 3;
}
message SearchRequest {
  // Whose books.
  string user = 1 [(google.api.field_behavior) = REQUIRED];
  string old = 2 [deprecated = true];
  repeated string tags = 3;
  Author author = 4;
  repeated Author authors = 5;
  map<string, string> labels = 6;
  google.protobuf.Struct extra = 7;
  google.protobuf.Any any = 8;
  google.protobuf.Duration age = 9;
  google.protobuf.FieldMask mask = 10;
  google.protobuf.BoolValue lent = 11;
  oneof by {
    string title = 12;
    string isbn = 13;
  }
  Level1 deep = 14;
  Part part = 15 [(google.api.field_behavior) = REQUIRED];
  string given = 16 [(google.api.field_behavior) = OUTPUT_ONLY];
  Kind kind = 17;
  google.api.HttpBody raw = 18;
  Part spare = 19;
  google.protobuf.NullValue nothing = 20;
}
message Part {
  string must = 1 [(google.api.field_behavior) = REQUIRED];
  string may = 2;
}
message Level1 { Level2 next = 1; string name = 2; }
message Level2 { Level3 next = 1; }
message Level3 { Level4 next = 1; string name = 2; }
message Level4 { string name = 1; }
enum Kind { KIND_UNSPECIFIED = 0; KIND_NOVEL = 1; }
"""


def make_paths() -> dict[str, Any]:
    descriptors = compile_library(TEXT)
    paths: dict[str, Any] = make_document(descriptors, compile_routes(descriptors))["paths"]
    return paths


PATHS = make_paths()
GET = PATHS["/v1/books/{bookId}"]["get"]
SEARCH = PATHS["/v1/books:search"]["get"]
UPDATE = PATHS["/v1/authors/{author}"]["patch"]


def parameters(operation: dict[str, Any], where: str) -> dict[str, Any]:
    found = [at for at in operation.get("parameters", ()) if at["in"] == where]
    return {at["name"]: at for at in found}


def test_segment_of_a_path_is_a_parameter() -> None:
    assert parameters(GET, "path")["bookId"] == {
        "name": "bookId",
        "in": "path",
        "required": True,
        "description": "The book to get.",
        "example": "01932c07-209b-7a3e-9d2f-3c5b8e1a4f60",
        "schema": {"type": "string", "minLength": 1},
    }


def test_part_of_a_variable_names_the_variable() -> None:
    parts = parameters(PATHS["/v1/shelves/{shelve}/books/{book}"]["get"], "path")
    assert [part["description"] for part in parts.values()] == [
        "A resource name. A part of `name`."
    ] * 2
    assert [part["schema"] for part in parts.values()] == [{"type": "string", "minLength": 1}] * 2


def test_rest_of_a_path_is_one_segment() -> None:
    rest = parameters(PATHS["/v1/files/{name}"]["get"], "path")["name"]
    assert "the gateway takes more" in rest["description"]


def test_segment_has_the_type_of_its_field() -> None:
    typed = parameters(PATHS["/v1/kinds/{kind}/{since}/{copies}"]["get"], "path")
    assert typed["since"]["schema"] == {"type": "string", "format": "date-time"}
    assert typed["copies"]["schema"]["type"] == "integer"
    assert typed["kind"]["schema"]["anyOf"][0] == {"$ref": "#/components/schemas/Kind"}


def test_query_has_unbound_fields_with_a_string_representation() -> None:
    assert list(parameters(SEARCH, "query")) == [
        "user",
        "old",
        "tags",
        "age",
        "mask",
        "lent",
        "title",
        "isbn",
        "kind",
        "author.name",
        "author.email",
        "deep.name",
        "part.must",
        "part.may",
        "spare.must",
        "spare.may",
        "deep.next.next.name",
    ]
    assert list(parameters(GET, "query")) == ["name", "kind", "since", "copies"]
    assert list(parameters(UPDATE, "query")) == ["updateMask"]
    change = PATHS["/v1/authors/{author}:change"]["post"]
    assert list(parameters(change, "query")) == ["updateMask", "author.email"]
    assert parameters(PATHS["/v1/authors"]["post"], "query") == {}


def test_query_parameter_describes_its_field() -> None:
    query = parameters(SEARCH, "query")
    assert query["user"] == {
        "name": "user",
        "in": "query",
        "description": "Whose books.",
        "required": True,
        "example": "user",
        "schema": {"type": "string"},
    }
    assert query["old"]["deprecated"] is True
    assert query["tags"]["schema"] == {"type": "array", "items": {"type": "string"}}
    assert (query["tags"]["style"], query["tags"]["explode"]) == ("form", True)
    assert query["lent"]["schema"] == {"type": "boolean"}
    assert query["title"]["description"] == "Excludes `isbn`."
    assert "explode" not in query["old"]
    assert [name for name, at in query.items() if at.get("required")] == ["user", "part.must"]


def test_optional_mask_describes_its_default() -> None:
    mask = parameters(UPDATE, "query")["updateMask"]
    assert mask["description"] == (
        "What to change. Without it, the fields in the body are changed."
    )
    change = PATHS["/v1/authors/{author}:change"]["post"]
    assert parameters(change, "query")["updateMask"]["description"] == "What to change."


def test_segment_that_sets_nothing_is_a_parameter_too() -> None:
    (loose,) = parameters(PATHS["/v1/kinds/{kind}"]["get"], "path").values()
    assert loose == {
        "name": "kind",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }


def test_listed_query_parameters_are_limited() -> None:
    rule = 'option (google.api.http) = {get: "/v1/many"};'
    fields = " ".join(f"string field{number} = {number};" for number in range(1, 151))
    descriptors = compile_library(
        f"service ManyService {{ rpc Get(Many) returns (Many) {{ {rule} }} }}"
        f" message Many {{ {fields} }}"
    )
    document = make_document(descriptors, compile_routes(descriptors))
    assert len(parameters(document["paths"]["/v1/many"]["get"], "query")) == 100
