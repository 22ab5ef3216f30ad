"""What clients receive from applications that fail, and the framing of responses."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.http.asgi import Application
from gateway.testing.harness import serve_app
from gateway.testing.wire import Wire, connect

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Respond = Callable[[Any], Awaitable[None]]


def start(*headers: tuple[bytes, bytes]) -> dict[str, object]:
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(content: bytes, *, more: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def application(respond: Respond) -> Application:
    async def run(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await respond(send)
            return
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{event['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    return run


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[Wire]:
    async with serve_app(application(respond)) as url, connect(url) as wire:
        yield wire


async def fail(_send: Any) -> None:
    raise RuntimeError("a secret")


async def never_respond(_send: Any) -> None:
    return


async def split_header(send: Any) -> None:
    await send(start((b"x-a", b"a\r\nx-injected: b")))
    await send(body(b""))


@pytest.mark.parametrize("respond", [fail, never_respond, split_header])
async def test_application_that_fails_is_500(respond: Respond) -> None:
    async with serving(respond) as wire:
        await wire.send_raw(GET)
        status, headers, content = await wire.read_response()
        assert (status, headers["connection"]) == (500, "close")
        assert headers["content-type"] == "application/problem+json"
        assert "x-injected" not in headers
        assert json.loads(content)["code"] == "INTERNAL"
        assert b"secret" not in content
        assert await wire.read_end() == b""


async def test_request_that_outlasts_the_shutdown_is_503() -> None:
    begun = asyncio.Event()

    async def never_respond(_send: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        async with serve_app(application(never_respond)) as url:
            wire = await stack.enter_async_context(connect(url))
            await wire.send_raw(GET)
            await begun.wait()
        status, headers, content = await wire.read_response()
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(content)["reason"] == "SERVER_STOPPING"


async def fail_halfway(send: Any) -> None:
    await send(start())
    await send(body(b"half", more=True))
    raise RuntimeError


async def send_too_much(send: Any) -> None:
    await send(start((b"content-length", b"6")))
    await send(body(b"half", more=True))
    await send(body(b"more", more=False))


@pytest.mark.parametrize(
    ("respond", "rest"), [(fail_halfway, b"4\r\nhalf\r\n"), (send_too_much, b"half")]
)
async def test_response_that_stays_incomplete_is_cut(respond: Respond, rest: bytes) -> None:
    async with serving(respond) as wire:
        await wire.send_raw(GET)
        assert (await wire.read_head())[0] == 200
        assert await wire.read_end() == rest


async def stream(send: Any) -> None:
    await send(start())
    await send(body(b"one", more=True))
    await send(body(b"two"))


async def test_stream_is_chunked(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(stream) as wire:
        await wire.send_raw(GET + GET)
        for _ in range(2):
            assert (await wire.read_head())[1]["transfer-encoding"] == "chunked"
            chunks = [await wire.read_chunk() for _ in range(3)]
            assert chunks == [b"one", b"two", b""]
    assert not caplog.records


async def test_stream_to_http_1_0_ends_with_the_connection() -> None:
    async with serving(stream) as wire:
        await wire.send_raw(b"GET / HTTP/1.0\r\n\r\n")
        assert "transfer-encoding" not in (await wire.read_head())[1]
        assert await wire.read_end() == b"onetwo"


async def send_whole(send: Any) -> None:
    await send(start((b"content-length", b"5")))
    await send(body(b"whole"))


async def test_head_has_no_body() -> None:
    async with serving(send_whole) as wire:
        await wire.send_raw(GET.replace(b"GET", b"HEAD") + GET)
        assert (await wire.read_head())[1]["content-length"] == "5"
        assert (await wire.read_response())[2] == b"whole"


async def test_body_that_the_application_does_not_read_stays_unread() -> None:
    released = asyncio.Event()

    async def wait(send: Any) -> None:
        await released.wait()
        await send(start())
        await send(body(b""))

    async with serving(wait) as wire:
        await wire.send_raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % 2**40)
        sent = 0
        with suppress(TimeoutError):
            while sent < 64 * 1024 * 1024:
                async with asyncio.timeout(1):
                    await wire.send_raw(bytes(65_536))
                sent += 65_536
        released.set()
        assert (await wire.read_response())[0] == 200
    # Everything that was sent fits into the buffers of the system.
    assert sent < 64 * 1024 * 1024
