"""Schemas of messages, for each rule of the proto3 JSON mapping, and values that fit them."""

from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from gateway.openapi.comments import Comments
from gateway.openapi.schemas import Schemas
from gateway.openapi.values import Schema
from gateway.testing.protos import compile_library, compile_protos
from gateway.upstream.descriptors import DescriptorSet

TEXT = """
// Something to read.
message Book {
  // What it is called.
  string title = 1;
  bytes cover = 2;
  bool lent = 3;
  int32 pages = 4;
  sint32 shelf = 5;
  uint32 copies = 6;
  int64 sold = 7;
  fixed64 printed = 8;
  float weight = 9;
  double price = 10;
  // What it is.
  Kind kind = 11;
  // Who wrote it.
  Author author = 12;
  repeated string tags = 13;
  repeated Kind kinds = 14;
  map<string, Author> readers = 15;
  map<int64, string> by_number = 16;
  map<uint32, string> by_count = 17;
  map<bool, string> by_boolean = 18;
  google.protobuf.Timestamp create_time = 20;
  google.protobuf.Duration loan = 21;
  google.protobuf.FieldMask mask = 22;
  google.protobuf.Struct extra = 23;
  google.protobuf.Value value = 24;
  google.protobuf.ListValue list = 25;
  google.protobuf.Any any = 26;
  google.protobuf.NullValue nothing = 27;
  google.protobuf.Int64Value maybe_sold = 28;
  google.protobuf.BoolValue maybe_lent = 29;
  google.protobuf.Empty empty = 30;
  string renamed = 31 [json_name = "otherName"];
  // Given by the library.
  string book_id = 40 [(google.api.field_behavior) = OUTPUT_ONLY];
  string secret = 41 [(google.api.field_behavior) = INPUT_ONLY];
  string old = 42 [deprecated = true];
  // Its number.
  string isbn = 43 [(google.api.field_behavior) = REQUIRED];
  string first = 44 [(google.api.field_behavior) = IMMUTABLE];
  oneof form {
    string paper = 50;
    string sound = 51;
    string film = 52;
  }
  optional int32 rating = 53;
}

message Author {
  string name = 1;
  Author teacher = 2;
}

// What a book is.
enum Kind {
  // Not said.
  KIND_UNSPECIFIED = 0;
  KIND_NOVEL = 1;
}

message AddBookRequest {
  string isbn = 1 [(google.api.field_behavior) = REQUIRED];
  string note = 2;
}
"""

INT32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
UINT32 = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1}
INT64 = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}
UINT64 = {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}
NOT_A_NUMBER = {"$ref": "#/components/schemas/NotANumber"}
AUTHOR = {"$ref": "#/components/schemas/Author"}
KIND = {"anyOf": [{"$ref": "#/components/schemas/Kind"}, INT32]}


class Library:
    """The schemas of books, in requests and responses, and of a message in requests only."""

    def __init__(self) -> None:
        descriptors = compile_library(TEXT)
        find = descriptors.pool.FindMessageTypeByName
        self.book = find("library.v1.Book")
        self.request = find("library.v1.AddBookRequest")
        self.schemas = Schemas(
            Comments(descriptors.files), requests=[self.book, self.request], responses=[self.book]
        )
        self.schemas.message(self.book)
        self.schemas.message(self.request)

    def accepts(self, value: Any) -> bool:
        """Return whether a value fits the schema of a book."""
        whole = {**self.schemas.message(self.book), "components": {"schemas": self.components}}
        return bool(OAS31Validator(whole).is_valid(value))

    @property
    def components(self) -> dict[str, Schema]:
        """The components by name."""
        return self.schemas.components()

    def property(self, name: str) -> Schema:
        """Return the schema of a field of a book."""
        schema: Schema = self.components["Book"]["properties"][name]
        return schema


LIBRARY = Library()


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("title", {"type": "string", "description": "What it is called."}),
        ("cover", {"type": "string", "format": "byte", "contentEncoding": "base64"}),
        ("lent", {"type": "boolean"}),
        ("pages", INT32),
        ("shelf", INT32),
        ("copies", UINT32),
        ("sold", INT64),
        ("printed", UINT64),
        ("price", {"anyOf": [{"type": "number", "format": "double"}, NOT_A_NUMBER]}),
        ("kind", {**KIND, "description": "What it is."}),
        ("author", {**AUTHOR, "description": "Who wrote it."}),
        ("tags", {"type": "array", "items": {"type": "string"}}),
        ("kinds", {"type": "array", "items": KIND}),
        ("readers", {"type": "object", "additionalProperties": AUTHOR}),
        ("createTime", {"type": "string", "format": "date-time"}),
        ("mask", {"type": "string"}),
        ("extra", {"type": "object", "additionalProperties": True}),
        ("value", {}),
        ("list", {"type": "array", "items": {}}),
        ("nothing", {"type": "null"}),
        ("maybeSold", INT64),
        ("maybeLent", {"type": "boolean"}),
        ("empty", {"$ref": "#/components/schemas/Empty"}),
        ("otherName", {"type": "string"}),
        (
            "bookId",
            {"type": "string", "description": "Given by the library.", "readOnly": True},
        ),
        ("secret", {"type": "string", "writeOnly": True, "format": "password"}),
        ("old", {"type": "string", "deprecated": True}),
        ("first", {"type": "string", "description": "No update changes it."}),
        ("paper", {"type": "string", "description": "Excludes `sound`, `film`."}),
        ("rating", INT32),
    ],
)
def test_field_has_the_schema_of_its_json(name: str, schema: Schema) -> None:
    assert LIBRARY.property(name) == schema


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"sold": "-9223372036854775808", "printed": "18446744073709551615"},
        {"weight": 1.5, "price": -2},
        {"weight": "NaN", "price": "-Infinity"},
        {"kind": "KIND_NOVEL", "kinds": ["KIND_UNSPECIFIED", 7]},
        {"author": {"name": "a", "teacher": {"teacher": {}}}},
        {"readers": {"": {"name": "a"}}, "byNumber": {"-1": "a"}, "byBoolean": {"true": "a"}},
        {"loan": "-1.500s", "mask": "a,b.c", "any": {"@type": "x", "value": 1}, "value": None},
        {"paper": "a", "rating": 0},
    ],
)
def test_schema_accepts_what_the_gateway_writes(value: Any) -> None:
    assert LIBRARY.accepts(value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        {"unknown": 1},
        {"title": None},
        {"title": 1},
        {"author": {"age": 1}},
        {"sold": 1},
        {"sold": "1.5"},
        {"printed": "-1"},
        {"pages": 2**31},
        {"copies": -1},
        {"weight": 1e39},
        {"weight": "nan"},
        {"kind": "KIND_POEM"},
        {"kind": 2**31},
        {"byNumber": {"a": ""}},
        {"byCount": {"-1": ""}},
        {"byBoolean": {"1": ""}},
        {"loan": "1"},
        {"loan": "PT1S"},
        {"any": {"@type": 1}},
        {"nothing": 0},
        {"paper": "a", "sound": "b"},
        {"sound": "a", "film": "b"},
        {"paper": "a", "film": "b"},
    ],
)
def test_schema_rejects_what_the_gateway_never_writes(value: Any) -> None:
    assert not LIBRARY.accepts(value)


