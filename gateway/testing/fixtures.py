"""Pytest fixtures: a gateway before the probe service, one for all tests of a module.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.protobuf import json_format
from probe.v1 import probe_pb2

from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.servicer import ProbeServicer, serve_probes


@dataclass
class Setup:
    """A client, the gateway that it calls, and the service behind that."""

    url: str
    client: httpx.AsyncClient
    servicer: ProbeServicer

    def request(self) -> dict[str, Any]:
        """Return the one gRPC request that was made, as JSON with proto names."""
        (call,) = self.servicer.calls
        return json_format.MessageToDict(call.request, preserving_proto_field_name=True)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the last gRPC call."""
        return self.servicer.calls[-1].metadata


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Setup]:
    """Yield a gateway that serves until the end of the module."""
    async with serve_probes() as (servicer, port):
        app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port)
        async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
            yield Setup(url, client, servicer)


@pytest.fixture
def setup(running: Setup) -> Setup:
    """Return the module's gateway, with no call remembered."""
    running.servicer.calls.clear()
    return running
