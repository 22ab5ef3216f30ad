"""A database that fails over: for a while its name leads to a server that takes no writes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from psycopg import conninfo

from chassis import errors
from chassis.database import Connection, Database
from tools.postgres.standby import Standby, fenced, run_standby
from tools.postgres.testing import Databases, connect

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
SECONDS = 20.0


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    connect(database_url).execute("CREATE TABLE counters (number integer NOT NULL)")
    return database_url


@pytest.fixture(scope="module")
def standby(databases: Databases, url: str) -> Iterator[Standby]:
    with run_standby(databases.maintenance_url) as running:
        yield running


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, connections=1)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def write(connection: Connection) -> None:
    await connection.execute("INSERT INTO counters VALUES (1)")


async def test_a_server_that_takes_no_writes_is_not_used(url: str, standby: Standby) -> None:
    async with opened(standby.url(url)) as database:
        with pytest.raises(errors.Unavailable) as raised:
            await database.check()
        assert "session is read-only" in str(raised.value.__cause__)
        with pytest.raises(errors.Unavailable):
            async with database.connection() as connection:
                await write(connection)


async def test_the_one_that_takes_writes_is_used_of_several_servers(
    url: str, standby: Standby
) -> None:
    primary = conninfo.conninfo_to_dict(url)
    hosts, ports = (f"{getattr(standby.server, name)},{primary[name]}" for name in ("host", "port"))
    async with opened(conninfo.make_conninfo(url, host=hosts, port=ports)) as database:
        await database.check()
        async with database.connection() as connection:
            await write(connection)


async def test_a_server_that_takes_no_more_writes_is_left(url: str) -> None:
    async with opened(url) as database:
        async with database.connection() as connection:
            await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(errors.Unavailable):
            async with database.connection() as connection:
                await write(connection)
        async with database.connection() as connection:
            await write(connection)


async def test_a_server_that_takes_no_more_writes_is_left_by_reads_as_well(url: str) -> None:
    async with opened(url) as database, asyncio.timeout(SECONDS):
        await database.check()
        before = await find_process(database)
        with fenced(url):
            while await takes_writes(database):
                pass
        while not await takes_writes(database):
            pass
        assert await find_process(database) != before


async def takes_writes(database: Database) -> bool:
    try:
        await database.check()
    except errors.Unavailable:
        return False
    return True


async def find_process(database: Database) -> object:
    """Return the process of the server that serves the only connection."""
    async with database.connection() as connection:
        return await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
