"""Starts the whole shop in order, restarts what dies, and stops it in reverse order.

The programs are listed in shop.py; how one of them is supervised is in program.py.
"""

import asyncio
import functools
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from migrations import schema
from tools.certs import directories
from tools.client.session import Session
from tools.dev import fakes, lock, ports, seed, shop
from tools.dev.program import Program, ProgramError, Report, RunningProgram
from tools.dev.shop import ShopSettings
from tools.dev.threads import run_in_thread

_KEPT_ROLE = (
    "The data in .data/postgres keeps the POSTGRES_USER and POSTGRES_PASSWORD of its first start:"
    " set them again, or remove it."
)


class Runner:
    """The shop over one data directory. `report` gets texts for people.

    `provider` is a payment provider that has a fake, or None for what the settings say.
    """

    def __init__(
        self, config: ShopSettings, directory: Path, report: Report, provider: str | None = None
    ) -> None:
        self._config = config
        self._directory = directory
        self._report = report
        self._provider = provider
        self._running: list[RunningProgram] = []
        self._inherited: tuple[int, ...] = ()

    async def start(self, stack: AsyncExitStack, *, own_postgres: bool, seeded: bool) -> None:
        """Bring the shop up; taking it down is left on the stack.

        Raises:
            LockError: Another runner uses the data directory.
            ProgramError: A port is in use, or something did not start.
            SchemaError: A database could not be migrated.
            SeedError: The shop refused the admin, or a resource of the catalogue.
        """
        (self._directory / "logs").mkdir(parents=True, exist_ok=True)
        self._inherited = (await stack.enter_async_context(lock.hold(self._directory)),)
        await self._check_ports(own_postgres=own_postgres)
        await self._renew_certificates()
        if own_postgres:
            await self._start(stack, [shop.describe_postgres(self._config, self._directory)])
        await self._migrate(own_postgres=own_postgres)
        await self._start_services(stack)
        await self._start(stack, [shop.describe_gateway(self._config, self._directory)])
        if seeded:
            await self._seed()

    async def watch(self) -> None:
        """Never return; raise what nobody thought of when keeping a program running failed."""
        async with asyncio.TaskGroup() as group:
            for running in self._running:
                group.create_task(running.watch())

    async def _check_ports(self, *, own_postgres: bool) -> None:
        endpoints = [self._config.service_endpoint(service) for service in shop.SERVICES]
        endpoints.append(self._config.gateway_endpoint())
        if own_postgres:
            endpoints.insert(0, self._config.postgres_endpoint())
        if self._provider is not None:
            endpoints.append(self._config.fake_endpoint())
        conflicts = await ports.find_conflicts(endpoints, self._report)
        if any("POSTGRES_PORT" in conflict for conflict in conflicts):
            conflicts.append("To use the PostgreSQL server that is there, add --existing-postgres.")
        if conflicts:
            raise ProgramError("\n".join(conflicts))

    async def _renew_certificates(self) -> None:
        """Make the certificates that `.env` names; settings may name others instead."""
        if not self._config.bazaar_plaintext:
            try:
                await run_in_thread(directories.renew, self._directory / "tls")
            except OSError as error:
                raise ProgramError(f"{error.filename}: {error.strerror}") from error

    async def _start_services(self, stack: AsyncExitStack) -> None:
        environment: dict[str, Mapping[str, str]] = {}
        if self._provider is not None:
            fake = fakes.describe_fake(self._config, self._directory, self._provider)
            await self._start(stack, [fake])
            environment["payment"] = {
                **os.environ,
                **fakes.payment_settings(self._config, self._provider),
            }
        services = [
            shop.describe_service(self._config, self._directory, service, environment.get(service))
            for service in shop.SERVICES
        ]
        await self._start(stack, services)

    async def _start(self, stack: AsyncExitStack, programs: list[Program]) -> None:
        """Start programs at once; they are stopped at once as well."""
        running = [
            RunningProgram(program, self._report, inherited=self._inherited) for program in programs
        ]
        stack.push_async_callback(self._stop, running)
        errors: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                for one in running:
                    group.create_task(self._start_one(one))
        except* ProgramError as failed:
            errors = [str(error) for error in failed.exceptions]
        if errors:
            raise ProgramError("\n".join(errors))
        self._running += running

    async def _start_one(self, running: RunningProgram) -> None:
        began = time.monotonic()
        _keep_previous(running.program.log_path)
        await running.start()
        self._report_done(running.program.name, running.program.address, began)

    async def _stop(self, running: list[RunningProgram]) -> None:
        began = time.monotonic()
        await asyncio.gather(*(one.stop() for one in running))
        self._report_done("stopped", ", ".join(one.program.name for one in running), began)

    async def _migrate(self, *, own_postgres: bool) -> None:
        began = time.monotonic()
        app_urls = self._config.app_urls()
        for database, url in self._config.database_urls().items():
            upgrade = functools.partial(schema.upgrade, database, url, app_url=app_urls[database])
            try:
                await run_in_thread(upgrade)
            except schema.SchemaError as error:
                if own_postgres and "password authentication failed" in str(error):
                    raise ProgramError(f"{error}\n{_KEPT_ROLE}") from error
                raise
        self._report_done("schemas", ", ".join(schema.DATABASES), began)

    async def _seed(self) -> None:
        began = time.monotonic()
        url = f"http://{self._config.gateway_endpoint().address}"
        password = self._config.userservice_admin_password.get_secret_value()
        admin = Session(self._config.userservice_admin_email, password)
        result = await run_in_thread(seed.load, url, admin)
        self._report_done("seed", result, began)

    def _report_done(self, name: str, what: str, began: float) -> None:
        self._report(f"  {name:10} {what:40} {time.monotonic() - began:5.1f} s")


def _keep_previous(log_path: Path) -> None:
    """Rename the log of the previous run, which may explain why that run ended."""
    if log_path.exists():
        log_path.replace(log_path.with_suffix(".previous.log"))
