"""Requests leave nothing to the garbage collector, which looks at nothing that stays."""

import gc
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from probe.v1 import probe_pb2

from gateway.testing.fixtures import Setup
from gateway.testing.harness import descriptor_set, program_environment, run_program
from gateway.testing.servicer import serve_probes

COLLECTION = re.compile(
    r"gc: objects in each generation: ([0-9]+) ([0-9]+) ([0-9]+)\n"
    r"gc: objects in permanent generation: ([0-9]+)\n"
)
OBSERVED = """
import gc, signal
from gateway.main import main

signal.signal(signal.SIGALRM, lambda *_: gc.collect())
gc.set_debug(gc.DEBUG_STATS)
main()
"""
"""A gateway whose processes report their collections, and collect at SIGALRM."""
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with Setup.serve() as setup:
        yield setup


@pytest.fixture
def found() -> Iterator[list[object]]:
    """Yield what the garbage collector has found since a list was filled last."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (httpx.Request("GET", "/v1/probes/7"), 200),
        (httpx.Request("GET", "/healthz"), 200),
        (httpx.Request("GET", "/nowhere"), 404),
        (httpx.Request("GET", "/v1/probes/7?unknown=1"), 400),
        (httpx.Request("POST", "/v1/probes", headers=JSON, content=b"{}"), 200),
        (httpx.Request("POST", "/v1/probes", headers=JSON, content=b"x" * 10_000), 400),
        (httpx.Request("POST", "/v1/probes", headers=JSON, content=b"x" * 2_000_000), 413),
    ],
    ids=lambda value: value.url.path if isinstance(value, httpx.Request) else str(value),
)
async def test_unary_request_leaves_no_garbage(
    setup: Setup, found: list[object], request_: httpx.Request, status: int
) -> None:
    for _ in range(3):
        response = await setup.client.request(
            request_.method, str(request_.url), headers=request_.headers, content=request_.content
        )
        assert response.status_code == status
        gc.collect()
    names = [f"{type(each).__module__}.{type(each).__name__}" for each in found]
    assert not [name for name in names if name.startswith("gateway.")]


async def test_collections_do_not_look_at_what_stays(tmp_path: Path) -> None:
    (tmp_path / "observed.py").write_text(OBSERVED)
    files = descriptor_set(probe_pb2.DESCRIPTOR)
    async with serve_probes() as (_, port):
        environment = program_environment(files, tmp_path, {"PROBESERVICE": port})
        environment["PYTHONPATH"] += f":{tmp_path}"
        async with run_program(environment, ("observed",)) as program:
            os.kill(program.worker_pid(), signal.SIGALRM)
            async with httpx.AsyncClient() as client:
                await client.get(f"{program.url}/healthz")
            assert await program.stop() == 0
            log = program.log.read_text()
    collections = [[int(count) for count in match.groups()] for match in COLLECTION.finditer(log)]
    assert any(stay > 10 * sum(looked_at) for *looked_at, stay in collections), log[-2_000:]
