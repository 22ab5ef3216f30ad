"""The shop with two replicas of each program, behind one fault proxy per service.

What goes wrong, and when, does not belong here.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

from chassis.settings import app_role
from chassis.tls import Certificates
from migrations import schema
from tools.certs.directories import renew
from tools.chaos.accounts import ADMIN_EMAIL, PASSWORD
from tools.chaos.orders import MANUAL_CAPTURE
from tools.chaos.proxy import FaultProxy
from tools.chaos.spells import Spells
from tools.dev import shop
from tools.dev.program import Patience, Program, ProgramError, Report, RunningProgram
from tools.dev.shop import ShopSettings
from tools.dev.testing import HOST_VARIABLES, find_ports
from tools.dev.threads import run_in_thread

REPLICAS = 2
_POLL_SECONDS = 0.05
_TLS = "tls"

# What was killed restarts soon, and as soon after its hundredth death as after its first.
_PATIENCE = Patience(first_delay_seconds=0.1, last_delay_seconds=0.1)
_DATABASES = {name: f"{name}db" for name in schema.DATABASES}
_USER = "chaos"
_PASSWORD = "chaos"  # noqa: S105 - of a server that lives as long as the run.
_OPTIONS = {
    "BAZAAR_ENVIRONMENT": "development",
    "USERSERVICE_ADMIN_EMAIL": ADMIN_EMAIL,
    "USERSERVICE_ADMIN_PASSWORD": PASSWORD,
    "ORDERSERVICE_MANUAL_CAPTURE": MANUAL_CAPTURE,
    # The logs of an hour of faults have to fit on a disk.
    "LOG_LEVEL": "warning",
    # All replicas share a server that has 100 connections.
    "SERVICE_DATABASE_CONNECTIONS": "8",
    "APIGATEWAY_DATABASE_CONNECTIONS": "5",
}


class ReplicatedShop:
    """The programs of a shop whose data and logs are in one directory.

    Every caller of a service, be it a service, a gateway or a client, calls it through its proxy.
    """

    def __init__(self, directory: Path, report: Report, random: Random) -> None:
        self.programs: dict[str, RunningProgram] = {}
        """By name, such as `order-1`."""
        self._directory = directory
        self.certificates = {
            name: Certificates(self._tls_directory(name), name)
            for name in renew(directory / _TLS, everything=True)
        }
        """The certificates of all programs, by their names."""
        self.proxies = {
            name: FaultProxy(Spells(random), random, name, self.certificates)
            for name in shop.SERVICES
        }
        self.gateway_urls: list[str] = []
        self._report = report
        names = (*shop.SERVICES, "gateway")
        ports = find_ports(1 + len(names) * REPLICAS)
        self._postgres_port = ports.pop()
        self._ports = {name: [ports.pop() for _ in range(REPLICAS)] for name in names}

    @property
    def database_urls(self) -> Mapping[str, str]:
        """The administrator's URLs of the databases, by the names of `schema.DATABASES`."""
        return {name: self._url(_USER, database) for name, database in _DATABASES.items()}

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{_PASSWORD}@127.0.0.1:{self._postgres_port}/{database}"

    async def start(self, stack: AsyncExitStack) -> None:
        """Bring the shop up, without faults; taking it down is left on the stack.

        Raises:
            ProgramError: a program did not start.
            SchemaError: a database could not be created.
        """
        (self._directory / "logs").mkdir()
        for service, proxy in self.proxies.items():
            await proxy.start(self._ports[service])
            stack.push_async_callback(proxy.stop)
        settings = self._load_settings(self._environment())
        await self._start(stack, [shop.describe_postgres(settings, self._directory)])
        app_urls = settings.app_urls()
        for name, url in self.database_urls.items():
            await run_in_thread(schema.upgrade, name, url, app_url=app_urls[name])
        await self._start(
            stack, [each for name in shop.SERVICES for each in self._describe_service(name)]
        )
        gateways = list(self._describe_gateways())
        await self._start(stack, gateways)
        self.gateway_urls = [f"http://{gateway.address}" for gateway in gateways]

    async def wait_until_ready(self, timeout_seconds: float) -> None:
        """Wait until every program has a process that is ready.

        Raises:
            ProgramError: some program has none in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.list_unready():  # noqa: ASYNC110 - other processes are at work.
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            names = " and ".join(self.list_unready())
            raise ProgramError(f"{names} not ready {timeout_seconds:g} s after a fault") from error

    def list_unready(self) -> list[str]:
        """Return the names of the programs that have no process that is ready."""
        return [name for name, each in self.programs.items() if each.process_id is None]

    async def _start(self, stack: AsyncExitStack, programs: Iterable[Program]) -> None:
        running = {
            program.name: RunningProgram(program, self._report, patience=_PATIENCE)
            for program in programs
        }
        stack.push_async_callback(_stop, running.values())
        async with asyncio.TaskGroup() as group:
            for one in running.values():
                group.create_task(one.start())
        self.programs |= running

    def _describe_service(self, service: str) -> Iterable[Program]:
        for number, port in enumerate(self._ports[service], start=1):
            environment = self._environment(**{f"{service.upper()}SERVICE_PORT": port})
            settings = self._load_settings(environment)
            program = shop.describe_service(settings, self._directory, service)
            yield self._name(program, number, environment)

    def _describe_gateways(self) -> Iterable[Program]:
        for number, port in enumerate(self._ports["gateway"], start=1):
            environment = self._environment(APIGATEWAY_PORT=port)
            program = shop.describe_gateway(self._load_settings(environment), self._directory)
            yield self._name(program, number, environment)

    def _tls_directory(self, name: str) -> Path:
        return self._directory / _TLS / name

    def _name(self, program: Program, number: int, environment: Mapping[str, str]) -> Program:
        name = f"{program.name}-{number}"
        log_path = program.log_path.with_name(f"{name}.log")
        return replace(program, name=name, log_path=log_path, environment=environment)

    def _environment(self, **ports: int) -> dict[str, str]:
        """Return the whole environment of a program: nothing of this process's own gets in."""
        every = {f"{name.upper()}SERVICE_PORT": proxy.port for name, proxy in self.proxies.items()}
        tls = {f"{name.upper()}SERVICE": self._tls_directory(name) for name in shop.SERVICES}
        tls["APIGATEWAY"] = self._tls_directory("gateway")
        every |= {"APIGATEWAY_PORT": 1, "POSTGRES_PORT": self._postgres_port, **ports}
        return {
            "PATH": os.environ["PATH"],
            "BUILD_WORKSPACE_DIRECTORY": str(self._directory),
            **dict.fromkeys(HOST_VARIABLES, "127.0.0.1"),
            **{name: str(port) for name, port in every.items()},
            **{f"{prefix}_TLS_DIRECTORY": str(path) for prefix, path in tls.items()},
            **dict(self._url_variables()),
            "POSTGRES_USER": _USER,
            "POSTGRES_PASSWORD": _PASSWORD,
            **_OPTIONS,
        }

    def _url_variables(self) -> Iterator[tuple[str, str]]:
        for name, database in _DATABASES.items():
            variable = (
                "DATABASE_URL" if name == "gateway" else f"{name}SERVICE_DATABASE_URL".upper()
            )
            yield variable, self._url(app_role(database), database)
            yield f"MIGRATIONS_{variable}", self.database_urls[name]

    def _load_settings(self, environment: Mapping[str, str]) -> ShopSettings:
        # With all URLs: one in the environment of this process must not be used.
        values = {name.lower(): value for name, value in environment.items()}
        return ShopSettings.model_validate(values)


async def _stop(programs: Iterable[RunningProgram]) -> None:
    await asyncio.gather(*(program.stop() for program in programs))
