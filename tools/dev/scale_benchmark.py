"""What replicas of order and product gain: `./bazelw run //tools/dev:scale_benchmark`.

Each round runs a new shop with 1, 2 and 4 replicas of each, on a disk, where commits are durable. A
load of GETs of a product saturates it through one gateway, and so do streams of orders, which go to
the order service. Clients, services and PostgreSQL share the cores of the machine.

The model is that of P. J. Denning and J. P. Buzen, "The Operational Analysis of Queueing Network
Models" (ACM Computing Surveys 10(3), 1978): a station with a demand of D seconds per request and m
servers serves at most m / D requests per second. Stations are the programs, each replica of which
is a server that uses one core at most, all cores together, and the write-ahead log of PostgreSQL,
which is flushed by one process at a time. PostgreSQL itself has as many servers as cores. Demands
are those measured with the same number of replicas. If no station was nearly 100 % busy, requests
waited for something else, such as locks of the same rows, which the model leaves out.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from gateway.testing.load import Load
from tools.dev import shop
from tools.dev.bulk_orders import CHUNK, make_chunks, place
from tools.dev.replicas import ReplicatedShop
from tools.dev.running_shop import Shop, open_shop
from tools.dev.testing import open_environment
from tools.dev.usage import find_family, read_cpu_seconds, read_usage

REPLICAS = (1, 2, 4)
SCALED = ("order", "product")
ROUNDS = 3
GET_SECONDS = 5.0
WARM_UP_SECONDS = 1.0
CONNECTIONS = 64
"""How many requests at once saturate the shop."""
ORDERS = 16 * CHUNK
STREAMS = 8
PRODUCTS = 200
MODEL_CORES = 16
MODEL_GATEWAYS = (1, 4)
"""How many workers of gateways the model has."""

PROGRAMS = ("gateway", *shop.SERVICES)
POSTGRES = "postgres"
LOAD = "load"
CORES = "all cores"
LOG = "log flushes"

_READ_COMMITS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_READ_FLUSHES = "SELECT sum(fsync_time) FROM pg_stat_io WHERE object = 'wal'"


@dataclass
class Work:
    """Requests that were served, and what they took."""

    requests: int = 0
    seconds: float = 0.0
    rates: list[float] = field(default_factory=list)
    """How many requests were served per second in each round."""
    cpu_seconds: dict[str, float] = field(default_factory=partial(defaultdict, float))
    """CPU time by program; that of the load is LOAD."""
    commits: int = 0
    """How many transactions wrote."""
    flush_seconds: float = 0.0
    """How long the write-ahead log was being flushed."""

    @property
    def rate(self) -> float:
        """How many requests were served per second in all rounds."""
        return self.requests / self.seconds

    def demands(self) -> Mapping[str, float]:
        """Return the seconds of a request at each station, without the load."""
        shop_seconds = {name: self.cpu_seconds[name] for name in (*PROGRAMS, POSTGRES)}
        seconds = {**shop_seconds, CORES: sum(shop_seconds.values()), LOG: self.flush_seconds}
        return {name: each / self.requests for name, each in seconds.items()}


Works = Mapping[int, Work]
"""By the number of replicas."""
Server = psycopg.Connection[tuple[Any, ...]]


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="scale_benchmark", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    gets: Works = defaultdict(Work)
    orders: Works = defaultdict(Work)
    for _ in range(rounds):
        for replicas in REPLICAS:
            asyncio.run(measure(replicas, gets[replicas], orders[replicas]))
            print(
                f"{replicas} replicas: {gets[replicas].rates[-1]:,.0f} GETs/s,"
                f" {orders[replicas].rates[-1]:,.0f} orders/s",
                flush=True,
            )
    for name, works in (("GET", gets), ("order", orders)):
        report(name, works)
        report_model(name, works)


async def measure(replicas: int, gets: Work, orders: Work) -> None:
    """Add what a new shop serves to both."""
    hosts = [f"127.0.0.{number}" for number in range(1, replicas + 1)]
    with open_environment(Path(tempfile.gettempdir())) as environment:
        replicated = find_hosts(hosts)
        environment.update(find_targets(environment, replicated))
        async with AsyncExitStack() as stack:
            running = ReplicatedShop(environment, print, replicated)
            await running.start(stack)
            filled = await stack.enter_async_context(open_shop(environment, running.url, PRODUCTS))
            with psycopg.connect(filled.database_url("postgres"), autocommit=True) as server:
                server.execute("ALTER SYSTEM SET track_wal_io_timing = on")
                server.execute("SELECT pg_reload_conf()")
                load = await open_load(running.url, filled)
                await add(gets, server, get(load))
                await add(orders, server, order(filled, hosts))


def find_hosts(hosts: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return where the replicas of each service listen."""
    return {service: hosts if service in SCALED else hosts[:1] for service in shop.SERVICES}


