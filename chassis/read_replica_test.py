"""Reads from a replica that lags, is gone or follows another server miss nothing acknowledged.

Each `Database` stands for a process: what one has written, another one reads.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from chassis import call_context, errors, read_replica
from chassis.database import Connection, Database
from chassis.testing import Events
from tools.postgres.freezing import find_server, frozen, list_backends
from tools.postgres.standby import Standby, fenced, make_durable, run_standby
from tools.postgres.testing import Databases, connect
from tools.postgres.throwaway import run_throwaway_server

pytest_plugins = ("tools.postgres.testing", "chassis.testing")
DATABASE = "user"
SECONDS = 20.0
SLACK_SECONDS = 1.0
WRITES = 100


@pytest.fixture(autouse=True)
def probe_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_replica, "PROBE_INTERVAL_SECONDS", 0.05)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reads wait for the replica, however busy this machine is."""
    monkeypatch.setattr(read_replica, "CATCH_UP_SECONDS", SECONDS)
    monkeypatch.setattr(read_replica, "CHECKOUT_SECONDS", SECONDS)


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    make_durable(database_url)
    connect(database_url).execute("CREATE TABLE counters (number integer NOT NULL)")
    return database_url


@pytest.fixture(scope="module")
def standby(databases: Databases, url: str) -> Iterator[Standby]:
    with run_standby(databases.maintenance_url) as running:
        yield running


@pytest.fixture(autouse=True)
def no_counters(url: str) -> None:
    connect(url).execute("DELETE FROM counters")


@asynccontextmanager
async def opened(url: str, replica_url: str) -> AsyncIterator[Database]:
    database = Database(url, connections=5, replica_url=replica_url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def processes(url: str, standby: Standby) -> AsyncIterator[tuple[Database, Database]]:
    """Yield two that read from the replica."""
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(opened(url, standby.url(url))) for _ in range(2)
        ]
        for database in (first, second):
            await wait_until_used(database, standby)
        yield first, second


async def read(connection: Connection) -> tuple[int, int]:
    """Return the port of the server that serves this, and the highest counter."""
    query = "SELECT inet_server_port(), coalesce(max(number), 0) FROM counters"
    port, number = await (await connection.execute(query)).fetchone() or (0, 0)
    return port, number


async def write(database: Database, number: int) -> None:
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO counters VALUES (%s)", (number,))


async def wait_until_used(database: Database, standby: Standby) -> None:
    async with asyncio.timeout(SECONDS):
        while (await database.read(read))[0] != standby.server.port:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def list_events(events: Events) -> Events:
    """Return those about replicas."""
    return [event for event in events if event["event"].startswith("replica_")]


async def find_cause(events: Events, url: str, replica_url: str) -> str:
    """Return why a replica is left out from the beginning; its primary serves what was written."""
    async with opened(url, replica_url) as database:
        await write(database, 1)
        async with asyncio.timeout(SECONDS):
            while not (found := list_events(events)):  # noqa: ASYNC110 - the list only grows.
                await asyncio.sleep(0.01)
        assert await database.read(read) == (port_of(url), 1)
    return str(found[0].get("cause"))


def port_of(url: str) -> int:
    return int(str(conninfo.conninfo_to_dict(url)["port"]))


@pytest.mark.usefixtures("patience")
async def test_reads_are_served_by_the_replica(
    processes: tuple[Database, Database], standby: Standby
) -> None:
    for database in processes:
        results = await asyncio.gather(*(database.read(read) for _ in range(20)))
        assert set(results) == {(standby.server.port, 0)}


async def test_another_process_reads_a_write_while_replay_is_paused(
    processes: tuple[Database, Database], standby: Standby, url: str
) -> None:
    writing, reading = processes
    with standby.paused():
        await write(writing, 1)
        with psycopg.connect(standby.url(url)) as connection:
            assert connection.execute("SELECT count(*) FROM counters").fetchone() == (0,)
        for database in processes:
            assert await database.read(read) == (port_of(url), 1)
    await wait_until_used(reading, standby)
    assert (await reading.read(read))[1] == 1


