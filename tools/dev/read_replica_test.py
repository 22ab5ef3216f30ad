"""Two gateways and two replicas of a service, one of which reads from a replica of the database."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from psycopg import conninfo

from bazaar.product.v1 import product_pb2
from chassis.database import Database
from chassis.service import Resources
from chassis.settings import address
from chassis.testing import serving
from chassis.token_testing import Issuer
from gateway.testing.harness import descriptor_set, make_app, serve_app
from services.product.main import SERVICE
from tools.dev.testing import find_ports
from tools.postgres.standby import Standby, make_durable, run_standby
from tools.postgres.testing import Databases, app_url

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "product"
SECONDS = 40.0
COMMAND = ("-m", "services.product.main")
PRODUCT = {
    "sku": "MUG-1",
    "name": "Mug",
    "price": {"currencyCode": "GBP", "units": "7"},
}


@pytest.fixture(scope="module")
def standby(databases: Databases, database_url: str) -> Iterator[Standby]:
    make_durable(database_url)
    with run_standby(databases.maintenance_url) as running:
        yield running


@asynccontextmanager
async def gateway(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the REST API of the products at a port, and yield a client once they are there."""
    files = descriptor_set(product_pb2.DESCRIPTOR)
    async with (
        serve_app(make_app(files, port)) as url,
        httpx.AsyncClient(base_url=url, timeout=SECONDS, trust_env=False) as client,
    ):
        async with asyncio.timeout(SECONDS):
            while not (await client.get("/v1/products")).is_success:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        yield client


def to_url(parameters: str) -> str:
    """Return the URL of a database from its parameters in libpq's other form."""
    found = conninfo.conninfo_to_dict(parameters)
    server = address(str(found["host"]), int(str(found["port"])))
    return f"postgresql://{found['user']}:{found['password']}@{server}/{found['dbname']}"


@asynccontextmanager
async def program(url: str, replica_url: str) -> AsyncIterator[int]:
    """Run the product service, and yield its port once it reads from the replica."""
    port, nobody = find_ports(2)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "BAZAAR_PLAINTEXT": "true",
        "PRODUCTSERVICE_HOST": "127.0.0.1",
        "PRODUCTSERVICE_PORT": str(port),
        "PRODUCTSERVICE_DATABASE_URL": to_url(url),
        "PRODUCTSERVICE_READ_DATABASE_URL": to_url(replica_url),
        "USERSERVICE_HOST": "127.0.0.1",
        "USERSERVICE_PORT": str(nobody),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *COMMAND, env=environment, stderr=PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(SECONDS):
            while b"replica_used" not in (line := await process.stderr.readline()):
                assert line, "it has ended"
        yield port
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def test_what_one_gateway_has_acknowledged_the_other_one_reads(
    database_url: str, standby: Standby
) -> None:
    url = app_url(database_url)
    issuer = Issuer()
    trusting = replace(SERVICE, make_verifier=lambda *_: issuer.verifier())
    server = trusting.make_server(Resources(Database(url)), "127.0.0.1:0")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(server))
        port = await stack.enter_async_context(program(url, standby.url(url)))
        writing = await stack.enter_async_context(gateway(server.port))
        writing.headers["Authorization"] = f"Bearer {issuer.token()}"
        reading = await stack.enter_async_context(gateway(port))
        created = (await writing.post("/v1/products", json=PRODUCT)).json()
        path = f"/v1/products/{created['productId']}"
        assert (await reading.get(path)).json() == created
        with standby.paused():
            changed = (await writing.patch(path, json={"name": "Cup"})).json()
            assert (await reading.get(path)).json() == changed != created
        standby.kill()
        try:
            assert (await reading.get(path)).json() == changed
            assert (await reading.get("/v1/products")).json() == {"products": [changed]}
        finally:
            standby.start()
