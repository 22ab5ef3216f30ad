"""The rules of fields as keywords of JSON Schema, and those that have none."""

import pytest

from gateway.openapi.comments import Comments
from gateway.openapi.schemas import Schemas
from gateway.openapi.values import Schema
from gateway.testing.protos import compile_protos

HEAD = """
syntax = "proto3";
package library.v1;
import "google/protobuf/wrappers.proto";
"""
TEXT = """
message Book {
  string title = 1 [(buf.validate.field).string = {min_len: 1 max_len: 200}];
  string id = 2 [(buf.validate.field).string.uuid = true];
  string shelf = 3 [(buf.validate.field).string.pattern = "^[A-Z]{2}$"];
  string code = 4 [(buf.validate.field).string.len = 13];
  string key = 5 [(buf.validate.field).string.not_contains = "\\000"];
  string kind = 6 [(buf.validate.field).string = {in: ["novel", "poem"]}];
  int32 pages = 7 [(buf.validate.field).int32 = {gt: 0 lte: 5000}];
  uint32 copies = 8 [(buf.validate.field).uint32 = {gte: 2 lt: 9}];
  repeated string authors = 9 [
    (buf.validate.field).repeated = {
      min_items: 1 max_items: 20 unique: true items: {string: {max_len: 100}}
    }
  ];
  map<string, int32> marks = 10 [
    (buf.validate.field).map = {min_pairs: 1 max_pairs: 3 values: {int32: {lte: 5}}}
  ];
  google.protobuf.StringValue note = 11 [(buf.validate.field).string.max_len = 9];
  string parent = 12 [
    (buf.validate.field) = {ignore: IGNORE_IF_ZERO_VALUE string: {min_len: 3 max_len: 9}}
  ];
  string draft = 13 [(buf.validate.field) = {ignore: IGNORE_ALWAYS string: {max_len: 9}}];
  int64 sold = 14 [(buf.validate.field).int64.gte = 0];
  double weight = 15 [(buf.validate.field).double.gte = 0];
  Kind form = 16 [(buf.validate.field).enum.defined_only = true];
}
enum Kind { KIND_UNSPECIFIED = 0; }
"""
INT32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}


def read_properties(*sources: str) -> dict[str, Schema]:
    """Return the schemas of the fields of the book."""
    descriptors = compile_protos({"library/v1/library.proto": "".join(sources)})
    book = descriptors.pool.FindMessageTypeByName("library.v1.Book")
    schemas = Schemas(Comments(descriptors.files), requests=[book], responses=[])
    schemas.message(book)
    properties: dict[str, Schema] = schemas.components()["Book"]["properties"]
    return properties


WITH_RULES = read_properties(HEAD, 'import "buf/validate/validate.proto";', TEXT)
WITHOUT_RULES = read_properties(
    HEAD,
    """
    import "google/protobuf/descriptor.proto";
    extend google.protobuf.FieldOptions { optional string own = 1159; }
    message Book {
      string title = 1 [(own) = "something else"];
      int64 sold = 14;
      double weight = 15;
      Kind form = 16;
    }
    enum Kind { KIND_UNSPECIFIED = 0; }
    """,
)


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("title", {"type": "string", "minLength": 1, "maxLength": 200}),
        ("id", {"type": "string", "format": "uuid"}),
        ("shelf", {"type": "string", "pattern": "^[A-Z]{2}$"}),
        ("code", {"type": "string", "minLength": 13, "maxLength": 13}),
        ("key", {"type": "string", "pattern": "^[^\\u0000]*$"}),
        ("kind", {"type": "string", "enum": ["novel", "poem"]}),
        ("pages", {**INT32, "exclusiveMinimum": 0, "maximum": 5000}),
        (
            "copies",
            {
                "type": "integer",
                "format": "uint32",
                "minimum": 2,
                "maximum": 2**32 - 1,
                "exclusiveMaximum": 9,
            },
        ),
        (
            "authors",
            {
                "type": "array",
                "items": {"type": "string", "maxLength": 100},
                "minItems": 1,
                "maxItems": 20,
                "uniqueItems": True,
            },
        ),
        (
            "marks",
            {
                "type": "object",
                "additionalProperties": {**INT32, "maximum": 5},
                "minProperties": 1,
                "maxProperties": 3,
            },
        ),
        ("note", {"type": "string", "maxLength": 9}),
    ],
)
def test_a_rule_is_a_keyword_of_json_schema(name: str, schema: Schema) -> None:
    assert WITH_RULES[name] == schema


def test_a_field_that_may_be_empty_has_no_lower_bound() -> None:
    assert WITH_RULES["parent"] == {"type": "string", "maxLength": 9}


def test_a_rule_that_is_always_ignored_is_not_shown() -> None:
    assert WITH_RULES["draft"] == {"type": "string"}


@pytest.mark.parametrize("name", ["sold", "weight", "form"])
def test_a_rule_of_numbers_that_json_may_write_as_strings_is_not_shown(name: str) -> None:
    assert WITH_RULES[name] == WITHOUT_RULES[name]


def test_another_option_with_the_same_number_is_ignored() -> None:
    assert WITHOUT_RULES["title"] == {"type": "string"}