def test_enum_is_explained_by_its_values() -> None:
    assert LIBRARY.components["Kind"] == {
        "type": "string",
        "description": "What a book is.\n\n- `KIND_UNSPECIFIED`: Not said.\n- `KIND_NOVEL`",
        "enum": ["KIND_UNSPECIFIED", "KIND_NOVEL"],
    }


def test_nothing_is_required_in_a_response() -> None:
    assert "required" not in LIBRARY.components["Book"]
    assert (
        LIBRARY.property("isbn")["description"]
        == "Its number. Required in requests with the whole message."
    )


def test_request_only_message_has_required_fields() -> None:
    request = LIBRARY.components["AddBookRequest"]
    assert request["required"] == ["isbn"]
    assert "description" not in request["properties"]["isbn"]


def test_only_referenced_components_are_listed() -> None:
    library = compile_library("message Book {} message Shelf { Book book = 1; }")
    shelf = library.pool.FindMessageTypeByName("library.v1.Shelf")
    schemas = Schemas(Comments(library.files), requests=[], responses=[shelf])
    assert schemas.components() == {}
    assert schemas.message(shelf) == {"$ref": "#/components/schemas/Shelf"}
    assert list(schemas.components()) == ["Book", "Shelf"]


def test_object_can_lack_fields() -> None:
    whole = LIBRARY.schemas.object_of(LIBRARY.request)
    part = LIBRARY.schemas.object_of(LIBRARY.request, {"isbn"})
    assert list(whole["properties"]) == ["isbn", "note"]
    assert list(part["properties"]) == ["note"]
    assert "required" not in part


def test_ambiguous_names_keep_a_part_of_their_package() -> None:
    text = 'syntax = "proto3"; package %s.v1; %s message Problem {} message Book { %s }'
    descriptors = compile_protos(
        {
            "a.proto": text % ("a", "", "Problem problem = 1;"),
            "b.proto": text % ("b", 'import "a.proto";', "a.v1.Book book = 1;"),
        }
    )
    book = descriptors.pool.FindMessageTypeByName("b.v1.Book")
    schemas = Schemas(Comments(descriptors.files), requests=[book], responses=[])
    assert schemas.message(book) == {"$ref": "#/components/schemas/b.v1.Book"}
    assert schemas.refer("gateway.Problem", dict) == {
        "$ref": "#/components/schemas/gateway.Problem"
    }
    assert list(schemas.components()) == ["a.v1.Book", "b.v1.Book", "gateway.Problem", "v1.Problem"]


def test_closed_enum_has_names_only() -> None:
    text = 'syntax = "proto2"; enum Kind { NOVEL = 1; } message Book { optional Kind kind = 1; }'
    descriptors = compile_protos({"old.proto": text})
    book = descriptors.pool.FindMessageTypeByName("Book")
    schemas = Schemas(Comments(descriptors.files), requests=[book], responses=[])
    schemas.message(book)
    assert schemas.components()["Book"]["properties"]["kind"] == {
        "$ref": "#/components/schemas/Kind"
    }


def test_extensions_are_properties() -> None:
    text = """
        syntax = "proto2";
        package library.v1;
        message Book { extensions 100 to 200; }
        extend Book { optional Author author = 101; optional string title = 100; }
        message Author {}
    """
    descriptors = compile_protos({"old.proto": text})
    book = descriptors.pool.FindMessageTypeByName("library.v1.Book")
    schemas = Schemas(Comments(descriptors.files), requests=[book], responses=[])
    schemas.message(book)
    assert schemas.components()["Book"]["properties"] == {
        "[library.v1.title]": {"type": "string"},
        "[library.v1.author]": AUTHOR,
    }


def test_message_with_a_representation_of_its_own_is_not_a_component() -> None:
    descriptors: DescriptorSet = compile_library("message Book {}")
    wrapper = descriptors.pool.FindMessageTypeByName("google.protobuf.UInt64Value")
    schemas = Schemas(Comments(descriptors.files), requests=[wrapper], responses=[])
    assert schemas.message(wrapper) == UINT64
    assert schemas.components() == {}
