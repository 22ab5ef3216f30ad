"""What a gateway achieves at five times the load that saturates it: `//gateway:overload_benchmark`.

The gateway and the service behind it have the first CPU, the load has the second one, so that it
takes no time from them. CPU time is that of the gateway alone, and depends less than the other
figures on what else the machine does.
"""

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import uvloop
from probe.v1 import probe_pb2

from gateway.testing.harness import descriptor_set, program_environment, run_program
from gateway.testing.load import Load, Outcome
from gateway.testing.servicer import serve_probes

TIMES = 5
ROUNDS = 6
SECONDS = 3.0
CONCURRENCY = 64
"""How many requests at once saturate the gateway."""
CONNECTIONS = 1_500
"""A request that finds all of them in use is not sent."""
HEALTH_INTERVAL_SECONDS = 0.1
SETTINGS = {
    "APIGATEWAY_ACCOUNT_RATE_LIMIT": "",
    "APIGATEWAY_MAX_CLIENT_CONNECTIONS": "2000",
    "APIGATEWAY_RATE_LIMIT": "",
    "LOG_LEVEL": "warning",
}
REQUEST = b"GET /v1/probes/7?text=some%20text HTTP/1.1\r\nHost: gateway\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"


async def main() -> None:
    """Measure, and print the figures."""
    gc.freeze()  # Collections would stop the load, and be taken for time of the gateway.
    async with run_backend() as port:
        with tempfile.TemporaryDirectory() as directory:
            files = descriptor_set(probe_pb2.DESCRIPTOR)
            environment = program_environment(files, Path(directory), {"PROBESERVICE": port})
            async with run_program(environment | SETTINGS) as program:
                _pin(program.worker_pid(), 0)
                await measure(program.url, program.worker_pid())


async def measure(url: str, pid: int) -> None:
    """Saturate the gateway, then offer five times as much, in turns."""
    usual, many = Load(url, REQUEST), Load(url, REQUEST)
    await usual.open(CONCURRENCY)
    await many.open(CONNECTIONS)
    await usual.saturate(1)
    health = asyncio.create_task(check_health(url))
    peak, overload = Outcome(0), Outcome(0)
    cost = spent = load = 0.0
    for _ in range(ROUNDS):
        begin = cpu_seconds(pid)
        found = await usual.saturate(SECONDS)
        middle, load_begin = cpu_seconds(pid), time.process_time()
        overload += await many.offer(TIMES * found.rate(200), SECONDS)
        cost += middle - begin
        spent += cpu_seconds(pid) - middle
        load += time.process_time() - load_begin
        peak += found
    cost /= peak.statuses[200]
    refusal = (spent - cost * overload.statuses[200]) / max(1, overload.statuses[503])
    report(peak, overload, await health)
    print(f"CPU                  {us(cost)} for a response, {us(refusal)} for a refusal")
    print(f"the load itself      {100 * load / overload.seconds:.0f} % of its own CPU")
    usual.close()
    many.close()


def report(peak: Outcome, outcome: Outcome, health: Outcome) -> None:
    """Print what was achieved."""
    most, good = peak.rate(200), outcome.rate(200)
    offered = outcome.sent / outcome.seconds
    print(f"peak                 {most:6.0f} requests/s")
    print(f"offered              {offered:6.0f} requests/s, {offered / most:.2f} times as many")
    print(f"served               {good:6.0f} requests/s, {100 * good / most:.0f} % of the peak")
    print(f"  median, 99 %       {ms(outcome, 200, 0.5)}, {ms(outcome, 200, 0.99)}")
    print(f"refused              {outcome.rate(503):6.0f} requests/s")
    print(f"  median, 99 %       {ms(outcome, 503, 0.5)}, {ms(outcome, 503, 0.99)}")
    print(f"/healthz median, max {ms(health, 200, 0.5)}, {ms(health, 200, 1.0)}")
    print(f"statuses             {dict(outcome.statuses)}, not sent {outcome.unsent}")


async def check_health(url: str) -> Outcome:
    """Ask for health all the time."""
    load = Load(url, HEALTH)
    await load.open(2)
    outcome = await load.offer(1 / HEALTH_INTERVAL_SECONDS, ROUNDS * (2 * SECONDS + 1))
    load.close()
    return outcome


def cpu_seconds(pid: int) -> float:
    """Return how much CPU time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def us(seconds: float) -> str:
    """Format a time in microseconds."""
    return f"{1e6 * seconds:.0f} us"


def ms(outcome: Outcome, status: int, share: float) -> str:
    """Format a quantile in milliseconds."""
    return f"{1_000 * outcome.quantile(status, share):.1f} ms"


@asynccontextmanager
async def run_backend() -> AsyncIterator[int]:
    """Run the probe service in a process of its own, and yield its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "backend",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.PIPE,
    )
    reader = cast("asyncio.StreamReader", process.stdout)
    try:
        yield int(await reader.readline())
    finally:
        process.kill()
        await process.wait()


async def serve_backend() -> None:
    """Serve until the process is killed."""
    async with serve_probes() as (servicer, port):
        print(port, flush=True)
        while True:
            await asyncio.sleep(1)
            servicer.calls.clear()


def _pin(pid: int, cpu: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})


if __name__ == "__main__":
    if sys.argv[1:] == ["backend"]:
        _pin(os.getpid(), 0)
        uvloop.run(serve_backend())
    else:
        _pin(os.getpid(), 1)
        uvloop.run(main())
