"""Replays trade through a stack on a swarm, while its replicas are killed and it is updated.

`./bazelw run //deploy/stack:swarm_run -- FILE`; README.md says what it needs.
"""

import argparse
import asyncio
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from deploy.stack.one_retry import OneRetry
from deploy.stack.secrets_main import make
from deploy.stack.stack_file import read_files
from deploy.stack.swarm import DIRECTORY, SERVICES, Swarm, SwarmError, docker
from tools.client.session import LoginError, Session
from tools.replay import trade
from tools.replay.reconciliation import Totals, read_books, reconcile
from tools.replay.replay import CONCURRENCY, Replay
from tools.replay.shop import Shop, ShopError

RECONCILE = Path("tools/reconcile/reconcile")
PORT = 8443
KILL_SECONDS = 60.0
"""How often a replica of each service is killed."""
TAGS = ("swarm-run-1", "swarm-run-2")
IMAGES = [f"bazaar/{name}" for name in (*SERVICES, "migrations")]


class Silent:
    """A progress that nobody sees."""

    def start(self, step: str, total: int) -> None:
        """Begin a step."""

    def advance(self, items: int = 1) -> None:
        """Count items."""


@dataclass(slots=True)
class Record:
    """What happened."""

    client: OneRetry = field(default_factory=OneRetry)
    rounds: int = 0
    orders: int = 0
    repeated_replays: Counter[str] = field(default_factory=Counter)
    """How often a replay was begun again, by the failures that ended it."""
    differences: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    updates: Mapping[str, str] = field(default_factory=dict)
    update_seconds: float = 0.0
    begin: float = field(default_factory=time.monotonic)

    def print(self) -> None:
        """Print what has happened until now."""
        seconds = time.monotonic() - self.begin
        print(f"{seconds:.0f} s: {self.orders:,} orders in {self.rounds} replays", flush=True)
        print(f"  {self.client.requests:,} requests, of which failed")
        print(f"    without a retry {_sum(self.client.first_failures)}")
        print(f"    with one retry  {_sum(self.client.failures)}")
        print(f"  replays begun again {_sum(self.repeated_replays)}")
        print(f"  kills {_sum(self.kills)}")
        print(f"  update {dict(self.updates)} in {self.update_seconds:.0f} s")
        print(f"  differences {self.differences}", flush=True)


def _sum(counts: Counter[str]) -> str:
    return f"{counts.total()}{f' {dict(counts)}' if counts else ''}"


async def run(file: Path, seconds: float, first: str, root: Path) -> Record:
    """Deploy, replay the file for a time, and reconcile; remove the stack in any case.

    The stack begins with the images that have the tag `first`.
    """
    make(root)
    _tag_images(first)
    variables = {
        "SECRETS_DIRECTORY": str(root),
        "CONFIG_VERSION": f"run-{os.getpid()}",
        "HTTPS_PORT": str(PORT),
        "HTTP_PORT": "8480",
    }
    swarm, record = Swarm("bazaar-run", variables), Record()
    try:
        swarm.deploy(TAGS[0])
        await _load(swarm, record, trade.read(file), seconds, root)
        _reconcile(swarm, root)
    finally:
        swarm.remove()
        docker("rmi", "--force", *(f"{image}:{tag}" for image in IMAGES for tag in TAGS))
    return record


def _tag_images(first: str) -> None:
    """Tag the images to begin with, and those to update to: the latest, with another label."""
    label = f"org.opencontainers.image.revision={TAGS[1]}"
    for image in IMAGES:
        docker("tag", f"{image}:{first}", f"{image}:{TAGS[0]}")
        file = f"FROM {image}:latest\nLABEL {label}\n"
        docker("build", "--quiet", "--tag", f"{image}:{TAGS[1]}", "-", stdin=file)


async def _load(
    swarm: Swarm, record: Record, read: trade.Trade, seconds: float, root: Path
) -> None:
    record.begin = begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        kills = group.create_task(_kill(swarm, record))
        update = group.create_task(_update(swarm, record, seconds / 3))
        tls = ssl.create_default_context(cafile=str(root / "tls" / "nginx" / "ca.crt"))
        while time.monotonic() - begin < seconds or not update.done():
            record.rounds += 1
            one = replace(read, digest=f"{read.digest}{record.rounds:03}")
            await _replay(one, record, root, tls)
        kills.cancel()
    record.print()


async def _replay(one: trade.Trade, record: Record, root: Path, tls: ssl.SSLContext) -> None:
    """Replay the trade once, by a stream in every other round; begin again after a failure."""
    password = (root / "USERSERVICE_ADMIN_PASSWORD").read_text()
    session = Session("admin@bazaar.example", password)
    url = f"https://localhost:{PORT}"
    async with Shop(
        url, session, connections=CONCURRENCY, tls=tls, middlewares=[record.client]
    ) as shop:
        while True:
            replay = Replay(one, shop, Silent(), is_streamed=record.rounds % 2 == 0)
            try:
                await replay.run()
                books = await read_books(shop, replay, one)
                break
            except* (ShopError, LoginError, aiohttp.ClientError, ValueError) as group:
                record.repeated_replays[repr(group.exceptions[0])[:200]] += 1
            await asyncio.sleep(1)
        result = reconcile(one, replay, books)
        record.orders += len(books.orders)
        record.differences += result.differences
        if result.unexplained != Totals(0, 0):
            record.differences.append(f"unexplained: {result.unexplained}")


async def _kill(swarm: Swarm, record: Record) -> None:
    """Kill a replica of each service every minute, one service after the other."""
    while True:
        for service in SERVICES:
            await asyncio.sleep(KILL_SECONDS / len(SERVICES))
            killed = await asyncio.to_thread(swarm.kill_oldest, service)
            record.kills[service if killed else f"{service}: not killed, the only one"] += 1
            record.print()


async def _update(swarm: Swarm, record: Record, after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    begin = time.monotonic()
    record.updates = await asyncio.to_thread(swarm.update, TAGS[1])
    record.update_seconds = time.monotonic() - begin


def _reconcile(swarm: Swarm, root: Path) -> None:
    """Compare the databases with each other.

    Raises:
        SwarmError: they differ.
    """
    services = read_files([DIRECTORY / "stack.yaml"], {}).services
    environment = {
        **services["payment"]["environment"],
        "BAZAAR_SECRETS_DIRECTORY": str(root),
        "PAYMENTSERVICE_TLS_DIRECTORY": str(root / "tls" / "payment"),
        "POSTGRES_HOST": swarm.find_host("postgres"),
        "PATH": os.environ["PATH"],
    }
    if subprocess.run([RECONCILE], env=environment, check=False).returncode:
        raise SwarmError("the databases do not reconcile")


def main() -> None:
    """Run it and print what happened; exit status 1 for a failure or a difference."""
    parser = argparse.ArgumentParser(prog="swarm_run", description=__doc__)
    parser.add_argument("file", type=Path, help="CSV in the format of the UCI Online Retail set")
    parser.add_argument("--seconds", type=float, default=300.0, help="default: %(default)g")
    parser.add_argument(
        "--first",
        default="latest",
        metavar="TAG",
        help="of the images to begin with, such as those of the last release, before all are"
        " updated to the latest; default: %(default)s",
    )
    arguments = parser.parse_args()
    file = Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")) / arguments.file
    with tempfile.TemporaryDirectory() as root:
        record = asyncio.run(run(file, arguments.seconds, arguments.first, Path(root)))
    sys.exit(bool(record.differences or record.client.failures))


if __name__ == "__main__":
    main()
