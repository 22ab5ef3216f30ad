"""Measures the stream of orders: `./bazelw run //tools/dev:bulk_benchmark -- --orders 50000`.

The shop runs on ports of its own and on a disk, where its commits are durable. What each process
costs is its CPU time during the stream, and the most memory that it ever had.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from tools.dev.bulk_orders import make_chunks, place
from tools.dev.running_shop import Shop, open_shop
from tools.dev.testing import ShopProcess, open_environment
from tools.dev.usage import Usage, read_cpu_seconds, read_usage

ORDERS = 50_000
STREAMS = 4
PRODUCTS = 1_000


def main() -> None:
    """Place the orders, and print how fast that was and what it cost."""
    given = _parse_arguments()
    directory = Path(tempfile.gettempdir())
    with open_environment(directory) as environment, ShopProcess(environment) as program:
        program.wait_until_ready()
        shop = asyncio.run(_fill(environment, program.url))
        chunks = make_chunks(shop, given.orders)
        address = f"127.0.0.1:{environment['ORDERSERVICE_PORT']}"
        processes = [*program.find_processes(), os.getpid()]
        before = read_cpu_seconds(processes)
        began = time.monotonic()
        asyncio.run(place(shop, chunks, [address], given.streams, _report))
        seconds = time.monotonic() - began
        # New connections to the database are processes too.
        processes = [*program.find_processes(), os.getpid()]
        used = read_usage(processes, before)
    print(file=sys.stderr)
    _print(sum(len(chunk.orders) for chunk in chunks), seconds, used)


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


def _report(placed: int) -> None:
    print(f"\r{placed:,} orders", end="", file=sys.stderr, flush=True)


def _print(orders: int, seconds: float, used: dict[str, Usage]) -> None:
    print(f"{'process':32}{'CPU s':>8}{'us an order':>13}{'peak MiB':>10}")
    for name, usage in sorted(used.items(), key=lambda item: -item[1].cpu_seconds):
        each_us = usage.cpu_seconds / orders * 1e6
        print(f"{name:32}{usage.cpu_seconds:8.1f}{each_us:13.0f}{usage.peak_bytes / 2**20:10.0f}")
    print(f"{orders:,} orders in {seconds:.1f} s: {orders / seconds:,.0f} a second")


if __name__ == "__main__":
    main()
