"""Gateways for tests: in the test's own process, and as a real program.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from pydantic import SecretStr

from gateway.app import GatewayApp, create_app
from gateway.dependencies import Plan, connect
from gateway.http.asgi import Application
from gateway.openapi.document import Part, make_document
from gateway.routing.routes import compile_routes
from gateway.server.connection import Connection
from gateway.server.limits import ConnectionLimits
from gateway.settings import GatewaySettings
from gateway.upstream.descriptors import DescriptorSet

READY_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.01
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"

DEFAULT_LIMITS = ConnectionLimits(last_request_seconds=0.0)
"""Those of a server that does not wait for last requests when it stops."""


def descriptor_set(*files: FileDescriptor) -> descriptor_pb2.FileDescriptorSet:
    """Return files and all that they import, as a build would write them."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def visit(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            visit(dependency)
        if file.name not in found:
            found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(found[file.name])

    for file in files:
        visit(file)
    return descriptor_pb2.FileDescriptorSet(file=found.values())


class _Server(uvicorn.Server):
    """A server that looks more often whether it is to stop: many tests have one of their own."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # noqa: ASYNC110 - what it looks at is a flag.
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def serve_app(
    app: Application, limits: ConnectionLimits = DEFAULT_LIMITS
) -> AsyncIterator[str]:
    """Serve an application with uvicorn in this process, and yield its URL."""
    config = uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]
            Connection, limits=limits, admission=getattr(app, "admission", None)
        ),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    # With its protocol named, asyncio turns Nagle's algorithm off: no body waits for an ACK.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _wait_until(lambda: server.started or task.done())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def make_app(
    files: descriptor_pb2.FileDescriptorSet,
    port: int,
    *,
    database_url: str = NO_DATABASE,
    drain_seconds: float = 1.0,
    **settings: Any,
) -> GatewayApp:
    """Make the application as `main` does, with settings by name and all services at one port."""
    descriptors = DescriptorSet(files)
    targets = {rpc.service: f"127.0.0.1:{port}" for rpc in descriptors.methods()}
    given = {"database_url": SecretStr(database_url), **settings}
    routes = compile_routes(descriptors)
    document = _make_document(files.SerializeToString(deterministic=True))
    plan = Plan(descriptors, routes, GatewaySettings.model_construct(**given), targets, document)
    return create_app(plan, connect(plan, drain_seconds))


@cache
def _make_document(files: bytes) -> Part:
    """Make the OpenAPI document of a descriptor set, which takes longer than all else of an app."""
    descriptors = DescriptorSet.parse(files)
    return make_document(descriptors, compile_routes(descriptors))


@dataclass(frozen=True)
class Program:
    """A gateway that runs as a program of its own."""

    process: asyncio.subprocess.Process
    port: int
    log: Path
    scheme: str = "http"

    @property
    def url(self) -> str:
        """The URL that it listens at."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def stop(self, asking: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, and return its exit status."""
        self.process.send_signal(asking)
        return await asyncio.wait_for(self.process.wait(), timeout=30)

    def worker_pid(self) -> int:
        """Return the process id of the worker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def worker_lives(self, pid: int) -> bool:
        """Return whether the process of a worker still exists."""
        return Path(f"/proc/{pid}").exists()

    def worker_rss_bytes(self) -> int:
        """Return the resident memory of the worker."""
        for line in Path(f"/proc/{self.worker_pid()}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.worker_pid())


def program_environment(
    files: descriptor_pb2.FileDescriptorSet, directory: Path, ports: Mapping[str, int]
) -> dict[str, str]:
    """Return the environment of a gateway program that serves `files`.

    `ports` are those of the services, by the prefix of their variables.
    """
    path = directory / "descriptors.binpb"
    path.write_bytes(files.SerializeToString())
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "APIGATEWAY_HOST": "127.0.0.1",
        "APIGATEWAY_PORT": str(_free_port()),
        "APIGATEWAY_DESCRIPTOR_SET": str(path),
        "BAZAAR_PLAINTEXT": "true",
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": "1",
        "DATABASE_URL": NO_DATABASE,
    }
    for prefix, port in ports.items():
        environment[f"{prefix}_HOST"] = "127.0.0.1"
        environment[f"{prefix}_PORT"] = str(port)
    return environment


@asynccontextmanager
async def run_program(
    environment: Mapping[str, str], command: Sequence[str] = ("gateway.main",)
) -> AsyncIterator[Program]:
    """Run a gateway program and yield it when it responds; kill it at the end if it still runs."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *command,
                env=dict(environment),
                cwd=directory,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        scheme = "https" if "APIGATEWAY_CERTIFICATE" in environment else "http"
        program = Program(process, int(environment["APIGATEWAY_PORT"]), log, scheme)
        try:
            await _wait_until_live(program)
            yield program
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


async def _wait_until_live(program: Program) -> None:
    unverified = httpx.AsyncClient(verify=False)  # noqa: S501 - nothing is said to it.
    async with unverified as client, asyncio.timeout(READY_TIMEOUT_SECONDS):
        while True:
            if program.process.returncode is not None:
                raise ChildProcessError(program.log.read_text())
            try:
                await client.get(f"{program.url}/healthz")
            except httpx.TransportError:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return


async def _wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(READY_TIMEOUT_SECONDS):
        while not holds():  # noqa: ASYNC110 - uvicorn tells of its start by a flag only.
            await asyncio.sleep(0.001)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
