"""What the shop consists of: its database server, its services and its gateway, as programs."""

import functools
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from chassis import settings
from chassis.tls import Certificates, TlsError
from migrations.settings import AdministratorPassword, MigrationSettings
from tools.dev import readiness
from tools.dev.ports import Endpoint
from tools.dev.program import Program, ProgramError
from tools.postgres.programs import find_programs
from tools.postgres.server import Server, ServerError
from tools.postgres.tether import tether

SERVICES = ("user", "product", "order", "payment")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
RUNFILES = Path(__file__).parents[2]
"""Where Bazel lays out the files of this program, and those of the programs that it runs."""


class ShopSettings(MigrationSettings):
    """Where everything listens, where the databases are, and who is the first admin."""

    postgres_host: settings.Host
    postgres_port: settings.Port
    postgres_user: Annotated[str, Field(min_length=1)]
    postgres_password: AdministratorPassword
    userservice_host: settings.Host
    userservice_port: settings.Port
    productservice_host: settings.Host
    productservice_port: settings.Port
    orderservice_host: settings.Host
    orderservice_port: settings.Port
    paymentservice_host: settings.Host
    paymentservice_port: settings.Port
    apigateway_host: settings.Host
    apigateway_port: settings.Port
    userservice_admin_email: str = ""
    userservice_admin_password: SecretStr = SecretStr("")
    """Who adds the catalogue."""
    apigateway_tls_directory: Path | None = None
    """The certificate with which services are asked whether they are ready."""
    bazaar_plaintext: bool = False
    bazaar_fake_port: settings.Port = 12111
    """Where the fake of a payment provider listens, if the shop runs on one."""

    def has_local_databases(self) -> bool:
        """Return whether POSTGRES_HOST is this machine and some database is on that server."""
        urls = {name for name in type(self).model_fields if name.startswith("migrations_")}
        return not urls <= self.model_fields_set and self.postgres_host in _LOOPBACK

    def postgres_endpoint(self) -> Endpoint:
        """Return where the database server listens."""
        return Endpoint("postgres", "POSTGRES", self.postgres_host, self.postgres_port)

    def service_endpoint(self, service: str) -> Endpoint:
        """Return where one of SERVICES listens."""
        host = getattr(self, f"{service}service_host")
        port = getattr(self, f"{service}service_port")
        return Endpoint(service, f"{service.upper()}SERVICE", host, port)

    def fake_endpoint(self) -> Endpoint:
        """Return where the fake of a payment provider listens."""
        return Endpoint("fake", "BAZAAR_FAKE", "127.0.0.1", self.bazaar_fake_port)

    def find_certificates(self) -> Certificates | None:
        """Return the gateway's certificates; None if the programs call each other in plain text.

        Raises:
            ProgramError: they cannot be used.
        """
        if self.bazaar_plaintext or self.apigateway_tls_directory is None:
            return None
        try:
            return Certificates(settings.dotenv_path().parent / self.apigateway_tls_directory)
        except TlsError as error:
            raise ProgramError(f"APIGATEWAY_TLS_DIRECTORY: {error}") from error

    def gateway_endpoint(self) -> Endpoint:
        """Return where the REST API is."""
        return Endpoint("gateway", "APIGATEWAY", self.apigateway_host, self.apigateway_port)


def describe_postgres(config: ShopSettings, directory: Path) -> Program:
    """Return the server whose data is under the directory."""
    log_path = directory / "logs" / "postgres.log"
    server = Server(
        find_programs(directory),
        directory / "postgres",
        log_path,
        config.postgres_port,
        user=config.postgres_user,
        password=config.postgres_password.get_secret_value(),
        host=config.postgres_host,
    )
    return Program(
        "postgres",
        server.command(),
        log_path,
        functools.partial(readiness.wait_for_postgres, server),
        address=config.postgres_endpoint().address,
        stop_signal=signal.SIGINT,
        prepare=functools.partial(_prepare, server),
    )


def describe_service(
    config: ShopSettings,
    directory: Path,
    service: str,
    environment: Mapping[str, str] | None = None,
) -> Program:
    """Return one of SERVICES."""
    address = config.service_endpoint(service).address

    certificates = config.find_certificates()

    async def wait_until_ready(_process_id: int) -> None:
        await readiness.wait_for_grpc(address, certificates, service)

    path = RUNFILES / "services" / service / service
    return Program(
        service,
        tether([str(path)], signal.SIGTERM),
        directory / "logs" / f"{service}.log",
        wait_until_ready,
        address=address,
        environment=environment,
    )


def describe_gateway(config: ShopSettings, directory: Path) -> Program:
    """Return the gateway, which is ready when the services are."""
    endpoint = config.gateway_endpoint()
    ready = readiness.HttpReadiness(f"http://{endpoint.address}/readyz")
    logs = directory / "logs"

    async def wait_until_ready(_process_id: int) -> None:
        await ready.wait()

    def explain() -> str:
        return f"{ready.explain()} (each service's log is in {logs})"

    return Program(
        "gateway",
        tether([str(RUNFILES / "gateway" / "gateway")], signal.SIGTERM),
        logs / "gateway.log",
        wait_until_ready,
        address=endpoint.address,
        explain=explain,
    )


def _prepare(server: Server) -> None:
    try:
        server.prepare()
    except ServerError as error:
        raise ProgramError(str(error)) from error
