"""The shop for tests from outside: the real runner as a process, on ports and data of its own.

A test that uses it has `//tools/dev:bazaar` among its data.
"""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import grpc
import httpx

from chassis.settings import address
from chassis.tls import KeyMaterial
from tools.client.auth import Bearer
from tools.client.session import Session
from tools.dev.holders import find_file_holders, find_port_holders
from tools.postgres.throwaway import find_fast_directory

_PROGRAM = Path(__file__).parents[2] / "tools" / "dev" / "bazaar"
_PORT_VARIABLES = (
    "POSTGRES_PORT",
    "USERSERVICE_PORT",
    "PRODUCTSERVICE_PORT",
    "ORDERSERVICE_PORT",
    "PAYMENTSERVICE_PORT",
    "APIGATEWAY_PORT",
)
HOST_VARIABLES = tuple(name.replace("_PORT", "_HOST") for name in _PORT_VARIABLES)
_TLS_DIRECTORIES = {
    **{f"{name.upper()}SERVICE": name for name in ("user", "product", "order", "payment")},
    "APIGATEWAY": "gateway",
}
_PASSWORD_VARIABLES = tuple(
    name.replace("_PORT", "_DATABASE_PASSWORD") for name in _PORT_VARIABLES[1:]
)
ADMIN_EMAIL = "admin@bazaar.example"
ADMIN_PASSWORD = "change-me-in-production"  # noqa: S105 - that of .env.
_FAKE_PORT_VARIABLE = "BAZAAR_FAKE_PORT"
_WAIT_SECONDS = 40.0
_POLL_SECONDS = 0.02
# Below those that the system gives to clients, who would take one between the look and the use.
_PORTS = range(20_000, 32_000)
_CLAIMS: list[socket.socket] = []


@contextlib.contextmanager
def open_environment(parent: Path | None = None) -> Iterator[dict[str, str]]:
    """Give an environment with all settings: free ports, and an empty directory for the data.

    That is in `parent`, by default in memory if there is room.
    """
    parent = parent or find_fast_directory()
    with tempfile.TemporaryDirectory(prefix="bazaar-", dir=parent) as directory:
        yield _make_environment(directory)


def _make_environment(directory: str) -> dict[str, str]:
    environment = dict.fromkeys(HOST_VARIABLES, "127.0.0.1")
    variables = (*_PORT_VARIABLES, _FAKE_PORT_VARIABLE)
    ports = find_ports(len(variables))
    environment |= dict(zip(variables, map(str, ports), strict=True))
    environment |= dict.fromkeys(_PASSWORD_VARIABLES, "secret of a role")
    environment |= {
        f"{prefix}_TLS_DIRECTORY": f".data/tls/{name}" for prefix, name in _TLS_DIRECTORIES.items()
    }
    return environment | {
        # Requests may name in X-Forwarded-For for whom they are counted.
        "APIGATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
        "BAZAAR_ENVIRONMENT": "development",
        "BUILD_WORKSPACE_DIRECTORY": directory,
        "PATH": os.environ["PATH"],
        "POSTGRES_PASSWORD": "secret",
        "POSTGRES_USER": "shop",
        # The runner stops the callers of a service before it.
        "SERVICE_NOTICE_SECONDS": "0",
        "USERSERVICE_ADMIN_EMAIL": ADMIN_EMAIL,
        "USERSERVICE_ADMIN_PASSWORD": ADMIN_PASSWORD,
    }


def make_credentials(environment: Mapping[str, str]) -> grpc.ChannelCredentials:
    """Return the gateway's credentials, with which a test calls the services of a shop itself."""
    workspace = Path(environment["BUILD_WORKSPACE_DIRECTORY"])
    material = KeyMaterial.read(workspace / environment["APIGATEWAY_TLS_DIRECTORY"])
    return grpc.ssl_channel_credentials(material.authorities, material.key, material.certificate)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other processes bring about.

    Raises:
        TimeoutError: it does not hold within _WAIT_SECONDS.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_POLL_SECONDS)


