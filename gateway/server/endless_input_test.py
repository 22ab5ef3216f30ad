"""Endless input of every kind occupies no memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from probe.v1 import probe_pb2

from gateway.server.endless_inputs import ENDLESS_INPUTS, send
from gateway.testing.harness import Program, descriptor_set, program_environment, run_program
from gateway.testing.servicer import serve_probes

SENT_BYTES = 16 * 1024 * 1024
GROWTH_BOUND_BYTES = 4 * 1024 * 1024
MAX_SECONDS = 3.0
REFUSED = 200
REFUSED_BYTES = 128 * 1024


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    files = descriptor_set(probe_pb2.DESCRIPTOR)
    async with serve_probes() as (_, port):
        environment = program_environment(files, tmp_path, {"PROBESERVICE": port})
        async with run_program(environment) as program:
            yield program


async def test_endless_input_takes_no_memory(program: Program) -> None:
    await grow(program)  # The first time buffers are made that stay.
    assert {name: size for name, size in (await grow(program)).items() if size} == {}


async def test_refused_connections_are_released(program: Program) -> None:
    (header,) = (kind for kind in ENDLESS_INPUTS if kind.name == "header")
    before = program.worker_rss_bytes()
    for _ in range(REFUSED):
        await asyncio.to_thread(send, header, program.port, REFUSED_BYTES, MAX_SECONDS)
    assert program.worker_rss_bytes() - before < GROWTH_BOUND_BYTES


async def grow(program: Program) -> dict[str, int]:
    """Send all kinds; return how many bytes memory grew beyond the limit, by kind."""
    grown = {}
    for kind in ENDLESS_INPUTS:
        before = program.worker_rss_bytes()
        taken = await asyncio.to_thread(send, kind, program.port, SENT_BYTES, MAX_SECONDS)
        assert taken.size > 0
        grown[kind.name] = max(0, program.worker_rss_bytes() - before - GROWTH_BOUND_BYTES)
    return grown