@pytest.mark.usefixtures("patience")
async def test_reads_miss_no_write_while_the_replica_lags(
    processes: tuple[Database, Database], standby: Standby
) -> None:
    """The replica replays each commit 10 ms after it was made."""
    writing, reading = processes
    acknowledged = 0
    ports = set()

    async def keep_reading() -> None:
        while acknowledged < WRITES:
            expected = acknowledged
            port, number = await reading.read(read)
            assert number >= expected
            ports.add(port)

    with standby.delayed("10ms"):
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(keep_reading())
            for number in range(1, WRITES + 1):
                await write(writing, number)
                acknowledged = number
    assert ports == {standby.server.port}


async def test_replica_that_lags_delays_few_reads_and_none_for_long(
    processes: tuple[Database, Database], standby: Standby, url: str
) -> None:
    writing, reading = processes
    with standby.paused():
        await write(writing, 1)
        began = time.monotonic()
        for _ in range(20):
            assert await reading.read(read) == (port_of(url), 1)
        assert time.monotonic() - began < 10 * read_replica.CATCH_UP_SECONDS


async def test_reads_go_on_while_the_replica_is_killed_and_comes_back(
    events: Events, processes: tuple[Database, Database], standby: Standby
) -> None:
    writing, reading = processes
    standby.kill()
    try:
        await write(writing, 1)
        results = await asyncio.gather(*(reading.read(read) for _ in range(20)))
        assert {number for _, number in results} == {1}
    finally:
        standby.start()
    for database in processes:
        await wait_until_used(database, standby)
    names = [event["event"] for event in list_events(events)]
    assert sorted(names) == 2 * ["replica_left_out"] + 4 * ["replica_used"]


async def test_frozen_replica_holds_reads_up_for_a_limited_time(
    processes: tuple[Database, Database],
    standby: Standby,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_replica, "READ_SECONDS", 0.3)
    replica_url = standby.url(url)
    with frozen([find_server(replica_url), *list_backends(replica_url)]):
        began = time.monotonic()
        results = await asyncio.gather(*(processes[0].read(read) for _ in range(20)))
        assert set(results) == {(port_of(url), 0)}
        assert time.monotonic() - began < 0.3 + SLACK_SECONDS


async def test_frozen_primary_holds_reads_up_to_their_deadline(
    processes: tuple[Database, Database], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_replica, "QUERY_SECONDS", SECONDS)
    with frozen([find_server(url), *list_backends(url)]):
        began = time.monotonic()
        with call_context.time_limit(0.5), pytest.raises(errors.Unavailable):
            await processes[0].read(read)
        assert time.monotonic() - began < 0.5 + SLACK_SECONDS


@pytest.mark.usefixtures("patience")
async def test_read_that_is_too_slow_leaves_time_to_the_primary_and_the_replica_to_others(
    events: Events, processes: tuple[Database, Database], standby: Standby, url: str
) -> None:
    async def read_slowly(connection: Connection) -> tuple[int, int]:
        """The replica takes longer than there is time."""
        await connection.execute(
            "SELECT pg_sleep(60) WHERE inet_server_port() = %s", (standby.server.port,)
        )
        return await read(connection)

    began = time.monotonic()
    with call_context.time_limit(2.0):
        assert await processes[0].read(read_slowly) == (port_of(url), 0)
    assert time.monotonic() - began < 1.9
    assert {event["event"] for event in list_events(events)} == {"replica_used"}


@pytest.mark.usefixtures("patience")
async def test_query_that_replay_cancels_is_repeated_on_the_primary(
    events: Events, processes: tuple[Database, Database], standby: Standby, url: str
) -> None:
    started = asyncio.Event()

    async def read_twice(connection: Connection) -> tuple[int, int]:
        async with connection.transaction():
            await read(connection)
            started.set()
            await connection.execute(
                "SELECT pg_sleep(60) WHERE inet_server_port() = %s", (standby.server.port,)
            )
            return await read(connection)

    reading = asyncio.create_task(processes[0].read(read_twice))
    await started.wait()
    # Its lock conflicts with that of the read.
    connect(url).execute("TRUNCATE counters")
    assert await reading == (port_of(url), 0)
    assert {event["event"] for event in list_events(events)} == {"replica_used"}


