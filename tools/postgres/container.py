"""A PostgreSQL server in a container of our image of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tools.postgres.entrypoint import PORT
from tools.testing.containers import LOOPBACK, START_SECONDS, describe_container, publish

PASSWORD = "secret"  # noqa: S105 - of a server that ends with its test.
_OPTIONS = ["-c", "max_connections=200"]


@contextmanager
def run_container(archive: Path) -> Iterator[str]:
    """Run a server as long as the block lasts, and yield the URL of its maintenance database."""
    container = describe_server(archive)
    publish(container, PORT)
    with container:
        port = container.get_exposed_port(PORT)
        yield f"postgresql://postgres:{PASSWORD}@{LOOPBACK}:{port}/postgres"


def describe_server(
    archive: Path, network: Network | None = None, name: str = ""
) -> DockerContainer:
    """Return a container that has started when its server accepts connections."""
    ready = LogMessageWaitStrategy("database system is ready to accept connections")
    return (
        describe_container(archive, network, name)
        .with_env("POSTGRES_PASSWORD", PASSWORD)
        .with_command(_OPTIONS)
        .waiting_for(ready.with_startup_timeout(START_SECONDS))
    )
