"""A database that is slow, in full use, frozen or gone: every wait ends, and nothing is lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from urllib.parse import quote

import pytest

from chassis import call_context, connection_pool, database, errors
from chassis.database import Database
from tools.postgres.freezing import find_server, frozen, frozen_backends, list_backends

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
CONNECTIONS = 3
FULL_QUEUE = CONNECTIONS * connection_pool.WAITING_PER_CONNECTION
SLACK_SECONDS = 1.0
"""How much later than its deadline a call may end."""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    made = Database(url, connections=CONNECTIONS)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def shop(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as made:
        yield made


async def ask(made: Database, seconds: float, query: str = "SELECT 1") -> None:
    """Run a query in a transaction, as a call with so many seconds to go would."""
    with call_context.time_limit(seconds):
        async with made.transaction() as connection:
            await connection.execute(query.encode())


async def fill_pool(made: Database) -> None:
    await asyncio.gather(*(ask(made, 10, "SELECT pg_sleep(0.1)") for _ in range(CONNECTIONS)))


async def wait_for_backends(url: str, count: int) -> None:
    """Return when the services have so many connections to a database."""
    async with asyncio.timeout(10):
        while len(list_backends(url)) != count:  # noqa: ASYNC110 - another process closes them.
            await asyncio.sleep(0.02)


async def test_statement_that_outlasts_its_deadline_is_cancelled(
    shop: Database, database_url: str
) -> None:
    await fill_pool(shop)
    before = set(list_backends(database_url))
    with pytest.raises(errors.DeadlineExceeded) as raised:
        await ask(shop, 0.2, "SELECT pg_sleep(60)")
    assert raised.value.reason == "QUERY_CANCELED"
    # The server has confirmed that it stopped, so the connection is still good.
    await ask(shop, 10)
    assert set(list_backends(database_url)) == before


async def test_statement_without_a_deadline_has_a_limit(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "STATEMENT_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        async with shop.connection() as connection:
            await connection.execute("SELECT pg_sleep(60)")
    # Sooner than the server's own limit.
    assert time.monotonic() - began < 0.2 + SLACK_SECONDS


@pytest.mark.parametrize(
    "name",
    [
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "client_connection_check_interval",
    ],
)
async def test_server_has_a_limit_of_its_own(shop: Database, name: str) -> None:
    async with shop.connection() as connection:
        (limit,) = await (await connection.execute(f"SHOW {name}".encode())).fetchone() or ("0",)
    assert limit != "0"


async def test_options_in_the_url_are_kept_and_win(database_url: str) -> None:
    options = quote("-c work_mem=5MB -c statement_timeout=7s")
    async with opened(f"{database_url}?options={options}") as shop, shop.connection() as connection:
        shown = [
            await (await connection.execute(f"SHOW {name}".encode())).fetchone()
            for name in ("work_mem", "statement_timeout", "client_connection_check_interval")
        ]
    assert shown == [("5MB",), ("7s",), ("1s",)]


async def test_connection_notices_a_dead_network(shop: Database) -> None:
    async with shop.connection() as connection:
        parameters = connection.info.get_parameters()
    assert 0 < int(parameters["tcp_user_timeout"]) <= 10_000
    assert {"keepalives_idle", "keepalives_interval", "keepalives_count"} <= parameters.keys()


async def test_frozen_backends_delay_no_call_beyond_its_deadline(
    shop: Database, database_url: str
) -> None:
    await fill_pool(shop)
    with frozen_backends(database_url):
        began = time.monotonic()
        calls = [ask(shop, 0.5) for _ in range(3 * CONNECTIONS)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 0.5 + SLACK_SECONDS
        assert {type(result) for result in results} == {errors.Unavailable}


async def test_call_that_is_cancelled_does_not_wait_for_a_frozen_backend(
    shop: Database, database_url: str
) -> None:
    await fill_pool(shop)
    with frozen_backends(database_url):
        call = asyncio.create_task(ask(shop, 60))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert time.monotonic() - began < SLACK_SECONDS


async def test_connections_that_froze_are_replaced(shop: Database, database_url: str) -> None:
    await fill_pool(shop)
    with frozen_backends(database_url):
        calls = [ask(shop, 0.2) for _ in range(CONNECTIONS)]
        await asyncio.gather(*calls, return_exceptions=True)
        # New connections work, while the old ones are still stopped.
        await fill_pool(shop)
    await fill_pool(shop)
    await wait_for_backends(database_url, CONNECTIONS)


async def test_probe_that_freezes_spares_later_calls(shop: Database, database_url: str) -> None:
    await shop.check()
    await fill_pool(shop)
    with frozen_backends(database_url):
        began = time.monotonic()
        with pytest.raises(errors.Unavailable):
            await shop.check()
        assert time.monotonic() - began < database.PROBE_SECONDS + SLACK_SECONDS
        await asyncio.gather(*(ask(shop, 10) for _ in range(CONNECTIONS)))
        await shop.check()
    await wait_for_backends(database_url, CONNECTIONS + 1)


async def test_frozen_server_delays_no_call_and_is_used_again_at_once(
    shop: Database, database_url: str
) -> None:
    await fill_pool(shop)
    with frozen([find_server(database_url), *list_backends(database_url)]):
        began = time.monotonic()
        results = await asyncio.gather(
            *(ask(shop, 0.3) for _ in range(FULL_QUEUE + 50)), shop.check(), return_exceptions=True
        )
        assert time.monotonic() - began < database.PROBE_SECONDS + SLACK_SECONDS
        assert {type(result) for result in results} == {errors.Unavailable}
        # Two attempts of 2 s: the pool gives up connecting, full of calls that wait no more.
        await asyncio.sleep(connection_pool.RECONNECT_SECONDS + 5)
    async with asyncio.timeout(2):
        while True:
            try:
                await ask(shop, 1)
                break
            except errors.Unavailable:
                await asyncio.sleep(0.02)
    await shop.check()


async def test_call_without_a_deadline_is_refused_soon_in_a_known_outage(
    database_url: str,
) -> None:
    async with opened(database_url) as shop:
        await shop.check()
        with frozen([find_server(database_url), *list_backends(database_url)]):
            with pytest.raises(errors.Unavailable):
                await shop.check()
            began = time.monotonic()
            with pytest.raises(errors.Unavailable):
                async with shop.connection():
                    pass
            assert time.monotonic() - began < database.OUTAGE_CHECKOUT_SECONDS + SLACK_SECONDS


async def test_calls_beyond_a_bounded_queue_are_refused_at_once(shop: Database) -> None:
    async with AsyncExitStack() as all_connections:
        for _ in range(CONNECTIONS):
            await all_connections.enter_async_context(shop.connection())
        queued = [asyncio.create_task(ask(shop, 10)) for _ in range(FULL_QUEUE)]
        await asyncio.sleep(0)
        with pytest.raises(errors.Unavailable) as raised:
            await ask(shop, 10)
        assert raised.value.reason == "DATABASE_BUSY"
        assert not any(call.done() for call in queued)
    await asyncio.gather(*queued)


async def test_transaction_that_is_cancelled_leaves_no_connection_behind(
    shop: Database, database_url: str
) -> None:
    await fill_pool(shop)
    before = set(list_backends(database_url))
    for _ in range(2 * CONNECTIONS):
        call = asyncio.create_task(ask(shop, 60, "SELECT pg_sleep(60)"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
    await fill_pool(shop)
    assert set(list_backends(database_url)) == before


async def test_check_fails_when_the_database_cannot_be_reached() -> None:
    async with opened(NOWHERE) as nowhere:
        with pytest.raises(errors.Unavailable) as raised:
            await nowhere.check()
    assert raised.value.reason == "DATABASE_UNAVAILABLE"


async def test_many_concurrent_checks_are_one_and_find_no_outage(shop: Database) -> None:
    """One after the other, they would take longer than one may."""
    await fill_pool(shop)
    await asyncio.gather(*(shop.check() for _ in range(10_000)))


async def test_check_that_is_cancelled_leaves_the_others(shop: Database) -> None:
    checks = [asyncio.create_task(shop.check()) for _ in range(2)]
    await asyncio.sleep(0)
    checks[0].cancel()
    await asyncio.wait(checks)
    assert [check.cancelled() for check in checks] == [True, False]
    await checks[1]


async def test_close_does_not_wait_for_a_frozen_backend(database_url: str) -> None:
    made = Database(database_url, connections=CONNECTIONS)
    await made.open()
    await made.check()
    await fill_pool(made)
    with frozen_backends(database_url):
        began = time.monotonic()
        await made.close()
        assert time.monotonic() - began < SLACK_SECONDS
    await wait_for_backends(database_url, 0)


async def test_close_waits_for_a_check_in_progress(database_url: str) -> None:
    made = Database(database_url)
    await made.open()
    await made.check()
    checking = asyncio.create_task(made.check())
    await asyncio.sleep(0)
    await made.close()
    assert checking.done()
    await checking


async def test_server_that_may_lose_commits_is_refused(database_url: str) -> None:
    """The server of the tests is one, and is allowed by its own setting."""
    options = quote("-c bazaar.allow_data_loss=off")
    async with opened(f"{database_url}?options={options}") as made:
        with pytest.raises(errors.Unavailable) as probed:
            await made.check()
        assert probed.value.reason == "DATABASE_NOT_DURABLE"
        names = "fsync, full_page_writes, synchronous_commit"
        assert probed.value.message == f"the server may lose commits: turn on {names}"
        with pytest.raises(errors.Unavailable):
            await ask(made, 0.5)


async def test_listening_ends_when_the_server_is_frozen_or_gone(database_url: str) -> None:
    for url in (database_url, NOWHERE):
        async with opened(url) as made:
            with frozen([find_server(database_url), *list_backends(database_url)]):
                began = time.monotonic()
                with pytest.raises(errors.Unavailable):
                    await anext(made.listen("events"))
                # psycopg tries to connect for 2 s.
                assert time.monotonic() - began < 2 + SLACK_SECONDS


async def test_listening_yields_for_a_notification_and_without_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(database_url) as made, aclosing(made.listen("events")) as notifications:
        await anext(notifications)
        monkeypatch.setattr(database, "POLL_SECONDS", 1_000)
        async with made.connection() as connection:
            await connection.execute("NOTIFY events")
        async with asyncio.timeout(10):
            await anext(notifications)
        monkeypatch.setattr(database, "POLL_SECONDS", 0.01)
        async with asyncio.timeout(10):
            await anext(notifications)
