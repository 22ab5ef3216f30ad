"""Operations: the headers, bodies and responses of every kind of route."""

from typing import Any

import pytest

from gateway.openapi.document import make_document
from gateway.routing.routes import compile_routes
from gateway.testing.protos import compile_library

TEXT = """
service LibraryService {
  // Gets a book.
  //
  // Returns NOT_FOUND if there is none.
  rpc GetBook(GetBookRequest) returns (Book) {
    option (google.api.http) = {
      get: "/v1/books/{book_id}"
      additional_bindings {get: "/v1/books/{book_id}/title" response_body: "title"}
    };
  }
  rpc CreateBook(CreateBookRequest) returns (Book) {
    option (google.api.http) = {post: "/v1/books" body: "book"};
    option (rest.v1.location) = "/v1/books/{book_id}";
  }
  rpc CreateAuthor(Author) returns (Author) {
    option (google.api.http) = {post: "/v1/authors" body: "*"};
    option (rest.v1.location) = "/v1/books/{name}";
    option (rest.v1.may_be_accepted) = true;
  }
  rpc UpdateBook(UpdateBookRequest) returns (Book) {
    option (google.api.http) = {patch: "/v1/books/{book.book_id}" body: "book"};
  }
  rpc LendBook(LendBookRequest) returns (Book) {
    option (google.api.http) = {post: "/v1/books/{book_id}:lend" body: "*"};
  }
  rpc ReturnBook(ReturnBookRequest) returns (google.protobuf.Empty) {
    option deprecated = true;
    option (google.api.http) = {post: "/v1/books/{book_id}:return" body: "*"};
  }
  rpc SetTags(SetTagsRequest) returns (Book) {
    option (google.api.http) = {put: "/v1/books/{book_id}/tags" body: "tags"};
  }
  rpc PutCover(PutCoverRequest) returns (google.api.HttpBody) {
    option (google.api.http) = {post: "/v1/books/{book_id}/cover" body: "cover"};
    option (rest.v1.request_headers) = "x-signature";
  }
  rpc ListBooks(ListBooksRequest) returns (stream ListBooksResponse) {
    option (google.api.http) = {
      get: "/v1/books"
      additional_bindings {get: "/v1/books:bare" response_body: "books"}
    };
  }
  rpc WatchBook(GetBookRequest) returns (stream Book) {
    option (google.api.http) = {get: "/v1/books/{book_id}:watch"};
  }
  rpc ReadBook(GetBookRequest) returns (stream google.api.HttpBody) {
    option (google.api.http) = {get: "/v1/books/{book_id}:read"};
  }
  rpc Tick(GetBookRequest) returns (stream google.protobuf.Empty) {
    option (google.api.http) = {get: "/v1/books/{book_id}:tick"};
  }
  rpc AddBooks(stream Book) returns (Book) {
    option (google.api.http) = {post: "/v1/books:add" body: "*"};
  }
}
message Book {
  string book_id = 1 [(google.api.field_behavior) = OUTPUT_ONLY];
  string title = 2;
  string etag = 3;
}
message GetBookRequest { string book_id = 1; }
message CreateBookRequest {
  Book book = 1 [(google.api.field_behavior) = REQUIRED];
  bool validate_only = 2;
}
message UpdateBookRequest {
  Book book = 1;
  google.protobuf.FieldMask update_mask = 2;
}
message LendBookRequest {
  string book_id = 1 [(google.api.field_behavior) = REQUIRED];
  string reader = 2 [(google.api.field_behavior) = REQUIRED];
  int32 days = 3;
}
message ReturnBookRequest { string book_id = 1 [(google.api.field_behavior) = REQUIRED]; }
message SetTagsRequest { string book_id = 1; repeated string tags = 2; }
message PutCoverRequest { string book_id = 1; google.api.HttpBody cover = 2; }
message ListBooksRequest {
  int32 page_size = 1;
  string page_token = 2;
}
message ListBooksResponse {
  repeated Book books = 1;
  string next_page_token = 2;
}
message Author {
  string name = 1;
  Author teacher = 2;
}
"""


LIBRARY = compile_library(TEXT)
DOCUMENT = make_document(LIBRARY, compile_routes(LIBRARY))
PATHS: dict[str, Any] = DOCUMENT["paths"]
GET = PATHS["/v1/books/{bookId}"]["get"]
BOOK = {"$ref": "#/components/schemas/Book"}
FAILURE = {"$ref": "#/components/schemas/Failure"}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
BYTES = {"schema": {"type": "string", "format": "binary"}}


