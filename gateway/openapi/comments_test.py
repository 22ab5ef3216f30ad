"""Comments of every kind of element, and their parts that are shown."""

import pytest

from gateway.openapi.comments import Comments, first_sentence, sentences
from gateway.testing.protos import compile_library, compile_protos

TEXT = """
// A desk (-- api-linter: core::0000=disabled
//   aip.dev/not-precedent: because. --)with books.
//
// It is
// open.
//
// - One
// - Two
//   lines
service LibraryService {
  // buf:lint:ignore RPC_REQUEST_STANDARD_NAME
  // Gets one.
  rpc GetBook(Book) returns (Book);
}

/* Some
 * pages. */
message Book {
  // In parts.
  message Part {
    // Said before.
    string title = 1;
  }
  string name = 1;  // Said after.
  // Either.
  oneof cover {
    // Soft.
    string paper = 2;
  }
  string silent = 3;
}

// Detached.

// A kind.
enum Kind {
  // Not said.
  KIND_UNSPECIFIED = 0;
}
"""

COMMENTS = Comments(compile_library(TEXT).files)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LibraryService", "A desk with books.\n\nIt is open.\n\n- One\n- Two\n  lines"),
        ("LibraryService.GetBook", "Gets one."),
        ("Book", "Some pages."),
        ("Book.Part", "In parts."),
        ("Book.Part.title", "Said before."),
        ("Book.name", "Said after."),
        ("Book.cover", "Either."),
        ("Book.paper", "Soft."),
        ("Book.silent", ""),
        ("Kind", "A kind."),
        ("Kind.KIND_UNSPECIFIED", "Not said."),
        ("Nothing", ""),
    ],
)
def test_comment_belongs_to_its_element(name: str, text: str) -> None:
    assert COMMENTS.of(f"library.v1.{name}") == text


def test_file_has_the_comment_at_its_head() -> None:
    assert COMMENTS.of_file("library/v1/library.proto") == "A library."
    assert COMMENTS.of_file("google/api/nothing.proto") == ""


def test_file_without_a_package_has_comments() -> None:
    files = compile_protos({"plain.proto": 'syntax = "proto3";\n// Bare.\nmessage Book {}'}).files
    assert Comments(files).of("Book") == "Bare."


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("Gets a book", "Gets a book", ""),
        ("Gets a book.", "Gets a book", ""),
        ("Gets a book. Returns it.", "Gets a book", "Returns it."),
        (
            "Gets v1.2 of it, i.e. the old one. `x` stays.",
            "Gets v1.2 of it, i.e. the old one",
            "`x` stays.",
        ),
        ("Gets a book\n\nMore.", "Gets a book", "More."),
        ("", "", ""),
    ],
)
def test_first_sentence_ends_where_the_next_begins(text: str, first: str, rest: str) -> None:
    assert first_sentence(text) == (first, rest)


def test_comment_is_split_into_sentences() -> None:
    assert list(sentences("One. Two!\n\nThree\n\nFour.")) == ["One", "Two", "Three", "Four"]
