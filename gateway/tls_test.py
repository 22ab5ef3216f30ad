"""TLS between clients and the gateway, and certificates that are replaced while it serves."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from probe.v1 import probe_pb2

from gateway.server.limits import ConnectionLimits
from gateway.testing.harness import Program, descriptor_set, program_environment, run_program
from gateway.testing.servicer import serve_probes
from tools.certs.authority import Authority, KeyPair

EX_CONFIG = 78
AUTHORITY = Authority.create(["gateway"])


def write(directory: Path, pair: KeyPair) -> dict[str, str]:
    """Write a certificate and its key, and return the settings that name them."""
    certificate, key = directory / "edge.crt", directory / "edge.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return {"APIGATEWAY_CERTIFICATE": str(certificate), "APIGATEWAY_KEY": str(key)}


@pytest.fixture
def context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=AUTHORITY.pair.certificate.decode())


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    async with serve_probes() as (_, port):
        files = descriptor_set(probe_pb2.DESCRIPTOR)
        yield program_environment(files, tmp_path, {"PROBESERVICE": port})


@pytest.fixture
async def program(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Program]:
    async with run_program(environment | write(tmp_path, AUTHORITY.issue("gateway"))) as program:
        yield program


@asynccontextmanager
async def connect(
    program: Program, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", program.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def shown_certificate(program: Program, context: ssl.SSLContext) -> bytes:
    async with connect(program, context) as (_, writer):
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() in (None, "http/1.1")
        return tls.getpeercert(binary_form=True) or b""


async def test_requests_are_served_over_tls_and_browsers_stay_with_it(
    program: Program, context: ssl.SSLContext
) -> None:
    async with httpx.AsyncClient(base_url=program.url, verify=context) as client:
        for _ in range(3):
            response = await client.get("/v1/probes/7")
            assert response.json() == {"id": "7"}
            assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
        body = {"id": "7", "text": "x" * 500_000}
        assert (await client.post("/v1/probes", json=body)).json() == body


async def test_plain_text_is_not_served(program: Program) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{program.port}") as client:
        with pytest.raises(httpx.TransportError):
            await client.get("/v1/probes/7")


async def test_handshake_that_does_not_come_has_a_limit(program: Program) -> None:
    async with connect(program, None) as (reader, _), asyncio.timeout(10):
        assert await reader.read() == b""


async def test_silent_clients_of_one_address_leave_room_for_others(
    program: Program, context: ssl.SSLContext
) -> None:
    async with AsyncExitStack() as stack:
        async with httpx.AsyncClient(base_url=program.url, verify=context) as open_before:
            assert (await open_before.get("/v1/probes/7")).status_code == 200
            for _ in range(ConnectionLimits().max_client_handshakes):
                await stack.enter_async_context(connect(program, None))
            with pytest.raises(ConnectionError):
                await stack.enter_async_context(connect(program, context))
            assert (await open_before.get("/v1/probes/7")).status_code == 200
        transport = httpx.AsyncHTTPTransport(verify=context, local_address="127.0.0.2")
        async with httpx.AsyncClient(base_url=program.url, transport=transport) as other:
            assert (await other.get("/v1/probes/7")).status_code == 200


async def test_handshakes_that_fail_leave_no_memory_taken(program: Program) -> None:
    async def fail() -> None:
        async with connect(program, None) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with suppress(ConnectionError):
                await reader.read()

    async def fail_often() -> int:
        for _ in range(20):
            await asyncio.gather(*(fail() for _ in range(50)))
        return program.worker_rss_bytes()

    before = await fail_often()
    assert await fail_often() < before + 8 * 1024 * 1024


async def test_program_stops_while_a_handshake_is_in_progress(program: Program) -> None:
    async with connect(program, None):
        assert await program.stop() == 0
    assert "Traceback" not in program.log.read_text()


async def test_connection_closes_after_its_last_response(
    program: Program, context: ssl.SSLContext
) -> None:
    async with connect(program, context) as (reader, writer), asyncio.timeout(10):
        writer.write(b"GET /v1/probes/7 HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b'{"id":"7"}')


async def test_replaced_certificate_is_shown_and_no_request_fails(
    program: Program, context: ssl.SSLContext, tmp_path: Path
) -> None:
    before = await shown_certificate(program, context)
    statuses: set[int] = set()
    replaced = asyncio.Event()
    async with httpx.AsyncClient(base_url=program.url, verify=context) as client:

        async def request_all_the_time() -> None:
            while not replaced.is_set():
                one_more = {"Connection": "close"}
                for headers in ({}, one_more):
                    response = await client.get("/v1/probes/7", headers=headers)
                    statuses.add(response.status_code)

        requesting = asyncio.create_task(request_all_the_time())
        write(tmp_path, AUTHORITY.issue("gateway"))
        async with asyncio.timeout(15):
            while await shown_certificate(program, context) == before:  # noqa: ASYNC110 - nothing else tells.
                await asyncio.sleep(0.05)
        # Not cancelled: a client that is in a handshake would leave its socket open.
        replaced.set()
        await requesting
    assert statuses == {200}


async def test_certificate_whose_key_is_missing_does_not_replace_another(
    program: Program, context: ssl.SSLContext, tmp_path: Path
) -> None:
    before = await shown_certificate(program, context)
    (tmp_path / "edge.crt").write_bytes(AUTHORITY.issue("gateway").certificate)
    async with asyncio.timeout(15):
        while "certificate_not_reloaded" not in program.log.read_text():  # noqa: ASYNC110 - as above.
            await asyncio.sleep(0.05)
    assert await shown_certificate(program, context) == before


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"APIGATEWAY_KEY": "other.key"}, "certificate and key cannot be used: key values"),
        ({"APIGATEWAY_KEY": "missing.key"}, "a file cannot be read: No such file or directory"),
        ({"APIGATEWAY_KEY": "edge.crt"}, "certificate and key cannot be used"),
        ({"APIGATEWAY_KEY": None}, "must be set where APIGATEWAY_CERTIFICATE is"),
        ({"APIGATEWAY_CERTIFICATE": None}, "must be set where APIGATEWAY_CERTIFICATE is"),
    ],
)
async def test_certificate_and_key_that_do_not_match_are_bad_settings(
    environment: dict[str, str], tmp_path: Path, changed: dict[str, str | None], why: str
) -> None:
    (tmp_path / "other.key").write_bytes(AUTHORITY.issue("gateway").key)
    given = environment | write(tmp_path, AUTHORITY.issue("gateway"))
    for name, value in changed.items():
        if value is None:
            del given[name]
        else:
            given[name] = str(tmp_path / value)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.main", env=given, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), timeout=20)
    assert process.returncode == EX_CONFIG
    assert f"APIGATEWAY_KEY: Value error, {why}" in errors.decode()
