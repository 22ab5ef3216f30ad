"""Containers of images that the build made, by testcontainers; they end with their test.

They may do no more than in production. What a test leaves that was killed is removed by the next
one on the same machine.
"""

import atexit
import errno
import functools
import json
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from docker.errors import ImageNotFound, NotFound
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network

START_SECONDS = 120
"""How long a container may take to be ready."""
LOOPBACK = "127.0.0.1"

_MACHINE = "bazaar.machine"
"""The label with the machine, in whose network namespace the claims of tests are."""
_POLL_SECONDS = 0.1
_CLAIM = socket.socket(socket.AF_UNIX)
"""Held as long as this process lives."""

# Ryuk, which removes what tests leave, is an image to pull, which gets the socket of the engine.
testcontainers_config.ryuk_disabled = True
testcontainers_config.connection_mode_override = ConnectionMode.docker_host
testcontainers_config.sleep_time = _POLL_SECONDS


def describe_container(
    archive: Path, network: Network | None = None, name: str = ""
) -> DockerContainer:
    """Return a container of an image, which starts and ends with its `with` block.

    The archive is the NAME.tar of a `program_image`. The network knows the container by `name`.
    """
    _begin()
    container = DockerContainer(load_image(archive)).with_tmpfs_mount("/tmp")  # noqa: S108
    if network is not None:
        container.with_network(network).with_network_aliases(name)
    return container.with_kwargs(
        cap_drop=["ALL"],
        labels=_labels(),
        network=network.name if network else "bridge",
        read_only=True,
        security_opt=["no-new-privileges"],
    )


@contextmanager
def open_network(*, internal: bool) -> Iterator[Network]:
    """Make a network, which leads nowhere else if it is internal, and remove it afterwards."""
    _begin()
    with Network(docker_network_kw={"internal": internal, "labels": _labels()}) as network:
        yield network


def publish(container: DockerContainer, port: int) -> None:
    """Publish a port on a free port of the loopback address, and of no other."""
    # docker-py takes an address as well, which testcontainers does not know.
    container.ports[str(port)] = cast("int | None", (LOOPBACK, None))


@functools.cache
def load_image(archive: Path) -> str:
    """Load an image into the engine if it has none of that digest, and return its tag."""
    with tarfile.open(archive) as tar:
        (image,) = json.load(cast("IO[bytes]", tar.extractfile("manifest.json")))
    tag: str = image["RepoTags"][0]
    images = DockerClient().client.images
    try:
        images.get(tag)
    except ImageNotFound:
        with archive.open("rb") as file:
            images.load(file)
    return tag


def remove_abandoned() -> None:
    """Remove the containers and networks of tests on this machine that have ended."""
    client = DockerClient().client
    filters: dict[str, str | list[str] | bool] = {"label": f"{_MACHINE}={_find_machine()}"}
    for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
        with _claim(container.labels[LABEL_SESSION_ID]) as is_abandoned, suppress(NotFound):
            if is_abandoned:
                container.remove(force=True, v=True)
    for network in client.networks.list(filters=filters):
        with _claim(network.attrs["Labels"][LABEL_SESSION_ID]) as is_abandoned, suppress(NotFound):
            if is_abandoned:
                network.remove()


@functools.cache
def _begin() -> None:
    """Claim what this process is about to start, and remove what others have left."""
    _CLAIM.bind(_claim_name(SESSION_ID))
    atexit.register(_CLAIM.close)
    remove_abandoned()


@contextmanager
def _claim(session_id: str) -> Iterator[bool]:
    """Claim what a process started; yield False while that process, or another one, has it."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(_claim_name(session_id))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            yield False
        else:
            yield True


def _claim_name(session_id: str) -> str:
    # A name in the abstract namespace (unix(7)) is gone with its process.
    return f"\0bazaar-containers-{session_id}"


def _labels() -> dict[str, str]:
    return {_MACHINE: _find_machine()}


def _find_machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/net').readlink()}"
