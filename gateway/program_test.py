"""The gateway as a program: bad settings, the ways to stop it, and its memory."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

import httpx
import pytest
from probe.v1 import probe_pb2

from gateway.testing.harness import Program, descriptor_set, program_environment, run_program
from gateway.testing.servicer import ProbeServicer, serve_probes
from gateway.testing.wire import Wire, connect

NDJSON = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
EX_CONFIG = 78
MEBIBYTE = 1024 * 1024
GROWTH_BOUND_BYTES = 64 * MEBIBYTE
UPLOADED = 20_000
LISTED = 100_000
STALLED = 100
STALLED_READER_BYTES = 768 * 1024
"""A message being sent, two small windows, and the state of a call."""


@pytest.fixture
async def servicer_and_port() -> AsyncIterator[tuple[ProbeServicer, int]]:
    async with serve_probes() as serving:
        yield serving


@pytest.fixture
def servicer(servicer_and_port: tuple[ProbeServicer, int]) -> ProbeServicer:
    return servicer_and_port[0]


@pytest.fixture
def environment(servicer_and_port: tuple[ProbeServicer, int], tmp_path: Path) -> dict[str, str]:
    files = descriptor_set(probe_pb2.DESCRIPTOR)
    return program_environment(files, tmp_path, {"PROBESERVICE": servicer_and_port[1]})


@pytest.fixture
async def program(environment: dict[str, str]) -> AsyncIterator[Program]:
    async with run_program(environment) as program:
        yield program


async def run_to_end(environment: Mapping[str, str], directory: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.main",
        env=dict(environment),
        cwd=directory,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), timeout=20)
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_serves_and_stops_cleanly(program: Program) -> None:
    async with httpx.AsyncClient(base_url=program.url) as client:
        response = await client.get("/v1/probes/7?tags=a")
        assert response.json() == {"id": "7", "tags": ["a"]}
        assert "server" not in response.headers
    assert await program.stop() == 0
    assert '"event":"request"' in program.log.read_text()


@pytest.fixture
def full_disk() -> Iterator[IO[bytes]]:
    with Path("/dev/full").open("wb") as file:
        yield file


async def test_full_log_disk_does_not_stop_requests(
    environment: dict[str, str], tmp_path: Path, full_disk: IO[bytes]
) -> None:
    url = f"http://127.0.0.1:{environment['APIGATEWAY_PORT']}"
    retries = httpx.AsyncHTTPTransport(retries=10)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.main", env=environment, cwd=tmp_path, stderr=full_disk
    )
    try:
        async with httpx.AsyncClient(base_url=url, transport=retries, timeout=20) as client:
            for _ in range(2):
                assert (await client.get("/v1/probes/7")).json() == {"id": "7"}
                assert (await client.get("/nowhere")).status_code == 404
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_forwarded_headers_are_ignored(program: Program) -> None:
    async with httpx.AsyncClient(base_url=program.url) as client:
        await client.get("/v1/probes/7", headers={"X-Forwarded-For": "203.0.113.9"})
    assert await program.stop() == 0
    assert "203.0.113.9" not in program.log.read_text()


async def test_worker_does_not_outlive_its_master(program: Program) -> None:
    worker = program.worker_pid()
    program.process.kill()
    await program.process.wait()
    async with asyncio.timeout(10):
        while program.worker_lives(worker):  # noqa: ASYNC110 - nothing else tells of a grandchild's end.
            await asyncio.sleep(0.05)


async def test_any_asgi_server_can_serve_the_application(environment: dict[str, str]) -> None:
    options = ("--factory", "--lifespan=on", "--port", environment["APIGATEWAY_PORT"])
    command = ("uvicorn", "gateway.app:get_app", *options)
    async with run_program(environment, command) as program, httpx.AsyncClient() as client:
        assert (await client.get(f"{program.url}/v1/probes/7")).json() == {"id": "7"}


async def test_workers_share_the_port(environment: dict[str, str]) -> None:
    async with run_program(environment | {"APIGATEWAY_WORKERS": "2"}) as program:
        async with httpx.AsyncClient(base_url=program.url) as client:
            assert (await client.get("/v1/probes/7")).status_code == 200
        assert await program.stop() == 0


async def test_setting_limits_connections(environment: dict[str, str]) -> None:
    async with (
        run_program(environment | {"APIGATEWAY_MAX_CONNECTIONS": "1"}) as program,
        connect(program.url) as wire,
        connect(program.url) as other,
    ):
        await wire.send_head("GET", "/healthz", {})
        assert (await wire.read_head())[0] == 200
        assert (await other.read_head())[0] == 503


async def test_setting_limits_the_age_of_connections(environment: dict[str, str]) -> None:
    async with (
        run_program(environment | {"APIGATEWAY_CONNECTION_SECONDS": "0.001"}) as program,
        httpx.AsyncClient(
            base_url=program.url, limits=httpx.Limits(max_keepalive_connections=0)
        ) as client,
        asyncio.timeout(10),
    ):
        # A request may come within that time, so each one is made on a connection of its own.
        while (await client.get("/healthz")).headers.get("Connection") != "close":
            pass


async def test_setting_limits_calls_in_flight(
    environment: dict[str, str], servicer: ProbeServicer
) -> None:
    async with (
        run_program(environment | {"APIGATEWAY_MAX_CALLS": "1"}) as program,
        httpx.AsyncClient(base_url=program.url) as client,
    ):
        first = asyncio.create_task(client.post("/v1/waits", json={"seconds": 1}))
        await servicer.wait_for(1)
        refusal = await client.get("/v1/probes/7")
        assert (refusal.status_code, refusal.json()["reason"]) == (503, "TOO_MANY_CALLS")
        assert refusal.headers["Retry-After"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        assert (await first).status_code == 200
        assert (await client.get("/v1/probes/7")).status_code == 200


async def test_setting_limits_streams(environment: dict[str, str]) -> None:
    async with (
        run_program(environment | {"APIGATEWAY_MAX_STREAMS": "1"}) as program,
        connect(program.url) as wire,
        httpx.AsyncClient(base_url=program.url) as client,
    ):
        await wire.send_head("GET", "/v1/probes:watch?count=2&pause_seconds=60", {})
        assert (await wire.read_head())[0] == 200
        response = await client.get("/v1/probes:watch?count=1")
        assert (response.status_code, response.json()["reason"]) == (503, "TOO_MANY_STREAMS")


@pytest.mark.parametrize("asking", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_running_call_finishes_when_the_program_is_asked_to_stop(
    program: Program, servicer: ProbeServicer, asking: signal.Signals
) -> None:
    async with httpx.AsyncClient(base_url=program.url) as client:
        response = asyncio.create_task(client.post("/v1/waits", json={"seconds": 1}))
        await servicer.wait_for(1)
        assert await program.stop(asking) == 0
        assert (await response).status_code == 200
    assert "SIGKILL" not in program.log.read_text()


async def test_sigterm_ends_an_upload_after_its_last_response(program: Program) -> None:
    async with connect(program.url) as wire:
        await wire.send_head("POST", "/v1/probes:chat", NDJSON)
        await wire.send_record({"id": "1"})
        assert (await wire.read_head())[0] == 200
        stopping = asyncio.create_task(program.stop())
        assert await wire.read_record() == {"id": "1"}
        assert (await wire.read_record())["error"]["reason"] == "SERVER_STOPPING"
        assert await wire.read_record() is None
        assert await stopping == 0


async def test_each_bad_setting_is_named_and_nothing_listens(
    environment: dict[str, str], tmp_path: Path
) -> None:
    port = environment["APIGATEWAY_PORT"]
    bad = environment | {
        "PROBESERVICE_PORT": "70000",
        "APIGATEWAY_WORKERS": "none",
        "APIGATEWAY_CORS_ORIGINS": "https://shop.example/path",
        "DATABASE_URL": "secret-value",
        "POSTGRES_PORT": "",
    }
    del bad["PROBESERVICE_HOST"]
    status, errors = await run_to_end(bad, tmp_path)
    assert status == EX_CONFIG
    named = {line.partition(":")[0] for line in errors.splitlines()}
    assert {
        "PROBESERVICE_HOST",
        "PROBESERVICE_PORT",
        "APIGATEWAY_WORKERS",
        "APIGATEWAY_CORS_ORIGINS",
        "DATABASE_URL",
        "POSTGRES_PORT",
    } <= named
    assert "70000" not in errors
    assert "secret-value" not in errors
    assert "shop.example/path" not in errors
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


async def test_misspelt_setting_is_refused_with_a_suggestion(
    environment: dict[str, str], tmp_path: Path
) -> None:
    status, errors = await run_to_end(environment | {"APIGATEWAY_WORKER": "2"}, tmp_path)
    assert status == EX_CONFIG
    assert errors.startswith("APIGATEWAY_WORKER is unknown: did you mean APIGATEWAY_WORKERS?\n")


@pytest.mark.parametrize("content", [None, b"\xff\xff"])
async def test_descriptor_set_that_cannot_be_read_is_a_bad_setting(
    environment: dict[str, str], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "other.binpb"
    if content is not None:
        path.write_bytes(content)
    status, errors = await run_to_end(
        environment | {"APIGATEWAY_DESCRIPTOR_SET": str(path)}, tmp_path
    )
    assert status == EX_CONFIG
    assert errors.startswith("APIGATEWAY_DESCRIPTOR_SET: ")


async def test_long_listing_takes_little_memory(program: Program) -> None:
    before = await warm_rss(program)
    per_message = 500
    path = f"/v1/probes:watch?count={LISTED // per_message}&size={per_message * 300}"
    received = 0
    async with (
        httpx.AsyncClient(base_url=program.url, timeout=60) as client,
        client.stream("GET", path) as response,
    ):
        async for piece in response.aiter_bytes():
            received += len(piece)
    assert received > LISTED * 300
    assert program.worker_rss_bytes() - before < GROWTH_BOUND_BYTES


async def test_long_upload_takes_little_memory(program: Program, servicer: ProbeServicer) -> None:
    before = await warm_rss(program)
    async with connect(program.url) as wire:
        await wire.send_head("POST", "/v1/probes:chat", NDJSON)
        sending = asyncio.create_task(send_probes(wire))
        await wire.read_head()
        for number in range(UPLOADED):
            assert (await wire.read_record())["int32Value"] == number + 1
        assert await wire.read_record() is None
        await sending
    assert servicer.received == UPLOADED
    assert program.worker_rss_bytes() - before < GROWTH_BOUND_BYTES


async def test_event_streams_that_stall_take_little_memory(
    program: Program, servicer: ProbeServicer
) -> None:
    before = await warm_rss(program)
    headers = {"Accept": "text/event-stream"}
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(program.url)) for _ in range(STALLED)]
        for wire in wires:
            await wire.send_head("GET", "/v1/probes:watch?count=-1&size=50000", headers)
        for wire in wires:
            assert (await wire.read_head())[0] == 200
        sent = await servicer.settled()
        growth = program.worker_rss_bytes() - before
        for wire in wires:
            wire.abort()
    assert growth < STALLED * STALLED_READER_BYTES
    # The system's buffers count too, on both sides.
    assert sent * 50_000 < STALLED * 4 * MEBIBYTE


async def send_probes(wire: Wire) -> None:
    record = {"int32Value": 0, "text": "x" * 300}
    for number in range(UPLOADED):
        await wire.send_record(record | {"int32Value": number + 1})
    await wire.send_end()


async def warm_rss(program: Program) -> int:
    """Return the memory of the worker after it has done a little of everything."""
    async with httpx.AsyncClient(base_url=program.url) as client:
        for _ in range(20):
            await client.get("/v1/probes:watch?count=5&size=1000")
            await client.post("/v1/probes", json={"id": "1"})
    return program.worker_rss_bytes()
