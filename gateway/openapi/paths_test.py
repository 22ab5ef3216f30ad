"""Path templates as OpenAPI writes them."""

import pytest

from gateway.openapi.paths import path_parameters, shape_of, write_path
from gateway.routing.routes import Route, compile_routes
from gateway.testing.protos import compile_library

TEXT = """
service LibraryService {
  rpc GetBook(Book) returns (Book) {
    option (google.api.http) = {get: "%s"};
  }
}
message Book {
  string book_id = 1;
  string shelf_id = 2;
  Author author = 3;
}
message Author {
  string full_name = 1;
}
"""


def route_of(template: str) -> Route:
    (route,) = compile_routes(compile_library(TEXT % template)).targets
    return route


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/v1/books", "/v1/books"),
        ("/v1/books/{book_id}", "/v1/books/{bookId}"),
        ("/v1/books/{book_id}:lend", "/v1/books/{bookId}:lend"),
        ("/v1/books:lend", "/v1/books:lend"),
        ("/v1/{shelf_id}/{book_id=*}/pages", "/v1/{shelfId}/{bookId}/pages"),
        ("/v1/{author.full_name}", "/v1/{author_fullName}"),
        ("/v1/{book_id=shelves/*/books/*}", "/v1/shelves/{shelve}/books/{book}"),
        ("/v1/{book_id=books/*}/{shelf_id=books/*}", "/v1/books/{book}/books/{book2}"),
        ("/v1/{book_id=old-books/*}", "/v1/old-books/{old_book}"),
        ("/v1/{book_id=*/*}", "/v1/{v1}/{segment}"),
        ("/v1/*/books/{book_id}", "/v1/{v1}/books/{bookId}"),
        ("/v1/files/{book_id=**}", "/v1/files/{bookId}"),
        ("/v1/{book_id=files/**}", "/v1/files/{file}"),
        ("/v1/a%20b/caf%C3%A9:l%2Fnd", "/v1/a%20b/caf%C3%A9:l%2Fnd"),
        ("/v1/%7Bid%7D", "/v1/%7Bid%7D"),
    ],
)
def test_template_becomes_a_path(template: str, path: str) -> None:
    route = route_of(template)
    names = [parameter.name for parameter in path_parameters(route)]
    assert write_path(route.template, names) == path


def test_shape_is_the_path_without_names() -> None:
    assert (
        shape_of(route_of("/v1/{shelf_id}/books/{book_id}:lend").template) == "/v1/{}/books/{}:lend"
    )


def test_parameter_knows_what_it_sets() -> None:
    whole, first, second, loose = path_parameters(
        route_of("/v1/{author.full_name}/{book_id=shelves/*/books/*}/*")
    )
    assert whole.field is not None
    assert (whole.field.full_name, whole.variable) == ("library.v1.Author.full_name", None)
    for part in (first, second):
        assert part.field is not None
        assert part.variable is not None
        assert (part.field.name, part.variable.field_path) == ("book_id", "book_id")
    assert (loose.field, loose.variable) == (None, None)


def test_list_without_a_last_page_token_ends() -> None:
    takes_rest = [
        [parameter.takes_rest for parameter in path_parameters(route_of(template))]
        for template in ("/v1/{book_id=*}/*", "/v1/{book_id=files/*/**}")
    ]
    assert takes_rest == [[False, False], [False, True]]
