"""The whole document: valid, complete, and always the same."""

import os
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.descriptors import DescriptorSet
from gateway.openapi.document import make_document
from gateway.routes import compile_routes

SETS = ("BAZAAR_DESCRIPTORS", "PROBE_DESCRIPTORS")


def read_set(variable: str) -> DescriptorSet:
    return DescriptorSet.parse(Path(os.environ[variable]).read_bytes())


def document_of(variable: str) -> dict[str, Any]:
    descriptors = read_set(variable)
    return make_document(descriptors, compile_routes(descriptors))


@pytest.mark.parametrize("variable", SETS)
def test_document_is_valid(variable: str) -> None:
    validate(document_of(variable))


@pytest.mark.parametrize("variable", SETS)
def test_every_route_is_listed_or_explained(variable: str) -> None:
    routes = compile_routes(read_set(variable)).targets
    document = document_of(variable)
    listed = sum(len(item) for item in document["paths"].values())
    explained = document["x-unlisted-routes"]
    assert listed + len(explained) == len(routes)
    assert all(route["reason"] for route in explained)
