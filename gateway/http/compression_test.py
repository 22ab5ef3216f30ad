"""Compression: which responses, for which clients, and piece by piece for streams."""

import gzip
import zlib

import pytest

from gateway.http.compression import MIN_BYTES, accepts_gzip
from gateway.testing.fixtures import Setup
from gateway.testing.wire import connect

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "x" * MIN_BYTES
GZIP = {"Accept-Encoding": "gzip"}
NDJSON = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
IDENTITY = {"Accept-Encoding": "identity"}


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("br, *", True),
        ("br;q=0, gzip", True),
        ("gzip; q=1.000", True),
        ("*;q=0.001", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("identity", False),
    ],
)
async def test_accept_encoding_decides_about_gzip(accept_encoding: str, *, accepted: bool) -> None:
    assert accepts_gzip(accept_encoding) is accepted


async def test_long_response_is_compressed_if_the_client_accepts_it(setup: Setup) -> None:
    plain = await setup.client.get(f"/v1/probes/{LONG}", headers=IDENTITY)
    packed = await setup.client.get(f"/v1/probes/{LONG}", headers=GZIP)
    assert plain.content == packed.content
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert int(packed.headers["Content-Length"]) < MIN_BYTES < len(packed.content)


@pytest.mark.parametrize("headers", [GZIP, IDENTITY, {"Accept-Encoding": ""}])
async def test_vary_names_accept_encoding(setup: Setup, headers: dict[str, str]) -> None:
    document = await setup.client.get("/openapi.json", headers=headers)
    assert document.headers["Vary"] == "Accept-Encoding"
    known = headers | {"If-None-Match": document.headers["ETag"]}
    unmodified = await setup.client.get("/openapi.json", headers=known)
    assert (unmodified.status_code, unmodified.content) == (304, b"")
    assert unmodified.headers["Vary"] == "Accept-Encoding"
    assert (await setup.client.head("/openapi.json", headers=headers)).headers["Vary"]
    stream = await setup.client.get("/v1/probes:watch?count=1", headers=headers)
    assert stream.headers.get_list("Vary", split_commas=True) == ["Accept", "Accept-Encoding"]


async def test_short_response_is_not_compressed(setup: Setup) -> None:
    response = await setup.client.get("/v1/probes/7", headers=GZIP)
    assert "Content-Encoding" not in response.headers
    assert "Vary" not in response.headers


async def test_response_with_a_strong_etag_is_not_compressed(setup: Setup) -> None:
    response = await setup.client.get(f"/v1/probes/{LONG}?etag=1", headers=GZIP)
    assert response.headers["ETag"] == '"1"'
    assert "Content-Encoding" not in response.headers
    assert "Vary" not in response.headers
    assert response.json() == {"id": LONG, "etag": "1"}


async def test_raw_bytes_of_another_type_are_not_compressed(setup: Setup) -> None:
    content = b"x" * 2 * MIN_BYTES
    headers = GZIP | {"Content-Type": "image/png"}
    response = await setup.client.post("/v1/raw/7", content=content, headers=headers)
    assert "Content-Encoding" not in response.headers
    assert response.content == content


async def test_head_has_the_uncompressed_length(setup: Setup) -> None:
    response = await setup.client.head(f"/v1/probes/{LONG}", headers=GZIP)
    assert "Content-Encoding" not in response.headers
    assert int(response.headers["Content-Length"]) > MIN_BYTES


async def test_each_record_of_a_compressed_stream_can_be_read_at_once(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("POST", "/v1/probes:chat", GZIP | NDJSON)
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        for number in range(3):
            await wire.send_record({"id": str(number)})
            if number == 0:
                assert (await wire.read_head())[1]["content-encoding"] == "gzip"
            record = unpacker.decompress(await wire.read_chunk())
            assert record == b'{"id":"%d"}\n' % number
        await wire.send_end()
        assert unpacker.decompress(await wire.read_chunk()) == b""
        assert unpacker.eof
        assert await wire.read_chunk() == b""


async def test_whole_stream_is_one_gzip_file(setup: Setup) -> None:
    request = setup.client.build_request("GET", "/v1/probes:watch?count=50&size=100", headers=GZIP)
    response = await setup.client.send(request, stream=True)
    data = b"".join([piece async for piece in response.aiter_raw()])
    await response.aclose()
    assert gzip.decompress(data).count(b"\n") == 50
    assert len(data) < 50 * 100