def find_targets(
    environment: Mapping[str, str], replicated: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return the settings by which callers find the replicas of each service."""
    found = {}
    for service, hosts in replicated.items():
        prefix = f"{service.upper()}SERVICE"
        port = environment[f"{prefix}_PORT"]
        found[f"{prefix}_TARGET"] = f"ipv4:{','.join(f'{host}:{port}' for host in hosts)}"
    return found


async def open_load(url: str, filled: Shop) -> Load:
    """Return a load of GETs of a product by somebody who is logged in, all connections used."""
    [(_, token)] = filled.metadata
    path = f"/v1/products/{filled.product_ids[0]}"
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: {token}\r\n\r\n"
    load = Load(url, request.encode())
    await load.open(CONNECTIONS)
    await load.saturate(WARM_UP_SECONDS)
    return load


async def get(load: Load) -> tuple[int, float]:
    """Return how many GETs succeed, and in how many seconds."""
    outcome = await load.saturate(GET_SECONDS)
    load.close()
    if outcome.statuses.keys() != {200}:
        raise SystemExit(f"a GET failed: {outcome.statuses}")
    return outcome.statuses[200], outcome.seconds


async def order(filled: Shop, hosts: Sequence[str]) -> tuple[int, float]:
    """Place orders; return how many, and in how many seconds."""
    chunks = make_chunks(filled, ORDERS)
    port = filled.environment["ORDERSERVICE_PORT"]
    began = time.monotonic()
    await place(filled, chunks, [f"{host}:{port}" for host in hosts], STREAMS)
    return ORDERS, time.monotonic() - began


async def add(work: Work, server: Server, serving: Awaitable[tuple[int, float]]) -> None:
    """Await requests, and add them with what they took."""
    commits, flush_seconds = read_log(server)
    before = read_cpu_seconds(find_family(os.getpid()))
    requests, seconds = await serving
    for name, usage in read_usage(find_family(os.getpid()), before).items():
        work.cpu_seconds[find_program(name)] += usage.cpu_seconds
    commits_after, flush_seconds_after = read_log(server)
    work.requests += requests
    work.seconds += seconds
    work.rates.append(requests / seconds)
    work.commits += commits_after - commits
    work.flush_seconds += flush_seconds_after - flush_seconds


def read_log(server: Server) -> tuple[int, float]:
    """Return how many transactions have written, and for how long the log was being flushed.

    The second figure may be up to a second late (PGSTAT_MIN_INTERVAL of PostgreSQL).
    """
    [(commits,)] = server.execute(_READ_COMMITS)
    [(milliseconds,)] = server.execute(_READ_FLUSHES)
    return commits, milliseconds / 1_000


def find_program(name: str) -> str:
    """Return the program of a process by its name as in `read_usage`."""
    program = name.partition(" ")[0].partition("/")[0]
    return program if program in (*PROGRAMS, POSTGRES) else LOAD


def report(name: str, works: Works) -> None:
    """Print what was served, the CPU time of each program, and what was the bottleneck."""
    columns = (*PROGRAMS, POSTGRES, LOAD, "flushes")
    print(f"\n{name}s: rate, and microseconds per {name}")
    print(f"{'replicas':8}{'per s':>8}{'least-most':>14}", *(f"{each:>8}" for each in columns))
    for replicas, work in works.items():
        seconds = [*(work.cpu_seconds[each] for each in columns[:-1]), work.flush_seconds]
        span = f"{min(work.rates):.0f}-{max(work.rates):.0f}"
        each_us = (f"{1e6 * each / work.requests:8.0f}" for each in seconds)
        print(f"{replicas:8}{work.rate:8.0f}{span:>14}", *each_us)
    for replicas, work in works.items():
        print(f"{replicas} replicas: {describe_use(work, replicas)}")


def describe_use(work: Work, replicas: int) -> str:
    """Return how busy each station was, the busiest first."""
    cores = os.cpu_count() or 1
    servers = find_servers(replicas, 1, cores)
    busy = {each: work.rate * seconds / servers[each] for each, seconds in work.demands().items()}
    busy[CORES] += work.rate * work.cpu_seconds[LOAD] / work.requests / cores
    stations = sorted(busy.items(), key=lambda item: -item[1])
    commits = f"{work.commits / work.requests:.3f} commits each"
    return ", ".join([*(f"{each} {100 * share:.0f} %" for each, share in stations[:4]), commits])


def report_model(name: str, works: Works) -> None:
    """Print what larger machines could serve at most, and which station would be the bottleneck."""
    print(f"model: {name}s per second at most on {MODEL_CORES} cores, with clients elsewhere")
    for replicas, work in works.items():
        bounds = []
        for gateways in MODEL_GATEWAYS:
            rate, station = find_bound(work, find_servers(replicas, gateways, MODEL_CORES))
            bounds.append(f"{gateways} gateway workers {rate:7,.0f} ({station})")
        print(f"{replicas:8} replicas, {', '.join(bounds)}")


def find_servers(replicas: int, gateways: int, cores: int) -> Mapping[str, int]:
    """Return how many requests each station serves at a time."""
    return {
        **dict.fromkeys(shop.SERVICES, 1),
        **dict.fromkeys(SCALED, replicas),
        "gateway": gateways,
        POSTGRES: cores,
        CORES: cores,
        LOG: 1,
    }


def find_bound(work: Work, servers: Mapping[str, int]) -> tuple[float, str]:
    """Return how many requests per second can be served at most, and by which station that is."""
    demands = work.demands().items()
    return min((servers[station] / seconds, station) for station, seconds in demands if seconds)


if __name__ == "__main__":
    main()
