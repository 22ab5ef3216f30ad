"""Containers may do no more than in production, and none outlives its test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.network import Network

from tools.postgres.container import describe_server
from tools.postgres.entrypoint import PORT
from tools.testing.containers import load_image, open_network, publish, remove_abandoned

ARCHIVE = Path(os.environ["ARCHIVE"])
KILLED = """
import signal, sys
from pathlib import Path
from tools.postgres.container import describe_server
from tools.testing.containers import open_network

with open_network(internal=True) as network:
    with describe_server(Path(sys.argv[1]), network, "postgres") as container:
        print(container.get_container_id(), network.id, flush=True)
        signal.pause()
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with open_network(internal=True) as network:
        yield network


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[DockerContainer]:
    container = describe_server(ARCHIVE, network, "postgres")
    publish(container, PORT)
    with container:
        yield container


def exists(kind: str, identity: str) -> bool:
    found = getattr(DockerClient().client, kind).list(filters={"id": identity})
    return bool(found)


def test_an_image_is_loaded_by_its_digest() -> None:
    digest = Path(os.environ["DIGEST"]).read_text().removeprefix("sha256:")
    assert load_image(ARCHIVE) == f"bazaar/postgres:{digest}"


def test_a_container_may_do_no_more_than_in_production(server: DockerContainer) -> None:
    container = server.get_wrapped_container()
    limits = container.attrs["HostConfig"]
    assert limits["ReadonlyRootfs"]
    assert limits["CapDrop"] == ["ALL"]
    assert limits["SecurityOpt"] == ["no-new-privileges"]
    assert container.attrs["Config"]["User"] == "65532:65532"


def test_a_port_is_published_on_the_loopback_address_only(server: DockerContainer) -> None:
    bindings = server.get_wrapped_container().attrs["HostConfig"]["PortBindings"]
    assert bindings == {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}


def test_an_internal_network_leads_nowhere(server: DockerContainer, network: Network) -> None:
    assert DockerClient().client.networks.get(network.name).attrs["Internal"]
    networks = server.get_wrapped_container().attrs["NetworkSettings"]["Networks"]
    assert list(networks) == [network.name], "it is on no other"


def test_what_a_killed_test_leaves_is_removed(server: DockerContainer, network: Network) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(ARCHIVE)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            container_id, network_id = process.stdout.readline().split()
            remove_abandoned()
            assert exists("containers", container_id), "its test still runs"
        finally:
            process.kill()
    remove_abandoned()
    assert not exists("containers", container_id)
    assert not exists("networks", network_id)
    assert exists("containers", server.get_container_id())
    assert exists("networks", network.id or "")


def test_a_program_that_ends_fails_at_once_and_leaves_nothing(network: Network) -> None:
    container = describe_server(ARCHIVE, network, "refused").with_env("POSTGRES_PASSWORD", "")
    with pytest.raises(RuntimeError, match="Container exited"), container:
        pytest.fail("it started")
    assert not exists("containers", container.get_container_id())