def headers(operation: dict[str, Any]) -> set[str]:
    found = operation.get("parameters", ())
    return {parameter["name"] for parameter in found if parameter["in"] == "header"}


def test_comment_becomes_summary_and_description() -> None:
    assert GET["summary"] == "Gets a book"
    assert GET["description"] == "Returns NOT_FOUND if there is none."
    silent = PATHS["/v1/books"]["get"]
    assert "summary" not in silent
    assert "description" not in silent


def test_operation_is_named_by_its_rpc_and_numbered_by_its_binding() -> None:
    assert GET["operationId"] == "LibraryService_GetBook"
    second = PATHS["/v1/books/{bookId}/title"]["get"]
    assert second["operationId"] == "LibraryService_GetBook_2"
    assert second["tags"] == ["LibraryService"]


def test_deprecated_elements_are_marked() -> None:
    assert PATHS["/v1/books/{bookId}:return"]["post"]["deprecated"] is True
    assert "deprecated" not in GET


def test_operation_has_the_headers_that_its_route_uses() -> None:
    key, match, none_match = "Idempotency-Key", "If-Match", "If-None-Match"
    assert headers(GET) == {none_match}
    assert headers(PATHS["/v1/books"]["post"]) == {key}
    assert headers(PATHS["/v1/books/{bookId}"]["patch"]) == {match}
    assert headers(PATHS["/v1/books"]["get"]) == {"Last-Event-ID"}
    assert headers(PATHS["/v1/books/{bookId}:watch"]["get"]) == set()
    assert headers(PATHS["/v1/books:add"]["post"]) == set()
    assert headers(PATHS["/v1/books/{bookId}/title"]["get"]) == set()


