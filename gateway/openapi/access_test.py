"""Who may call an operation, as the document says it."""

from typing import Any

import pytest

from gateway.openapi.document import make_document
from gateway.routing.routes import compile_routes
from gateway.testing.protos import compile_protos

ACCESS = """
syntax = "proto3";
package access.v1;
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { Access access = 50921; }
message Access {
  repeated Caller allow = 1;
  repeated string services = 2;
}
enum Caller {
  CALLER_UNSPECIFIED = 0;
  // Anybody.
  PUBLIC = 1;
  // Every reader, for the books that they have lent.
  OWNER = 3;
  STAFF = 4;
}
"""
LIBRARY = """
syntax = "proto3";
package library.v1;
import "access/v1/access.proto";
import "google/api/annotations.proto";
service LibraryService {
  // Gets a book.
  rpc GetBook(Book) returns (Book) {
    option (google.api.http) = {get: "/v1/books/{book_id}"};
    option (access.v1.access).allow = PUBLIC;
  }
  // Lends a book. It is to be returned.
  //
  // Returns PERMISSION_DENIED if the reader owes money.
  rpc LendBook(Book) returns (Book) {
    option (google.api.http) = {post: "/v1/books/{book_id}:lend"};
    option (access.v1.access) = {allow: [OWNER, STAFF]};
  }
  rpc ListBooks(Book) returns (Book) {
    option (google.api.http) = {get: "/v1/books"};
  }
}
message Book { string book_id = 1; }
"""


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """The operations by their ids."""
    sources = {"access/v1/access.proto": ACCESS, "library/v1/library.proto": LIBRARY}
    descriptors = compile_protos(sources)
    document = make_document(descriptors, compile_routes(descriptors))
    listed = [item for path in document["paths"].values() for item in path.values()]
    return {operation["operationId"]: operation for operation in listed}


def test_an_operation_for_anybody_needs_no_token(operations: dict[str, Any]) -> None:
    operation = operations["LibraryService_GetBook"]
    assert operation["security"] == []
    assert operation["description"] == "Who may call this:\n\n- Anybody."
    assert operation["responses"]["401"]["description"] == (
        "`UNAUTHENTICATED` if the access token is not valid; none is needed."
    )
    assert "403" not in operation["responses"]


def test_an_operation_for_some_needs_a_token_and_names_them(operations: dict[str, Any]) -> None:
    operation = operations["LibraryService_LendBook"]
    assert operation["security"] == [{"authorization": []}]
    assert operation["description"].startswith("It is to be returned.\n\n")
    assert operation["description"].endswith(
        "Who may call this:\n\n- Every reader, for the books that they have lent.\n- STAFF."
    )
    assert operation["responses"]["401"]["description"] == (
        "`UNAUTHENTICATED` if the access token is not valid, or is missing."
    )


def test_a_refusal_that_the_comment_names_is_described_by_it(operations: dict[str, Any]) -> None:
    refused = operations["LibraryService_LendBook"]["responses"]["403"]
    assert refused["description"] == "`PERMISSION_DENIED` if the reader owes money."


def test_an_operation_without_the_option_is_as_the_document_says(
    operations: dict[str, Any],
) -> None:
    operation = operations["LibraryService_ListBooks"]
    assert "security" not in operation
    assert "401" not in operation["responses"]
    assert "description" not in operation
