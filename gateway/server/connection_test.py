"""The table of raw bytes, on connections to a running gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

import pytest
import pytest_asyncio
from probe.v1 import probe_pb2

from gateway.server.raw_requests import all_rows
from gateway.server.raw_rows import Row
from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.servicer import ProbeServicer, serve_probes
from gateway.testing.wire import Wire, connect

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL_BYTES = 4_000
PIECE_BYTES = 997


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[str, ProbeServicer]]:
    async with serve_probes() as (servicer, port):
        app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port)
        async with serve_app(app) as url:
            yield url, servicer


def leave_whole(data: bytes) -> Iterable[bytes]:
    return (data,)


def cut_lines(data: bytes) -> Iterable[bytes]:
    *lines, last = data.splitlines(keepends=True)
    return (*lines, last) if len(data) <= SMALL_BYTES else (b"".join(lines), last)


def cut_pieces(data: bytes) -> Iterator[bytes]:
    size = 1 if len(data) <= SMALL_BYTES else PIECE_BYTES
    return (data[at : at + size] for at in range(0, len(data), size))


async def send_pieces(wire: Wire, pieces: Iterable[bytes]) -> None:
    """Send pieces, each of which the server reads by itself: it runs in this event loop."""
    for piece in pieces:
        await wire.send_raw(piece)
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "cut", [leave_whole, cut_lines, cut_pieces], ids=["whole", "lines", "pieces"]
)
@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in all_rows()])
async def test_bytes_get_the_same_responses_however_they_are_split(
    running: tuple[str, ProbeServicer], row: Row, cut: Callable[[bytes], Iterable[bytes]]
) -> None:
    url, servicer = running
    servicer.calls.clear()
    async with connect(url) as wire:
        sending = asyncio.create_task(send_pieces(wire, cut(row.data)))
        responses = [await wire.read_response() for _ in row.statuses]
        if row.closed:
            assert responses[-1][1]["connection"] == "close"
            assert await wire.read_end() == b""
        await sending
        if not row.closed:
            await wire.send_raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await wire.read_response())[0] == 200
    check(row, responses)
    reached = tuple(f"{call.rpc} {getattr(call.request, 'id', '')}" for call in servicer.calls)
    assert reached == row.reached
    if row.metadata:
        assert row.metadata.items() <= servicer.calls[-1].metadata.items()


def check(row: Row, responses: Sequence[tuple[int, Mapping[str, str], bytes]]) -> None:
    statuses = tuple(status for status, _, _ in responses)
    assert statuses == row.statuses, responses[-1]
    if row.reason:
        assert responses[-1][1]["content-type"] == "application/problem+json"
        assert json.loads(responses[-1][2])["reason"] == row.reason
