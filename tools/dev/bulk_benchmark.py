"""Measures the stream of orders: `./bazelw run //tools/dev:bulk_benchmark -- --orders 50000`.

The shop runs on ports of its own and on a disk, where its commits are durable. What each process
costs is its CPU time during the stream, and the most memory that it ever had.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from tools.dev.running_shop import Shop, open_shop, process_name
from tools.dev.testing import ShopProcess, make_credentials, open_environment

ORDERS = 50_000
STREAMS = 4
CHUNK = 1_000
LINES = 3
PRODUCTS = 1_000

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
# In /proc/PID/stat, after the name, which may contain anything.
_USER_TICKS, _SYSTEM_TICKS = 11, 12


@dataclass(slots=True)
class Usage:
    """What processes of one name used."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def main() -> None:
    """Place the orders, and print how fast that was and what it cost."""
    given = _parse_arguments()
    directory = Path(tempfile.gettempdir())
    with open_environment(directory) as environment, ShopProcess(environment) as program:
        program.wait_until_ready()
        shop = asyncio.run(_fill(environment, program.url))
        chunks = [_new_chunk(shop, seq) for seq in range(given.orders // CHUNK)]
        processes = [*program.find_processes(), os.getpid()]
        before = _read_cpu_seconds(processes)
        began = time.monotonic()
        asyncio.run(_place(shop, chunks, given.streams))
        seconds = time.monotonic() - began
        # New connections to the database are processes too.
        processes = [*program.find_processes(), os.getpid()]
        used = _read_usage(processes, before)
    _print(len(chunks) * CHUNK, seconds, used)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bulk_benchmark", description=__doc__)
    parser.add_argument("--orders", type=int, default=ORDERS, help="default: %(default)s")
    parser.add_argument(
        "--streams", type=int, default=STREAMS, help="how many at a time (default: %(default)s)"
    )
    return parser.parse_args()


async def _fill(environment: dict[str, str], url: str) -> Shop:
    async with open_shop(environment, url, PRODUCTS) as shop:
        return shop


def _new_chunk(shop: Shop, seq: int) -> order_pb2.CreateOrdersRequest:
    choose = random.Random(seq)  # noqa: S311 - the same orders in every run.
    return order_pb2.CreateOrdersRequest(
        seq=seq,
        orders=[
            order_pb2.CreateOrderRequest(
                idempotency_key=f"{seq} {number}",
                payment_method="pm_card_visa",
                lines=[
                    order_pb2.CreateOrderRequest.Line(product_id=product_id, quantity=1)
                    for product_id in choose.sample(shop.product_ids, LINES)
                ],
            )
            for number in range(CHUNK)
        ],
    )


async def _place(shop: Shop, chunks: Sequence[order_pb2.CreateOrdersRequest], streams: int) -> None:
    """Place all orders, through as many streams at a time, and print the progress."""
    address = f"127.0.0.1:{shop.environment['ORDERSERVICE_PORT']}"
    placed = 0

    async def follow(responses: AsyncIterable[order_pb2.CreateOrdersResponse]) -> None:
        nonlocal placed
        async for response in responses:
            _check(response)
            placed += len(response.results)
            print(f"\r{placed:,} orders", end="", file=sys.stderr, flush=True)

    credentials = make_credentials(shop.environment)
    async with (
        grpc.aio.secure_channel(address, credentials) as channel,
        asyncio.TaskGroup() as group,
    ):
        stub = order_pb2_grpc.OrderServiceStub(channel)
        for number in range(streams):
            own = _renumber(chunks[number::streams])
            group.create_task(follow(stub.CreateOrders(own, metadata=shop.metadata)))
    print(file=sys.stderr)


def _renumber(
    chunks: Iterable[order_pb2.CreateOrdersRequest],
) -> Iterator[order_pb2.CreateOrdersRequest]:
    for seq, chunk in enumerate(chunks):
        chunk.seq = seq
        yield chunk


def _check(response: order_pb2.CreateOrdersResponse) -> None:
    for result in response.results:
        if result.order.state != order_pb2.ORDER_STATE_CONFIRMED:
            raise SystemExit(f"an order was not confirmed: {result}")


def _read_cpu_seconds(processes: Iterable[int]) -> Counter[int]:
    return Counter({process: _cpu_seconds(process) for process in processes})


def _read_usage(processes: Iterable[int], before: Counter[int]) -> dict[str, Usage]:
    found: dict[str, Usage] = {}
    for process in processes:
        usage = found.setdefault(process_name(process), Usage())
        usage.cpu_seconds += _cpu_seconds(process) - before[process]
        usage.peak_bytes = max(usage.peak_bytes, _peak_bytes(process))
    return found


def _cpu_seconds(process: int) -> float:
    stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) * _TICK_SECONDS


def _peak_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def _print(orders: int, seconds: float, used: dict[str, Usage]) -> None:
    print(f"{'process':32}{'CPU s':>8}{'us an order':>13}{'peak MiB':>10}")
    for name, usage in sorted(used.items(), key=lambda item: -item[1].cpu_seconds):
        each_us = usage.cpu_seconds / orders * 1e6
        print(f"{name:32}{usage.cpu_seconds:8.1f}{each_us:13.0f}{usage.peak_bytes / 2**20:10.0f}")
    print(f"{orders:,} orders in {seconds:.1f} s: {orders / seconds:,.0f} a second")


if __name__ == "__main__":
    main()