def test_whole_request_can_be_the_body() -> None:
    body = PATHS["/v1/authors"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Author"}
    assert "required" not in body


def test_whole_body_lacks_fields_in_the_path() -> None:
    body = PATHS["/v1/books/{bookId}:lend"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert (list(schema["properties"]), schema["required"]) == (["reader", "days"], ["reader"])
    assert body["required"] is True
    assert "required" not in PATHS["/v1/books/{bookId}:return"]["post"]["requestBody"]


def test_body_can_be_a_field() -> None:
    book = PATHS["/v1/books"]["post"]["requestBody"]
    assert book["content"]["application/json"]["schema"] == BOOK
    assert book["required"] is True
    tags = PATHS["/v1/books/{bookId}/tags"]["put"]["requestBody"]
    assert tags["content"]["application/json"]["schema"]["type"] == "array"
    assert "required" not in tags


def test_raw_body_is_bytes() -> None:
    operation = PATHS["/v1/books/{bookId}/cover"]["post"]
    assert operation["requestBody"]["content"] == {"application/octet-stream": BYTES}
    assert operation["responses"]["200"]["content"] == {
        "application/octet-stream": BYTES,
        "*/*": {},
    }


def test_stream_of_requests_is_lines() -> None:
    content = PATHS["/v1/books:add"]["post"]["requestBody"]["content"]
    assert list(content) == ["application/x-ndjson"]
    assert content["application/x-ndjson"]["x-item-schema"] == BOOK
    assert content["application/x-ndjson"]["schema"] == BYTES["schema"]


def test_response_is_json_with_its_version() -> None:
    assert list(GET["responses"]) == ["200", "304", "404", "429", "default"]
    assert GET["responses"]["200"]["content"]["application/json"]["schema"] == BOOK
    assert list(GET["responses"]["200"]["headers"]) == ["ETag"]
    assert list(GET["responses"]["304"]["headers"]) == ["ETag"]
    assert "content" not in GET["responses"]["304"]


def test_response_can_be_a_field() -> None:
    responses = PATHS["/v1/books/{bookId}/title"]["get"]["responses"]
    assert responses["200"]["content"]["application/json"]["schema"] == {"type": "string"}
    assert "304" not in responses


def test_empty_response_is_204() -> None:
    responses = PATHS["/v1/books/{bookId}:return"]["post"]["responses"]
    assert list(responses) == ["204", "415", "429", "default"]
    assert responses["204"] == {"description": "Done."}
    assert responses["default"] == {"$ref": "#/components/responses/Problem"}


def test_body_of_another_type_or_encoding_is_refused() -> None:
    refused = PATHS["/v1/books"]["post"]["responses"]["415"]
    assert refused["content"] == PROBLEM
    assert "Content-Type, or none, or a Content-Encoding" in refused["description"]
    assert "415" not in GET["responses"]


def test_bytes_may_have_any_type_but_no_encoding() -> None:
    refused = PATHS["/v1/books/{bookId}/cover"]["post"]["responses"]["415"]
    assert "Content-Type" not in refused["description"]
    assert "Content-Encoding" in refused["description"]


@pytest.mark.parametrize(
    ("path", "nothing", "sent"),
    [
        ("/v1/books", "Valid", {"Location", "ETag", "Idempotent-Replayed"}),
        ("/v1/authors", "Done", {"Location", "Idempotent-Replayed"}),
    ],
)
def test_creation_has_a_location(path: str, nothing: str, sent: set[str]) -> None:
    responses = PATHS[path]["post"]["responses"]
    assert set(responses) - {"202"} == {"200", "201", "415", "429", "default"}
    assert responses["200"]["description"].startswith(nothing)
    assert "headers" not in responses["200"]
    assert set(responses["201"]["headers"]) == sent
    assert responses["200"]["content"] == responses["201"]["content"]


def test_creation_that_may_be_accepted_has_a_time_to_look_again() -> None:
    assert "202" not in PATHS["/v1/books"]["post"]["responses"]
    responses = PATHS["/v1/authors"]["post"]["responses"]
    assert set(responses["202"]["headers"]) == {"Location", "Idempotent-Replayed", "Retry-After"}
    assert responses["202"]["content"] == responses["201"]["content"]


def test_header_that_an_rpc_asks_for_is_a_parameter() -> None:
    parameters = PATHS["/v1/books/{bookId}/cover"]["post"]["parameters"]
    assert {"X-Signature"} < {each["name"] for each in parameters if each["in"] == "header"}
    assert "X-Signature" not in str(PATHS["/v1/books"])


def test_update_of_another_version_is_412() -> None:
    responses = PATHS["/v1/books/{bookId}"]["patch"]["responses"]
    assert list(responses) == ["200", "412", "415", "429", "default"]
    assert list(responses["200"]["headers"]) == ["ETag"]
    assert responses["412"]["content"] == PROBLEM


def test_failure_that_a_comment_names_is_a_response() -> None:
    assert GET["responses"]["404"] == {
        "description": "`NOT_FOUND` if there is none.",
        "content": PROBLEM,
    }


def test_stream_has_three_formats() -> None:
    responses = PATHS["/v1/books/{bookId}:watch"]["get"]["responses"]
    assert list(responses) == ["200", "429", "default"]
    content = responses["200"]["content"]
    # Clients that send no Accept header get the first.
    assert list(content) == ["application/x-ndjson", "text/event-stream", "application/json"]
    record = {"anyOf": [BOOK, FAILURE]}
    assert content["application/x-ndjson"]["x-item-schema"] == record
    assert content["application/json"]["schema"] == {"type": "array", "items": record}
    message, problem, _end = content["text/event-stream"]["x-item-schema"]["anyOf"]
    assert message["properties"]["data"]["contentSchema"] == BOOK
    assert (
        problem["properties"]["data"]["contentSchema"]
        == PROBLEM["application/problem+json"]["schema"]
    )


def test_stream_can_be_of_a_field() -> None:
    content = PATHS["/v1/books:bare"]["get"]["responses"]["200"]["content"]
    books = {"type": "array", "items": BOOK}
    assert content["application/x-ndjson"]["x-item-schema"] == {"anyOf": [books, FAILURE]}


def test_stream_that_can_be_resumed_may_be_over() -> None:
    assert list(PATHS["/v1/books"]["get"]["responses"]) == ["200", "204", "429", "default"]


def test_stream_of_bytes_has_one_format() -> None:
    content = PATHS["/v1/books/{bookId}:read"]["get"]["responses"]["200"]["content"]
    assert content == {"application/octet-stream": BYTES, "*/*": {}}


def test_stream_of_nothing_has_records() -> None:
    responses = PATHS["/v1/books/{bookId}:tick"]["get"]["responses"]
    empty = {"$ref": "#/components/schemas/Empty"}
    assert responses["200"]["content"]["application/x-ndjson"]["x-item-schema"]["anyOf"][0] == empty


def test_too_many_requests_are_refused_by_every_operation() -> None:
    reference = {"$ref": "#/components/responses/TooManyRequests"}
    for item in PATHS.values():
        for operation in item.values():
            assert operation["responses"]["429"] == reference
    response = DOCUMENT["components"]["responses"]["TooManyRequests"]
    assert list(response["headers"]) == ["RateLimit", "RateLimit-Policy", "Retry-After"]
