"""Measures what faults cost the whole shop: `./bazelw run //tools/dev:faults`, as root.

The shop runs on ports and data of its own. First the connections of one service to its database are
frozen, then clients stop reading a stream of orders, then the disk of the logs is full.
"""

import asyncio
import contextlib
import ctypes
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis.transport import STREAM_OPTIONS
from tools.dev.running_shop import Shop, open_shop, process_name, requesting
from tools.dev.shop import SERVICES
from tools.dev.testing import ShopProcess, make_credentials, open_environment
from tools.postgres.freezing import frozen, list_backends

FREEZE_SECONDS = 12.0
CLIENTS = 100
LOG_BYTES = 256 * 1024
CHUNKS, ORDERS = 6, 500

# Of Linux's sched.h and mount.h.
_UNSHARE_MOUNTS = 0x00020000
_PRIVATE_RECURSIVE = (1 << 18) | (1 << 14)


async def freeze_database(shop: Shop, name: str, *, new_ones: bool) -> None:
    """Freeze the open connections to a database, and with `new_ones` each one opened later."""
    url = shop.database_url(name)
    which = "All connections, new ones too," if new_ones else "The open connections"
    print(f"\n{which} to {name} are frozen for {FREEZE_SECONDS:g} s")
    began = time.monotonic()
    readiness = asyncio.create_task(_follow_readiness(shop, began))
    async with requesting(shop.order, 0.2) as orders:
        with contextlib.ExitStack() as stack:
            while time.monotonic() - began < FREEZE_SECONDS:
                if new_ones or time.monotonic() - began < 0.05:
                    stack.enter_context(frozen(await asyncio.to_thread(list_backends, url)))
                await asyncio.sleep(0.05)
        woken = time.monotonic()
        while not (await shop.order() == 201 and await shop.get("/readyz") == 200):
            pass
        print(f"  orders and /readyz are back {time.monotonic() - woken:.2f} s after SIGCONT")
    readiness.cancel()
    print(f"  orders: {orders}")
    await asyncio.sleep(2)
    print(f"  connections now: {len(list_backends(url))}")


async def _follow_readiness(shop: Shop, began: float) -> None:
    known, slowest = 200, 0.0
    try:
        while True:
            asked = time.monotonic()
            status = await shop.get("/readyz")
            slowest = max(slowest, time.monotonic() - asked)
            if status != known:
                print(f"  /readyz is {status} after {time.monotonic() - began:.2f} s")
                known = status
            await asyncio.sleep(0.1)
    finally:
        print(f"  the slowest /readyz took {slowest:.2f} s")


async def stop_reading(shop: Shop, processes: list[int]) -> None:
    """Let clients read one message of a stream of orders, and then stop reading."""
    print(f"\n{CLIENTS} clients that stop reading a stream of orders")
    await _place_chunks(shop)
    path = f"/v1/products/{shop.product_ids[0]}"
    async with requesting(lambda: shop.get(path), 0.02) as before:
        await asyncio.sleep(5)
    resident = {process: _resident_bytes(process) for process in processes}
    most = dict(resident)
    async with contextlib.AsyncExitStack() as stack:
        began = time.monotonic()
        calls = await _read_one_message_each(stack, shop)
        print(f"  each has read one message after {time.monotonic() - began:.1f} s")
        async with requesting(lambda: shop.get(path), 0.02) as during:
            while shop.count_in_log("order", "DEADLINE_EXCEEDED") < len(calls):
                for process in processes:
                    most[process] = max(most[process], _resident_bytes(process))
                await asyncio.sleep(0.1)
        print(f"  all calls ended as DEADLINE_EXCEEDED after {time.monotonic() - began:.1f} s")
    print(f"  tracebacks in the log: {shop.count_in_log('order', 'Traceback')}")
    for process in processes:
        if most[process] - resident[process] > 2**20:
            before_mib, most_mib = resident[process] >> 20, most[process] >> 20
            now_mib = _resident_bytes(process) >> 20
            print(f"  {process_name(process)}: {before_mib} MiB, at most {most_mib}, now {now_mib}")
    print(f"  GET product before: {before}\n  GET product during: {during}")


