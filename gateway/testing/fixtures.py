"""Pytest fixtures: a gateway before the probe service or the notes, one for a module's tests.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx
import pytest
import pytest_asyncio
from google.protobuf import json_format
from note.v1 import note_pb2
from probe.v1 import probe_pb2
from session.v1 import session_pb2

from gateway.app import GatewayApp
from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.note_servicer import NoteServicer, serve_notes
from gateway.testing.servicer import ProbeServicer, serve_probes
from gateway.testing.session_servicer import SessionServicer, serve_sessions


@dataclass
class Setup:
    """A client, the gateway that it calls, and the service behind the gateway."""

    url: str
    client: httpx.AsyncClient
    servicer: ProbeServicer
    app: GatewayApp

    @classmethod
    @asynccontextmanager
    async def serve(cls, **settings: Any) -> AsyncIterator[Self]:
        """Serve the probe service and a gateway with these settings, by name."""
        async with serve_probes() as (servicer, port):
            app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port, **settings)
            async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
                yield cls(url, client, servicer, app)

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
    async with Setup.serve() as setup:
        yield setup


@pytest.fixture
def setup(running: Setup) -> Setup:
    """Return the gateway of the module, without remembered calls."""
    running.servicer.calls.clear()
    return running


@dataclass
class Notes:
    """A client of the gateway before the notes, and the service behind it."""

    client: httpx.AsyncClient
    servicer: NoteServicer

    def add(self, etag: str = "7", note_id: str = "1") -> None:
        """Store a note."""
        cover = note_pb2.Cover(colour="red", etag="c")
        note = note_pb2.Note(note_id=note_id, text="old", etag=etag, cover=cover)
        self.servicer.notes[note_id] = note


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_notes() -> AsyncIterator[Notes]:
    """Yield a gateway that serves until the end of the module."""
    async with serve_notes() as (servicer, port):
        app = make_app(descriptor_set(note_pb2.DESCRIPTOR), port)
        async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
            yield Notes(client, servicer)


@pytest.fixture
def notes(running_notes: Notes) -> Notes:
    """Return the gateway of the module, with one note and without remembered calls."""
    running_notes.servicer.notes.clear()
    running_notes.servicer.calls.clear()
    running_notes.add()
    return running_notes


@dataclass
class Sessions:
    """A client of the gateway before the sessions, and the service behind it."""

    client: httpx.AsyncClient
    servicer: SessionServicer

    @classmethod
    @asynccontextmanager
    async def serve(cls, **settings: Any) -> AsyncIterator[Self]:
        """Serve the sessions and a gateway with these settings, by name."""
        async with serve_sessions() as (servicer, port):
            app = make_app(descriptor_set(session_pb2.DESCRIPTOR), port, **settings)
            async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
                yield cls(client, servicer)

    async def login(self, email: str = "a@example.com", **headers: str) -> httpx.Response:
        """Begin a session."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"email": email}
        return await self.client.post("/v1/sessions:login", json=body, headers=named)
