"""A shop with replicas of its services, by default two of each, found by a name with two addresses.

The name is localhost, which gRPC resolves to the loopback addresses of both families, as a headless
service of Kubernetes or `endpoint_mode: dnsrr` of Compose would resolve to those of all replicas.
Other replicas are found by the targets that the environment has, such as ORDERSERVICE_TARGET.
"""

import asyncio
import functools
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from chassis.etcd import SERVER_NAME
from migrations import schema
from tools.certs.directories import PROGRAMS, renew
from tools.dev import shop
from tools.dev.program import Program, Report, RunningProgram
from tools.dev.shop import ShopSettings
from tools.dev.threads import run_in_thread

HOSTS = ("127.0.0.1", "::1")
"""Where each of two replicas listens."""
CERTIFIED = (*PROGRAMS, SERVER_NAME)
"""Who has a certificate: all programs, and an etcd in which they find each other."""

_TWO_OF_EACH = dict.fromkeys(shop.SERVICES, HOSTS)
_NAME = "localhost"
_OPTIONS = {
    # All replicas share a server that has 100 connections.
    "SERVICE_DATABASE_CONNECTIONS": "6",
    # Callers have to hear of a stop before it; this is the default.
    "SERVICE_NOTICE_SECONDS": "0.5",
    # All requests come from one client.
    "APIGATEWAY_RATE_LIMIT": "",
    "APIGATEWAY_ACCOUNT_RATE_LIMIT": "",
    # That one client says from which addresses its requests come.
    "APIGATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
    "LOG_FORMAT": "json",
}


class ReplicatedShop:
    """The programs of a shop, with the settings of an environment of `testing`.

    `hosts` are where the replicas of each service listen, all on the same port.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        report: Report,
        hosts: Mapping[str, Sequence[str]] = _TWO_OF_EACH,
    ) -> None:
        self._workspace = Path(environment["BUILD_WORKSPACE_DIRECTORY"])
        self._directory = self._workspace / ".data"
        tls = {
            name: str(self._workspace / value)
            for name, value in environment.items()
            if name.endswith("_TLS_DIRECTORY")
        }
        names = {f"{service.upper()}SERVICE_HOST": _NAME for service in shop.SERVICES}
        self._environment = {**environment, **tls, **names, **_OPTIONS}
        self._hosts = hosts
        self._report = report
        self._replicas: dict[str, list[RunningProgram]] = {}
        self.url = f"http://{_settings(self._environment).gateway_endpoint().address}"

    async def start(self, stack: AsyncExitStack) -> None:
        """Bring the shop up; taking it down is left on the stack.

        Raises:
            ProgramError: a program did not start.
            SchemaError: a database could not be created.
        """
        (self._directory / "logs").mkdir(parents=True)
        renew(self._directory / "tls", CERTIFIED)
        config = _settings(self._environment)
        await self._start(stack, shop.describe_postgres(config, self._directory))
        app_urls = config.app_urls()
        for name, url in config.database_urls().items():
            upgrade = functools.partial(schema.upgrade, name, url, app_url=app_urls[name])
            await run_in_thread(upgrade)
        for service in shop.SERVICES:
            self._replicas[service] = [
                self._run(self._describe_replica(service, number))
                for number in range(len(self._hosts[service]))
            ]
        programs = [each for replicas in self._replicas.values() for each in replicas]
        for program in programs:
            stack.push_async_callback(program.stop)
        async with asyncio.TaskGroup() as group:
            for program in programs:
                group.create_task(program.start())
        gateway = shop.describe_gateway(config, self._directory)
        await self._start(stack, replace(gateway, environment=self._environment))

    async def restart(self, service: str, number: int) -> int | None:
        """Stop a replica of a service by SIGTERM, start it again, and return its exit status.

        Raises:
            ProgramError: it did not start.
        """
        replica = self._replicas[service][number]
        status = await replica.stop()
        await replica.start()
        return status

    async def kill(self, service: str, number: int) -> None:
        """End a replica of a service by SIGKILL; it is not started again."""
        await self._replicas[service][number].stop(signal.SIGKILL)

    async def _start(self, stack: AsyncExitStack, program: Program) -> None:
        running = self._run(program)
        stack.push_async_callback(running.stop)
        await running.start()

    def _run(self, program: Program) -> RunningProgram:
        return RunningProgram(program, self._report)

    def _describe_replica(self, service: str, number: int) -> Program:
        host = self._hosts[service][number]
        environment = {**self._environment, f"{service.upper()}SERVICE_HOST": host}
        program = shop.describe_service(_settings(environment), self._directory, service)
        name = f"{service}-{number + 1}"
        return replace(
            program,
            name=name,
            log_path=program.log_path.with_name(f"{name}.log"),
            environment=environment,
        )


def _settings(environment: Mapping[str, str]) -> ShopSettings:
    values = {name.lower(): value for name, value in environment.items()}
    return ShopSettings.model_validate(values)
