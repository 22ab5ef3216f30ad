"""The whole document: its validity, its completeness, and the routes that it leaves out."""

import os
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.openapi.document import make_document
from gateway.routing.routes import compile_routes
from gateway.testing.protos import compile_library, compile_protos
from gateway.upstream.descriptors import DescriptorSet

SETS = ("BAZAAR_DESCRIPTORS", "PROBE_DESCRIPTORS")

SERVICE = """
service LibraryService {
  rpc GetBook(Book) returns (Book) {
    option (google.api.http) = {%s};
  }
}
message Book {
  string book_id = 1;
  string name = 2;
}
"""


def read_set(variable: str) -> DescriptorSet:
    return DescriptorSet.parse(Path(os.environ[variable]).read_bytes())


def document_of(descriptors: DescriptorSet) -> dict[str, Any]:
    return make_document(descriptors, compile_routes(descriptors))


def library(*rules: str) -> dict[str, Any]:
    """Return the document of one RPC with some bindings."""
    first, *others = rules
    bindings = [first, *(f"additional_bindings {{{rule}}}" for rule in others)]
    return document_of(compile_library(SERVICE % " ".join(bindings)))


def operation_ids(document: dict[str, Any]) -> dict[str, str]:
    """Return the operations by method and path."""
    return {
        f"{method} {path}": operation["operationId"].removeprefix("LibraryService_")
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


@pytest.mark.parametrize("variable", SETS)
def test_document_is_valid(variable: str) -> None:
    validate(document_of(read_set(variable)))


@pytest.mark.parametrize("variable", SETS)
def test_every_route_is_listed_or_explained(variable: str) -> None:
    descriptors = read_set(variable)
    document = document_of(descriptors)
    explained = {(at["method"], at["path"]) for at in document["x-unlisted-routes"]}
    assert all(at["reason"] for at in document["x-unlisted-routes"])
    listed = operation_ids(document)
    assert len(set(listed.values())) == len(listed)
    routes = {(at.http_method, at.template.text) for at in compile_routes(descriptors).targets}
    assert len(listed) + len(explained) == len(routes)
    assert explained <= routes


def test_every_route_of_the_shop_is_listed() -> None:
    assert document_of(read_set("BAZAAR_DESCRIPTORS"))["x-unlisted-routes"] == []


def test_paths_that_differ_in_names_only_are_one() -> None:
    document = library('get: "/v1/books/{book_id}"', 'delete: "/v1/books/{name}"')
    assert operation_ids(document) == {
        "get /v1/books/{bookId}": "GetBook",
        "delete /v1/books/{bookId}": "GetBook_2",
    }
    (parameter,) = (
        at
        for at in document["paths"]["/v1/books/{bookId}"]["delete"]["parameters"]
        if at["in"] == "path"
    )
    assert parameter["name"] == "bookId"
    validate(document)


def test_methods_that_openapi_lacks_are_explained() -> None:
    document = library(
        'get: "/v1/books"',
        'custom: {kind: "HEAD" path: "/v1/books"}',
        'custom: {kind: "REPORT" path: "/v1/books"}',
        'custom: {kind: "*" path: "/v1/anything"}',
    )
    assert operation_ids(document) == {"get /v1/books": "GetBook", "head /v1/books": "GetBook_2"}
    assert document["x-unlisted-routes"] == [
        {
            "method": "REPORT",
            "path": "/v1/books",
            "rpc": "library.v1.LibraryService.GetBook",
            "reason": "OpenAPI 3.1 has no such HTTP method.",
        },
        {
            "method": "*",
            "path": "/v1/anything",
            "rpc": "library.v1.LibraryService.GetBook",
            "reason": "It takes any HTTP method, and OpenAPI names each.",
        },
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_segment_wins_over_the_rest_of_a_path(order: int) -> None:
    rules = ['get: "/v1/files/{name=**}"', 'get: "/v1/files/{book_id}"'][::order]
    document = library(*rules, 'post: "/v1/files/{name=**}"')
    kept = "GetBook_2" if order == 1 else "GetBook"
    assert operation_ids(document)["get /v1/files/{bookId}"] == kept
    assert operation_ids(document)["post /v1/files/{bookId}"] == "GetBook_3"
    (explained,) = document["x-unlisted-routes"]
    assert (explained["method"], explained["path"]) == ("GET", "/v1/files/{name=**}")


def test_rest_of_a_path_is_listed_without_a_conflict() -> None:
    assert list(operation_ids(library('get: "/v1/files/{name=**}"'))) == ["get /v1/files/{name}"]


def test_tags_are_the_services_with_their_comments() -> None:
    rule = 'option (google.api.http) = {get: "/v1/%s"};'
    text = 'syntax = "proto3"; package %s.v1; import "google/api/annotations.proto"; %s'
    service = "service %sService { rpc Get(M) returns (M) { %s } } message M {}"
    sources = {
        "a.proto": text % ("a", "\n// Books.\n" + service % ("Book", rule % "a")),
        "b.proto": text % ("b", service % ("Book", rule % "b")),
        "c.proto": text % ("c", service % ("Shelf", rule % "c")),
    }
    document = document_of(compile_protos(sources))
    assert document["tags"] == [
        {"name": "a.v1.BookService", "description": "Books."},
        {"name": "b.v1.BookService"},
        {"name": "ShelfService"},
    ]
    assert set(operation_ids(document).values()) == {
        "a_v1_BookService_Get",
        "b_v1_BookService_Get",
        "ShelfService_Get",
    }
    validate(document)


@pytest.mark.parametrize(
    ("packages", "title", "version"),
    [
        (["library.v1"], "Library API", "v1"),
        (["acme.library.v2", "acme.shop.v2"], "Acme API", "v2"),
        (["acme.library.v1", "acme.shop.v2beta1"], "Acme API", "v1, v2beta1"),
        (["library.v1", "shop.v1"], "API", "v1"),
        (["library"], "Library API", "1"),
        (["acme.library", "acme.library.v1"], "Acme library API", "v1"),
    ],
)
def test_title_and_version_come_from_the_packages(
    packages: list[str], title: str, version: str
) -> None:
    text = """
        // What %s is.
        syntax = "proto3";
        package %s;
        import "google/api/annotations.proto";
        message M%s {}
        service S%s {
          rpc Get(M%s) returns (M%s) { option (google.api.http) = {get: "/%s"}; }
        }
    """
    sources = {
        f"{number}.proto": text % (package, package, *[number] * 5)
        for number, package in enumerate(packages)
    }
    info = document_of(compile_protos(sources))["info"]
    assert (info["title"], info["version"]) == (title, version)
    assert info["description"].split("\n\n") == [f"What {package} is." for package in packages]


def test_every_operation_accepts_a_token() -> None:
    document = library('get: "/v1/books"')
    assert document["security"] == [{}, {"authorization": []}]
    assert document["components"]["securitySchemes"]["authorization"]["scheme"] == "bearer"


def test_calls_go_to_the_server_of_the_document() -> None:
    assert library('get: "/v1/books"')["servers"] == [{"url": "/"}]


def test_descriptor_set_without_comments_has_a_document() -> None:
    descriptors = compile_library(SERVICE % 'get: "/v1/books/{book_id}"')
    for file in descriptors.files:
        file.ClearField("source_code_info")
    document = document_of(descriptors)
    assert "description" not in document["info"]
    validate(document)