async def _read_one_message_each(stack: contextlib.AsyncExitStack, shop: Shop) -> list[Any]:
    request = order_pb2.ListOrdersRequest(page_size=10_000)
    calls: list[Any] = []
    while len(calls) < CLIENTS:
        stubs = [await _open_stub(stack, shop) for _ in range(10)]
        begun = [stub.ListOrders(request, metadata=shop.metadata) for stub in stubs]
        await asyncio.gather(*(call.read() for call in begun))
        calls += begun
    return calls


async def _open_stub(stack: contextlib.AsyncExitStack, shop: Shop) -> Any:
    """Connect to the order service, with no room for what is not read."""
    options = [("grpc.use_local_subchannel_pool", 1), *STREAM_OPTIONS]
    address = f"127.0.0.1:{shop.environment['ORDERSERVICE_PORT']}"
    credentials = make_credentials(shop.environment)
    opened = grpc.aio.secure_channel(address, credentials, options=options)
    channel = await stack.enter_async_context(opened)
    return order_pb2_grpc.OrderServiceStub(channel)


async def _place_chunks(shop: Shop) -> None:
    def chunk(seq: int) -> order_pb2.CreateOrdersRequest:
        make_line = order_pb2.CreateOrderRequest.Line
        lines = [make_line(product_id=each, quantity=1) for each in shop.product_ids]
        orders = [
            order_pb2.CreateOrderRequest(
                idempotency_key=uuid.uuid4().hex,
                payment_method="pm_card_visa",
                lines=lines,
            )
            for _ in range(ORDERS)
        ]
        return order_pb2.CreateOrdersRequest(seq=seq, orders=orders)

    async with contextlib.AsyncExitStack() as stack:
        stub = await _open_stub(stack, shop)
        chunks = (chunk(seq) for seq in range(CHUNKS))
        async for response in stub.CreateOrders(chunks, metadata=shop.metadata):
            if any(result.HasField("error") for result in response.results):
                raise SystemExit(f"an order was refused: {response.results[0]}")


async def fill_log_disk(shop: Shop, logs: Path) -> None:
    """Fill the disk of the logs, place orders, and make room again."""
    print(f"\nThe disk of the logs, of {LOG_BYTES >> 10} KiB, is full")
    ballast = logs / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    async with requesting(shop.order, 0.1) as orders:
        await asyncio.sleep(10)
    print(f"  orders: {orders}")
    ballast.unlink()
    await shop.order()
    for name in (*SERVICES, "gateway"):
        for line in shop.find_in_log(name, "log_events_lost"):
            print(f"  {name}: {line}")


@contextlib.contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    """Mount a small tmpfs that only this process and its children see.

    Raises:
        PermissionError: the user is not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    target, data = os.fsencode(directory), f"size={LOG_BYTES}".encode()
    failed = (
        libc.unshare(_UNSHARE_MOUNTS)
        or libc.mount(b"none", b"/", None, _PRIVATE_RECURSIVE, None)
        or libc.mount(b"tmpfs", target, b"tmpfs", 0, data)
    )
    if failed:
        raise PermissionError(ctypes.get_errno(), "a disk can be mounted by root only")
    try:
        yield
    finally:
        libc.umount(target)


def _resident_bytes(process: int) -> int:
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (FileNotFoundError, ProcessLookupError):  # PostgreSQL's own come and go.
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def _show_freezes_and_readers(
    environment: dict[str, str], processes: list[int], url: str
) -> None:
    async with open_shop(environment, url) as shop:
        await freeze_database(shop, "productdb", new_ones=False)
        await freeze_database(shop, "productdb", new_ones=True)
        await stop_reading(shop, processes)


async def _show_full_disk(environment: dict[str, str], url: str, logs: Path) -> None:
    async with open_shop(environment, url) as shop:
        await fill_log_disk(shop, logs)


def main() -> None:
    """Show all faults."""
    with open_environment() as environment, ShopProcess(environment) as shop:
        shop.wait_until_ready()
        asyncio.run(_show_freezes_and_readers(environment, shop.find_processes(), shop.url))
    with open_environment() as environment:
        logs = Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "logs")
        logs.mkdir(parents=True)
        with _small_disk(logs), ShopProcess(environment) as shop:
            shop.wait_until_ready()
            asyncio.run(_show_full_disk(environment, shop.url, logs))


if __name__ == "__main__":
    main()