class ShopApi:
    """The API of a shop, wherever that runs, and who uses it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._admin = Bearer(Session(ADMIN_EMAIL, ADMIN_PASSWORD))

    def get(self, path: str) -> httpx.Response:
        """Return the gateway's response to a GET."""
        return httpx.get(self.url + path, timeout=30, trust_env=False)

    def open_client(self, auth: Bearer | None = None) -> httpx.Client:
        """Open a client of the API, by default one that does not log in."""
        return httpx.Client(base_url=self.url, auth=auth, timeout=30, trust_env=False)

    def open_admin(self) -> httpx.Client:
        """Open a client of the API that logs in as the first admin; all share one session."""
        return self.open_client(self._admin)

    def open_customer(self) -> httpx.Client:
        """Create a customer, as staff do, which is not limited, and open their client."""
        login = {"email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse"}
        with self.open_admin() as admin:
            admin.post("/v1/users", json={**login, "displayName": "Ada"}).raise_for_status()
        return self.open_client(Bearer(Session(login["email"], login["password"])))


class ShopProcess(ShopApi):
    """The runner as a process, with its output. Use it in a `with` block, or `stop` it."""

    def __init__(self, environment: Mapping[str, str], *arguments: str) -> None:
        host, port = environment["APIGATEWAY_HOST"], int(environment["APIGATEWAY_PORT"])
        super().__init__(f"http://{address(host, port)}")
        self.output = ""
        self._environment = environment
        self.directory = Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data")
        self._process = subprocess.Popen(
            [_PROGRAM, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._stdout = cast("IO[str]", self._process.stdout)

    @property
    def process_id(self) -> int:
        """The id of the runner."""
        return self._process.pid

    def count_products(self) -> int:
        """Return how many products the first page of them has."""
        return self.get("/v1/products").text.count('"productId"')

    def find_listener(self, variable: str) -> int:
        """Return the id of the process that listens on the port in an environment variable.

        Of several, such as gunicorn's master and its workers, it is the one that started first.
        """
        return min(find_port_holders(int(self._environment[variable])))

    def wait_until_ready(self) -> None:
        """Read its output up to the last line that it prints when the shop is up.

        Raises:
            EOFError: As for `wait_for`.
        """
        self.wait_for("Ctrl-C stops everything")

    def wait_for(self, text: str) -> None:
        """Read its output until a line contains some text.

        Raises:
            EOFError: It ended without that line; the message is its whole output.
        """
        for line in self._stdout:
            self.output += line
            if text in line:
                return
        raise EOFError(f"no line contains {text!r}:\n{self.output}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send the runner, and only it, a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Read the rest of its output, wait for its end and return its exit status."""
        if not self._stdout.closed:
            self.output += self._stdout.read()
            self._stdout.close()
        return self._process.wait()

    def stop(self) -> int:
        """End it as Ctrl-C does, if it still runs, and return its exit status."""
        if self._process.poll() is None:
            self.send_signal(signal.SIGINT)
        return self.wait()

    def find_processes(self) -> list[int]:
        """Return the ids of all processes of the shop, the runner and those of earlier runs too."""
        lock_path = self.directory / "lock"
        return find_file_holders(lock_path) if lock_path.exists() else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def find_ports(count: int) -> list[int]:
    """Return ports of the loopback address that are free, and that nobody else gets from here.

    That holds as long as this process lives, whatever it or its children do with the ports.
    """
    shuffled = random.sample(_PORTS, k=len(_PORTS))
    return list(itertools.islice(filter(_claim, shuffled), count))


def _claim(port: int) -> bool:
    """Claim a port if it is free: other processes may look before a server listens on it."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        # A name in the abstract namespace (unix(7)) is gone with its process.
        claim.bind(f"\0bazaar-port-{port}")
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True
