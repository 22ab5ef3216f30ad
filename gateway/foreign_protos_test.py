"""Published protos of others: Google's long-running operations and locations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from google.cloud.location import locations_pb2
from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import empty_pb2, struct_pb2
from google.protobuf.message import Message

from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.serving import listening

Servicer = dict[str, tuple[type[Message], Any]]
"""The request class and the implementation of each method, by its name."""


async def get_operation(
    request: operations_pb2.GetOperationRequest, _context: grpc.aio.ServicerContext[Any, Any]
) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name=request.name, done=True)
    operation.response.Pack(struct_pb2.Value(string_value="the result"))
    return operation


async def cancel_operation(
    request: operations_pb2.CancelOperationRequest, context: grpc.aio.ServicerContext[Any, Any]
) -> empty_pb2.Empty:
    if request.name != "operations/1":
        await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no {request.name}.")
    return empty_pb2.Empty()


async def list_locations(
    request: locations_pb2.ListLocationsRequest, _context: grpc.aio.ServicerContext[Any, Any]
) -> locations_pb2.ListLocationsResponse:
    location = locations_pb2.Location(name=f"{request.name}/locations/here", labels={"a": "b"})
    return locations_pb2.ListLocationsResponse(
        locations=[location] * request.page_size, next_page_token=request.filter
    )


def serialize(message: Message) -> bytes:
    return message.SerializeToString()


SERVICES: dict[str, Servicer] = {
    "google.longrunning.Operations": {
        "GetOperation": (operations_pb2.GetOperationRequest, get_operation),
        "CancelOperation": (operations_pb2.CancelOperationRequest, cancel_operation),
    },
    "google.cloud.location.Locations": {
        "ListLocations": (locations_pb2.ListLocationsRequest, list_locations),
    },
}


@asynccontextmanager
async def serve_services() -> AsyncIterator[int]:
    server = grpc.aio.server()
    for name, methods in SERVICES.items():
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(
                behaviour, request_class.FromString, serialize
            )
            for method, (request_class, behaviour) in methods.items()
        }
        generic = grpc.method_handlers_generic_handler(name, handlers)
        server.add_generic_rpc_handlers((generic,))
    async with listening(server) as port:
        yield port


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with serve_services() as port:
        files = descriptor_set(operations_pb2.DESCRIPTOR, locations_pb2.DESCRIPTOR)
        async with (
            serve_app(make_app(files, port)) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            yield client


async def test_operation_is_found_by_a_name_of_several_segments(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/operations/import/7")
    assert response.json() == {
        "name": "operations/import/7",
        "done": True,
        "response": {
            "@type": "type.googleapis.com/google.protobuf.Value",
            "value": "the result",
        },
    }


async def test_verb_follows_a_name_of_several_segments(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/operations/1:cancel", json={})).status_code == 204
    missing = await client.post("/v1/operations/import/7:cancel")
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
    assert missing.json()["detail"] == "There is no operations/import/7."


async def test_additional_binding_may_have_a_literal_after_its_variable(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/v1/projects/p/locations?pageSize=2&filter=f")
    assert response.json() == {
        "locations": [{"name": "projects/p/locations/here", "labels": {"a": "b"}}] * 2,
        "nextPageToken": "f",
    }


async def test_method_that_the_service_does_not_have_is_501(client: httpx.AsyncClient) -> None:
    response = await client.delete("/v1/operations/1")
    assert (response.status_code, response.json()["code"]) == (501, "UNIMPLEMENTED")


async def test_parameter_that_google_does_not_know_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/operations/1?page_size=2")).status_code == 400
