"""The program's commands, run as a program: what they print, need and refuse."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway.openapi.document import make_document
from gateway.routing.routes import compile_routes
from gateway.settings import GatewaySettings
from gateway.testing.protos import compile_library

LIBRARY = """
service LibraryService {
  rpc AddBooks(stream Book) returns (Book) {
    option (google.api.http) = {post: "/v1/books:add" body: "*"};
  }
  rpc TradeBooks(stream Book) returns (stream Book) {
    option (google.api.http) = {post: "/v1/books:trade" body: "*"};
  }
  rpc UpdateBook(UpdateBookRequest) returns (Book) {
    option (google.api.http) = {
      patch: "/v1/{book.name=shelves/*/books/*}"
      body: "book"
      additional_bindings {put: "/v1/{book.name=shelves/*/books/*}:cover" body: "cover"}
    };
  }
  rpc ListBooks(ListBooksRequest) returns (stream Book) {
    option (google.api.http) = {get: "/v1/books"};
  }
}
message Book { string name = 1; string title = 2; }
message ListBooksRequest {
  string a_filter_with_a_long_name = 1;
  string another_with_a_long_name = 2;
  repeated string tags = 3;
  Book like = 4;
}
message UpdateBookRequest {
  Book book = 1;
  google.protobuf.FieldMask update_mask = 2;
  google.api.HttpBody cover = 3;
}
"""

TABLE = """\
METHOD  PATH                                     RPC                        STREAM  BODY           QUERY
GET     /v1/books                                LibraryService.ListBooks   server                 a_filter_with_a_long_name,
                                                                                                   another_with_a_long_name, tags, like.*
POST    /v1/books:add                            LibraryService.AddBooks    client  *
POST    /v1/books:trade                          LibraryService.TradeBooks  both    *
PATCH   /v1/{book.name=shelves/*/books/*}        LibraryService.UpdateBook  unary   book           update_mask
PUT     /v1/{book.name=shelves/*/books/*}:cover  LibraryService.UpdateBook  unary   cover (bytes)  update_mask, book.*
"""  # noqa: E501 - it is as wide as it is.


@dataclass
class Outcome:
    """How a program ended."""

    status: int
    output: str
    errors: str


async def run(*arguments: str, **environment: str) -> Outcome:
    """Run the program to its end with the given environment only."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.main", *arguments),
        env={"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), timeout=20)
    assert process.returncode is not None
    return Outcome(process.returncode, output.decode(), errors.decode())


@pytest.fixture
def library(tmp_path: Path) -> str:
    path = tmp_path / "library.binpb"
    files = FileDescriptorSet(file=compile_library(LIBRARY).files)
    path.write_bytes(files.SerializeToString())
    return str(path)


async def test_describe_prints_the_routes_by_their_paths(library: str) -> None:
    outcome = await run("describe", APIGATEWAY_DESCRIPTOR_SET=library)
    assert (outcome.status, outcome.errors) == (0, "")
    assert outcome.output.splitlines() == TABLE.splitlines()


async def test_openapi_prints_the_same_document_in_every_process(library: str) -> None:
    descriptors = compile_library(LIBRARY)
    expected = make_document(descriptors, compile_routes(descriptors))
    printed = [
        await run("openapi", APIGATEWAY_DESCRIPTOR_SET=library, PYTHONHASHSEED=seed)
        for seed in ("1", "2")
    ]
    assert [outcome.status for outcome in printed] == [0, 0]
    assert printed[0].output == printed[1].output
    assert json.loads(printed[0].output) == expected


@pytest.mark.parametrize("command", ["describe", "openapi", "serve"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "bad.binpb cannot be read: No such file or directory"),
        (b"\xff\xff", "not a FileDescriptorSet"),
        ("/v1/{title}", "is not known"),
        ("/healthz", "library.v1.BookService.GetBook: /healthz is the gateway's own"),
        ("/docs", "library.v1.BookService.GetBook: /docs is the gateway's own"),
    ],
)
async def test_bad_descriptor_set_is_refused_alike_by_every_command(
    tmp_path: Path, command: str, content: bytes | str | None, why: str
) -> None:
    path = tmp_path / "bad.binpb"
    if isinstance(content, str):
        rule = f'option (google.api.http) = {{get: "{content}"}};'
        service = f"service BookService {{ rpc GetBook(Book) returns (Book) {{ {rule} }} }}"
        files = compile_library(f"{service} message Book {{}}").files
        content = FileDescriptorSet(file=files).SerializeToString()
    if isinstance(content, bytes):
        path.write_bytes(content)
    outcome = await run(command, APIGATEWAY_DESCRIPTOR_SET=str(path))
    assert (outcome.status, outcome.output) == (78, "")
    assert outcome.errors.startswith("APIGATEWAY_DESCRIPTOR_SET: ")
    assert why in outcome.errors
    assert outcome.errors.count("\n") == 1


async def test_codec_prints_the_functions_of_a_message_type(library: str) -> None:
    outcome = await run("codec", "library.v1.Book", APIGATEWAY_DESCRIPTOR_SET=library)
    assert (outcome.status, outcome.errors) == (0, "")
    assert "if item := message.title: value['title'] = item" in outcome.output
    assert "message.title = item if type(item) is str" in outcome.output


async def test_codec_of_an_unknown_message_type_is_refused(library: str) -> None:
    outcome = await run("codec", "library.v1.Shelf", APIGATEWAY_DESCRIPTOR_SET=library)
    assert (outcome.status, outcome.output) == (1, "")
    assert "no message type library.v1.Shelf" in outcome.errors


async def test_help_names_every_command_and_variable() -> None:
    outcome = await run("--help", COLUMNS="80")
    assert (outcome.status, outcome.errors) == (0, "")
    variables = {name.upper() for name in GatewaySettings.model_fields}
    named = {line.strip() for line in outcome.output.splitlines()}
    assert (
        variables
        | {"APIGATEWAY_DESCRIPTOR_SET", "<SERVICE>_HOST, <SERVICE>_PORT", "<SERVICE>_TARGET"}
        <= named
    )
    assert "How many worker processes serve. Default: 1." in named
    assert max(map(len, outcome.output.splitlines())) <= 80
    for command in ("serve", "health", "ready", "describe", "openapi", "codec"):
        assert f"\n    {command} " in outcome.output


@pytest.mark.parametrize(
    "arguments", [("sing",), ("describe", "more"), ("codec",), ("--bind=0.0.0.0:80",)]
)
async def test_unknown_argument_is_refused(library: str, arguments: tuple[str, ...]) -> None:
    outcome = await run(*arguments, APIGATEWAY_DESCRIPTOR_SET=library)
    assert (outcome.status, outcome.output) == (2, "")
    assert "usage: gateway" in outcome.errors


@pytest.mark.parametrize("arguments", [(), ("serve",)])
async def test_serving_needs_every_setting(library: str, arguments: tuple[str, ...]) -> None:
    outcome = await run(*arguments, APIGATEWAY_DESCRIPTOR_SET=library)
    assert outcome.status == 78
    assert "LIBRARYSERVICE_HOST: Value error, must be set" in outcome.errors
