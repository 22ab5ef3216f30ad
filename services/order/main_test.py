"""The order service as a separate process: settings, start and stop."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import grpc
import pytest

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from bazaar.user.v1 import user_pb2
from chassis import client, settings
from chassis.testing import authorized
from services.order.testing import Orders, Shop, Urls, audit, new_order, read

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

ORDERS_PER_CHUNK = 20
COMMAND = ("-m", "services.order.main")
OBSERVED = """
import gc
from services.order.main import SERVICE

gc.set_debug(gc.DEBUG_STATS)
SERVICE.run()
"""
"""A service that reports its collections of garbage, the last one when it ends."""
COLLECTION = re.compile(
    r"gc: objects in each generation: ([0-9]+) ([0-9]+) ([0-9]+)\n"
    r"gc: objects in permanent generation: ([0-9]+)\n"
)


def environment(shop: Shop, port: int) -> dict[str, str]:
    """Return the settings of an order service among the services of a shop."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ORDERSERVICE_HOST": "127.0.0.1",
        "ORDERSERVICE_PORT": str(port),
        "ORDERSERVICE_DATABASE_URL": shop.urls["order"],
        "BAZAAR_PLAINTEXT": "true",
    } | {
        f"{name.upper()}SERVICE_{key}": value
        for name in ("user", "product", "payment")
        for key, value in (("HOST", "127.0.0.1"), ("PORT", str(shop.port(name))))
    }


async def log_in(shop: Shop) -> str:
    """Return a token of Ada's, by a key that the process has to get from the user service."""
    email = "ada@example.com"
    request = user_pb2.LoginRequest(email=email, password=f"password of {email}")
    return (await shop.users.Login(request)).access_token


@asynccontextmanager
async def running(
    shop: Shop, stderr: int | IO[bytes] = PIPE, command: Sequence[str] = COMMAND
) -> AsyncIterator[tuple[Process, Orders]]:
    """Run the service on the port of the shop's own, which stops."""
    port = await shop.stop("order")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment(shop, port), stdout=PIPE, stderr=stderr
    )
    try:
        async with client.open_channel(f"127.0.0.1:{port}") as channel:
            logged_in = authorized(channel, await log_in(shop))
            yield process, order_pb2_grpc.OrderServiceStub(logged_in)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_an_invalid_setting_ends_the_program_before_it_listens(shop: Shop) -> None:
    bad = environment(shop, 0) | {"USERSERVICE_PORT": "70000", "PAYMENTSERVICE_HOST": ""}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *COMMAND, env=bad, stdout=PIPE, stderr=PIPE
    )
    _, printed = await process.communicate()
    assert process.returncode == settings.EX_CONFIG
    for name in ("ORDERSERVICE_PORT", "USERSERVICE_PORT", "PAYMENTSERVICE_HOST"):
        assert f"{name}: " in printed.decode()
    assert "70000" not in printed.decode()


async def probe(shop: Shop, port: int, command: str) -> int | None:
    """Return the status of a command of the program."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *COMMAND, command, env=environment(shop, port), stderr=PIPE
    )
    await process.communicate()
    return process.returncode


async def test_the_program_says_whether_it_serves(shop: Shop) -> None:
    port = shop.port("order")
    user_id, product = await shop.new_user(), await shop.new_product(units=1)
    async with running(shop) as (_, orders):
        await orders.CreateOrder(new_order(user_id, (product, 1)), wait_for_ready=True)
        assert await probe(shop, port, "health") == 0
        assert await probe(shop, port, "ready") == 0
    assert await probe(shop, port, "health") == 1


@pytest.fixture
def full_disk() -> Iterator[IO[bytes]]:
    with Path("/dev/full").open("wb") as file:
        yield file


async def test_orders_are_served_although_the_log_disk_is_full(
    shop: Shop, full_disk: IO[bytes]
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=10)
    async with running(shop, full_disk) as (process, orders):
        for key in ("1", "2"):
            request = new_order(user_id, (product, 1), key=key)
            order = await orders.CreateOrder(request, wait_for_ready=True)
            assert order.state == order_pb2.ORDER_STATE_CONFIRMED
        process.terminate()
        assert await process.wait() == 0


async def test_collections_of_garbage_do_not_look_at_what_stays(shop: Shop, tmp_path: Path) -> None:
    printed = tmp_path / "stderr"
    user_id, product = await shop.new_user(), await shop.new_product(units=10)
    with printed.open("wb") as stderr:
        async with running(shop, stderr, ("-c", OBSERVED)) as (process, orders):
            await orders.CreateOrder(new_order(user_id, (product, 1)), wait_for_ready=True)
            process.terminate()
            assert await process.wait() == 0
    *_, last = COLLECTION.finditer(printed.read_text())
    *looked_at, stay = map(int, last.groups())
    assert stay > 10 * sum(looked_at)


def new_chunk(seq: int, user_id: str, product: str) -> order_pb2.CreateOrdersRequest:
    keys = (f"{seq}.{number}" for number in range(ORDERS_PER_CHUNK))
    orders = [new_order(user_id, (product, 1), key=key) for key in keys]
    return order_pb2.CreateOrdersRequest(seq=seq, orders=orders)


async def stop_during_stream(
    process: Process, stop: signal.Signals, stream: AsyncIterable[order_pb2.CreateOrdersResponse]
) -> tuple[list[order_pb2.CreateOrdersResponse], grpc.StatusCode]:
    """Send a signal after five responses; return all responses, and the status of the stream."""
    responses = []
    try:
        async for response in stream:
            responses.append(response)
            if len(responses) == 5:
                process.send_signal(stop)
    except grpc.aio.AioRpcError as error:
        return responses, error.code()
    return responses, grpc.StatusCode.OK


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
async def test_a_stop_during_a_stream_loses_no_order_of_a_response(
    shop: Shop, urls: Urls, stop: signal.Signals
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=100_000)
    chunks = (new_chunk(seq, user_id, product) for seq in range(1_000))
    async with running(shop) as (process, orders):
        stream = orders.CreateOrders(chunks, wait_for_ready=True)
        responses, code = await stop_during_stream(process, stop, stream)
        status = await process.wait()
    # grpc.aio raises INTERNAL if the stream ends while it writes a request.
    assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}
    assert status == (0 if stop is signal.SIGTERM else -signal.SIGKILL)
    acknowledged = [result.order for response in responses for result in response.results]
    assert len(acknowledged) == ORDERS_PER_CHUNK * len(responses) >= 5 * ORDERS_PER_CHUNK
    found = {row[0] for row in read(urls["order"], "SELECT order_id::text FROM orders")}
    assert {order.order_id for order in acknowledged} <= found
    if stop is signal.SIGTERM:
        assert len(found) == len(acknowledged)
    # The client continues after the last response, and unfinished orders are finished.
    port = await shop.start("order")
    async with client.open_channel(f"127.0.0.1:{port}") as channel:
        rest = new_chunk(len(responses), user_id, product)
        orders = order_pb2_grpc.OrderServiceStub(authorized(channel, shop.issuer.token()))
        stream = orders.CreateOrders(iter([rest]))
        assert [response.seq async for response in stream] == [len(responses)]
    assert audit(urls) == []
