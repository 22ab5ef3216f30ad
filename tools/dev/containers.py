"""The shop in containers: each program in one of its image, with the settings of a deployment.

They are on a network that leads nowhere. Only the gateway is on a second one, for its port.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import ExecWaitStrategy, HttpWaitStrategy

from deploy.programs import PROGRAMS, Program
from tools.certs import directories as certificates
from tools.postgres.container import PASSWORD, describe_server
from tools.testing.containers import (
    LOOPBACK,
    START_SECONDS,
    describe_container,
    open_network,
    publish,
)

GATEWAY_PORT = 8080

_PASSWORD = "change-me-in-production"  # noqa: S105 - that of .env.
_PROGRAMS = {program.name: program for program in PROGRAMS}
_SECRETS = {"user": {"USERSERVICE_ADMIN_PASSWORD": _PASSWORD, "USERSERVICE_KEY_SECRET": _PASSWORD}}
_SERVICES = [program for program in PROGRAMS if program.is_service]
_SETTINGS = ("deploy/kubernetes/base/settings.env", "deploy/kubernetes/development/settings.env")
_TLS_DIRECTORY = "/etc/bazaar/tls"


@contextmanager
def run_shop(archives: Iterable[Path], directory: Path) -> Iterator[str]:
    """Run a shop as long as the block lasts, and yield the URL of its API.

    `archives` are the images, that of PostgreSQL among them, below their packages. `directory` is
    an empty one that the engine sees.

    Raises:
        RuntimeError: a program ended before it was ready.
        TimeoutError: a program was not ready in time.
    """
    with ExitStack() as stack:
        images = {str(archive.parents[1]): archive for archive in archives}
        network = stack.enter_context(open_network(internal=True))
        shop = _Shop(images, network, directory, stack)
        shop.start_postgres()
        shop.migrate()
        shop.start_services()
        yield shop.start_gateway()


@dataclass(frozen=True)
class _Shop:
    images: Mapping[str, Path]
    """Their archives, by packages."""
    network: Network
    directory: Path
    """Where certificates are made."""
    stack: ExitStack

    def start_postgres(self) -> None:
        image = self.images["tools/postgres"]
        server = describe_server(image, self.network, "postgres")
        self._start("postgres", server.with_env("POSTGRES_USER", _read_settings()["POSTGRES_USER"]))

    def migrate(self) -> None:
        """Run the migrations to their end."""
        container = self._describe(_PROGRAMS["migrations"]).with_command(["upgrade"])
        container.with_env("POSTGRES_PASSWORD", PASSWORD)
        for program in PROGRAMS:
            container.with_envs(**_find_database_password(program))
        self._start("migrations", container)
        if status := container.wait():
            raise RuntimeError(f"the migrations ended with {status}: {container.get_logs()}")

    def start_services(self) -> None:
        """Start all services, and then wait, because some need others."""
        certificates.renew(self.directory)
        containers = [self._start_listening(program) for program in _SERVICES]
        for program, container in zip(_SERVICES, containers, strict=True):
            ready = ExecWaitStrategy([*program.entrypoint, "ready"])
            ready.with_startup_timeout(START_SECONDS).wait_until_ready(container)

    def start_gateway(self) -> str:
        """Start the gateway and return its URL."""
        outside = self.stack.enter_context(open_network(internal=False))
        container = self._start_listening(_PROGRAMS["gateway"], GATEWAY_PORT)
        outside.connect(container.get_container_id())
        ready = HttpWaitStrategy(GATEWAY_PORT, "/readyz").with_startup_timeout(START_SECONDS)
        ready.wait_until_ready(container)
        return f"http://{LOOPBACK}:{container.get_exposed_port(GATEWAY_PORT)}"

    def _start_listening(self, program: Program, *published: int) -> DockerContainer:
        """Start a program that listens and calls others."""
        directory = _let_containers_read(self.directory / program.name)
        container = self._describe(program).with_volume_mapping(directory, _TLS_DIRECTORY)
        container.with_env(f"{program.prefix}_HOST", "0.0.0.0")  # noqa: S104 - for other containers.
        container.with_env(f"{program.prefix}_TLS_DIRECTORY", _TLS_DIRECTORY)
        container.with_envs(**_find_database_password(program), **_SECRETS.get(program.name, {}))
        for port in published:
            publish(container, port)
        return self._start(program.name, container)

    def _describe(self, program: Program) -> DockerContainer:
        archive = self.images[program.package]
        container = describe_container(archive, self.network, program.name)
        return container.with_envs(**_read_settings())

    def _start(self, name: str, container: DockerContainer) -> DockerContainer:
        self.stack.enter_context(container)
        self.stack.callback(_keep_log, name, container)
        return container


def _read_settings() -> Mapping[str, str]:
    """Read what each program is told in a deployment for development."""
    lines = [line for path in _SETTINGS for line in Path(path).read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _find_database_password(program: Program) -> Mapping[str, str]:
    return {f"{program.prefix}_DATABASE_PASSWORD": _PASSWORD} if program.prefix else {}


def _let_containers_read(directory: Path) -> Path:
    """Let the user of the image, who has no name on this machine, read a TLS directory."""
    directory.chmod(0o755)
    for path in directory.iterdir():
        path.chmod(0o644)
    return directory


def _keep_log(name: str, container: DockerContainer) -> None:
    """Write the log of a container to where Bazel keeps what tests leave."""
    log = Path(os.environ["TEST_UNDECLARED_OUTPUTS_DIR"], f"{name}.log")
    log.write_bytes(b"".join(container.get_logs()))