async def test_read_shares_no_query_that_began_before_it(
    processes: tuple[Database, Database], standby: Standby, url: str
) -> None:
    """The response to the first read's query is there, but nobody has looked at it yet."""
    reading = processes[0]
    with standby.paused(), psycopg.connect(url, autocommit=True) as other:
        before = find_last_query(other)
        first = asyncio.create_task(reading.read(read))
        while find_last_query(other) in (before, None):  # noqa: ASYNC110 - only a step at a time.
            await asyncio.sleep(0)
        # This thread does nothing else meanwhile.
        other.execute("INSERT INTO counters VALUES (1)")
        assert (await reading.read(read))[1] == 1
        await first


def find_last_query(connection: psycopg.Connection) -> Any:
    """Return when the last query for the end of the log began; None while one is in progress."""
    query = (
        "SELECT max(query_start) FROM pg_stat_activity WHERE query = %s"
        " HAVING every(state = 'idle')"
    )
    row = connection.execute(query, (read_replica.LOG_END,)).fetchone()
    return row and row[0]


async def test_concurrent_reads_share_the_queries_to_the_primary(
    processes: tuple[Database, Database], statements: list[object]
) -> None:
    await asyncio.gather(*(processes[0].read(read) for _ in range(50)))
    # One that had begun, one for all, and those of the probes meanwhile.
    assert statements.count(read_replica.LOG_END) < 10


@pytest.mark.usefixtures("patience")
async def test_read_that_is_cancelled_leaves_the_others(
    processes: tuple[Database, Database], standby: Standby
) -> None:
    reads = [asyncio.create_task(processes[0].read(read)) for _ in range(3)]
    await asyncio.sleep(0)
    reads[0].cancel()
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == 2 * [(standby.server.port, 0)]


async def test_replica_of_another_timeline_is_not_used(
    events: Events, databases: Databases, url: str, standby: Standby
) -> None:
    """It is ahead, and misses what was written since the failover."""
    with run_standby(databases.maintenance_url) as new_primary:
        with psycopg.connect(new_primary.server.url("postgres")) as connection:
            connection.execute("SELECT pg_promote()")
        connect(url).execute("INSERT INTO counters SELECT -n FROM generate_series(1, 5_000) AS n")
        async with opened(url, standby.url(url)) as database:
            await wait_until_used(database, standby)
        events.clear()
        cause = await find_cause(events, new_primary.url(url), standby.url(url))
    assert cause == "the replica follows another server, or another timeline of it"


async def test_replica_of_another_server_is_not_used(
    events: Events, url: str, standby: Standby
) -> None:
    """The primary was restored from a dump, and its log has only begun."""
    with run_throwaway_server() as restored:
        restored_url = restored.url("postgres")
        with psycopg.connect(restored_url) as connection:
            connection.execute("CREATE TABLE counters (number integer)")
        cause = await find_cause(events, restored_url, standby.url(url))
    assert cause == "the replica follows another server, or another timeline of it"


@pytest.mark.usefixtures("patience")
async def test_replica_of_a_server_that_takes_no_more_writes_is_not_used(
    processes: tuple[Database, Database], standby: Standby, url: str
) -> None:
    """The primary has failed over, and others write elsewhere."""
    async with asyncio.timeout(SECONDS):
        with fenced(url):
            while {(await processes[0].read(read))[0] for _ in range(10)} != {port_of(url)}:
                pass
        await wait_until_used(processes[0], standby)


async def test_primary_is_no_replica_of_itself(events: Events, url: str) -> None:
    assert await find_cause(events, url, url) == "the server is not a replica"
