"""The cost of endless input, for a gateway and for its other clients.

Of each kind at least 100 MB are sent to a gateway program, while another client sends one GET
after the other. Memory is that of the worker at its highest, less what it was before.
"""

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from probe.v1 import probe_pb2

from gateway.server.endless_inputs import ENDLESS_INPUTS, EndlessInput, Taken, send
from gateway.testing.harness import Program, descriptor_set, program_environment, run_program
from gateway.testing.servicer import serve_probes
from gateway.testing.wire import Wire, connect

SENT_BYTES = 100_000_000
MAX_SECONDS = 10.0
"""For each kind, because some are read slowly by intention."""
MIN_SECONDS = 3.0
"""The least duration; quick kinds are sent again."""
WARM_REQUESTS = 500
PAUSE_SECONDS = 0.002


async def main() -> None:
    """Print a line for each kind."""
    print(
        f"{'kind':24}{'MB taken':>10}{'connections':>13}{'s each':>9}{'MiB grown':>11}{'p99 ms':>8}"
    )
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        # A process of its own, because a thread would slow the measurement down.
        context = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(1, context))
        _, port = await stack.enter_async_context(serve_probes())
        files = descriptor_set(probe_pb2.DESCRIPTOR)
        environment = program_environment(files, Path(directory), {"PROBESERVICE": port})
        program = await stack.enter_async_context(run_program(environment))
        wire = await stack.enter_async_context(connect(program.url))
        for _ in range(WARM_REQUESTS):
            await _get(wire)
        for kind in ENDLESS_INPUTS:
            _print(kind, *await _measure(kind, program, wire, pool))


async def _measure(
    kind: EndlessInput, program: Program, wire: Wire, pool: Executor
) -> tuple[Taken, int, list[float]]:
    before = highest = program.worker_rss_bytes()
    latencies = []
    loop = asyncio.get_running_loop()
    times = (MAX_SECONDS, MIN_SECONDS)
    sending = loop.run_in_executor(pool, send, kind, program.port, SENT_BYTES, *times)
    while not sending.done():
        latencies.append(await _get(wire))
        highest = max(highest, program.worker_rss_bytes())
        await asyncio.sleep(PAUSE_SECONDS)
    return await sending, highest - before, latencies


async def _get(wire: Wire) -> float:
    """Return how long a GET takes, in seconds."""
    start = time.perf_counter()
    await wire.send_head("GET", "/v1/probes/7", {})
    await wire.read_response()
    return time.perf_counter() - start


def _print(kind: EndlessInput, taken: Taken, growth: int, latencies: list[float]) -> None:
    p99 = statistics.quantiles(latencies, n=100)[98] if len(latencies) > 1 else latencies[0]
    print(
        f"{kind.name:24}{taken.size / 1e6:10.1f}{taken.connections:13}{taken.seconds_each:9.3f}"
        f"{growth / 2**20:11.2f}{p99 * 1e3:8.1f}",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main())
