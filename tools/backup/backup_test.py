"""A shop is backed up while it is busy, and goes on elsewhere."""

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import conninfo

from bazaar.order.v1 import order_pb2
from chassis.database import Database
from migrations.schema import SchemaError, upgrade
from services.order.testing import Shop, Urls, audit, lose, make_due, new_order, read
from tools.postgres.server import Server
from tools.postgres.testing import Databases, clear
from tools.postgres.throwaway import run_throwaway_server

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

_HERE = Path(__file__).parent
_ACTIVE: LiteralString = "SELECT FROM orders WHERE next_at IS NOT NULL LIMIT 1"
_HIDDEN_EVENTS: LiteralString = (
    "SELECT count(*) FROM order_events WHERE xact_id >= pg_snapshot_xmin(pg_current_snapshot())"
)
"""The events that the feed of all orders does not hand out yet."""
_CUSTOMERS = 4
_UNITS = 1_000_000
_FIRST_ORDERS = 40
_RECOVERIES = 20
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def all_urls(urls: Urls, databases: Databases) -> Iterator[Urls]:
    """Yield the URLs of the five databases of a shop."""
    gateway = databases.create("gateway")
    yield {**urls, "gateway": gateway}
    databases.drop(gateway)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Server]:
    """Yield another server, whose transaction ids are lower."""
    with run_throwaway_server() as server:
        yield server


@pytest.fixture
def restored_urls(elsewhere: Server, all_urls: Urls) -> Urls:
    """Return the URLs of five databases that do not exist yet, on the other server."""
    prefix = f"shop_{uuid.uuid4().hex[:8]}"
    return {name: elsewhere.url(f"{prefix}_{name}") for name in all_urls}


def _login(url: str) -> str:
    """Return the URL with which the service opens a restored database."""
    parts = conninfo.conninfo_to_dict(url)
    role = f"{parts['dbname']}_app"
    return f"postgresql://{role}:{role}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def _run(
    program: str, urls: Urls, *arguments: str, logins: Mapping[str, str] | None = None
) -> Done:
    services = {name: f"{name.upper()}SERVICE_" if name != "gateway" else "" for name in urls}
    logins = logins or urls
    environment = {
        "BAZAAR_ENVIRONMENT": "development",
        "PATH": os.environ["PATH"],
        **{f"MIGRATIONS_{services[name]}DATABASE_URL": url for name, url in urls.items()},
        **{f"{services[name]}DATABASE_URL": url for name, url in logins.items()},
    }
    command = [str(_HERE / program), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


class RestoredShop(Shop):
    """A shop whose databases have names, and so roles, that no template has."""

    def make_database(self, name: str) -> Database:
        """Make the database of a service, which its server opens."""
        return Database(_login(self.urls[name]))

    async def recover(self) -> None:
        """Run the worker until no order is active, or it has had enough time."""
        for _ in range(_RECOVERIES):
            make_due(self.urls)
            await self.worker.run()
            if not read(self.urls["order"], _ACTIVE):
                return


@pytest.fixture
async def backed_up_shop(all_urls: Urls) -> AsyncIterator[Shop]:
    """Yield a running shop; its databases are cleared after the test."""
    async with AsyncExitStack() as stack:
        shop = Shop(all_urls, stack)
        await shop.open()
        yield shop
    for url in all_urls.values():
        clear(url)


class Customers:
    """They place orders, each one after the other, until they are told to stop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._tasks: list[asyncio.Task[None]] = []
        self._have_begun = asyncio.Event()
        self.acknowledged: list[str] = []
        """The orders that they were told about."""

    async def start(self) -> None:
        """Have them place some orders, the first of which is interrupted, and go on."""
        product_id = await self._shop.new_product(units=_UNITS)
        self._shop.hooks.once("before commit_stock", lose)
        for number in range(_CUSTOMERS):
            user_id = await self._shop.new_user(f"{number}@example.com")
            self._tasks.append(asyncio.create_task(self._buy(user_id, product_id)))
        begun = asyncio.create_task(self._have_begun.wait())
        await asyncio.wait([begun, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        assert begun.done(), [task.exception() for task in self._tasks if task.done()]

    async def stop(self) -> None:
        """Have them stop.

        Raises:
            AssertionError: An order failed.
        """
        for task in self._tasks:
            assert task.cancel(), task.exception()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _buy(self, user_id: str, product_id: str) -> None:
        for number in itertools.count():
            request = new_order(user_id, (product_id, 1), key=f"{user_id}-{number}")
            self.acknowledged.append((await self._shop.orders.CreateOrder(request)).order_id)
            if len(self.acknowledged) >= _FIRST_ORDERS:
                self._have_begun.set()


async def _back_up_while_customers_buy(shop: Shop, directory: Path) -> set[str]:
    """Back the shop up under load; return the orders that were placed before it began."""
    customers = Customers(shop)
    await customers.start()
    before = set(customers.acknowledged)
    done = await asyncio.to_thread(_run, "backup", shop.urls, str(directory))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(customers.acknowledged) > len(before), "nobody bought meanwhile"
    await customers.stop()
    return before


async def test_a_busy_shop_is_backed_up_and_goes_on_elsewhere(
    backed_up_shop: Shop, restored_urls: Urls, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    before = await _back_up_while_customers_buy(backed_up_shop, directory)
    logins = {name: _login(url) for name, url in restored_urls.items()}
    done = await asyncio.to_thread(_run, "restore", restored_urls, str(directory), logins=logins)
    assert (done.returncode, done.stderr) == (0, "")
    async with AsyncExitStack() as stack:
        shop = RestoredShop(restored_urls, stack)
        await shop.open()
        assert read(restored_urls["order"], _ACTIVE), "the backup has an order that is not final"
        await shop.recover()
        assert audit(restored_urls) == []
        assert read(restored_urls["order"], _HIDDEN_EVENTS) == [(0,)]
        confirmed = read(
            restored_urls["order"], "SELECT order_id::text FROM orders WHERE state = 'CONFIRMED'"
        )
        assert before <= {row[0] for row in confirmed}
        request = new_order(
            await shop.new_user("new@example.com"), (await shop.new_product("B"), 1)
        )
        order = await shop.orders.CreateOrder(request)
        assert order.state == order_pb2.ORDER_STATE_CONFIRMED


@pytest.fixture(scope="module")
def backup(all_urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a backup of an idle shop."""
    directory = tmp_path_factory.mktemp("backups") / "backup"
    done = _run("backup", all_urls, str(directory))
    assert (done.returncode, done.stderr) == (0, "")
    return directory


def _copy(backup: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(backup, tmp_path / "copy"))


def _exists(url: str) -> bool:
    name = conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(conninfo.make_conninfo(url, dbname="postgres")) as connection:
        query = "SELECT FROM pg_database WHERE datname = %s"
        return bool(connection.execute(query, [name]).rowcount)


def test_a_backup_is_for_its_owner_only(backup: Path) -> None:
    paths = [backup, *(path for path in backup.iterdir() if path.suffix == ".dump")]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


def test_a_directory_that_exists_is_not_overwritten(all_urls: Urls, tmp_path: Path) -> None:
    done = _run("backup", all_urls, str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert done.stderr == f"backup: {tmp_path} exists: name a new directory\n"


def test_a_failed_backup_leaves_nothing(all_urls: Urls, tmp_path: Path) -> None:
    done = _run("backup", {**all_urls, "order": f"{all_urls['order']}_"}, str(tmp_path / "backup"))
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_backup_left_is_named(all_urls: Urls, tmp_path: Path) -> None:
    unfinished = tmp_path / "backup.unfinished"
    unfinished.mkdir()
    done = _run("backup", all_urls, str(tmp_path / "backup"))
    message = f"{unfinished} exists: remove it, unless another backup is in progress"
    assert (done.returncode, done.stderr) == (1, f"backup: {message}\n")
    assert list(tmp_path.iterdir()) == [unfinished]


@pytest.fixture
def refuse(restored_urls: Urls) -> Callable[[Path], str]:
    """Return what restores a backup, sees that nothing was made, and returns the message."""

    def run(directory: Path) -> str:
        done = _run("restore", restored_urls, str(directory))
        assert done.returncode == 1
        for url in restored_urls.values():
            assert not _exists(url)
        return done.stderr

    return run


def test_a_damaged_file_is_not_restored(
    backup: Path, tmp_path: Path, refuse: Callable[[Path], str]
) -> None:
    copy = _copy(backup, tmp_path)
    path = copy / "payment.dump"
    path.write_bytes(path.read_bytes()[:-1])
    assert (
        refuse(copy) == f"restore: {path} is not the file that was written: its SHA-256 differs\n"
    )


def test_a_backup_without_a_manifest_is_not_restored(
    backup: Path, tmp_path: Path, refuse: Callable[[Path], str]
) -> None:
    copy = _copy(backup, tmp_path)
    (copy / "manifest.json").unlink()
    assert "is no complete backup" in refuse(copy)


def test_a_file_that_cannot_be_loaded_is_an_error(
    backup: Path, restored_urls: Urls, tmp_path: Path
) -> None:
    copy = _copy(backup, tmp_path)
    (copy / "payment.dump").write_bytes(b"")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["databases"]["payment"]["sha256"] = hashlib.sha256().hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    logins = {name: _login(url) for name, url in restored_urls.items()}
    done = _run("restore", restored_urls, str(copy), logins=logins)
    database = conninfo.conninfo_to_dict(restored_urls["payment"])["dbname"]
    assert done.returncode == 1
    assert done.stderr.startswith(f"restore: {database}: pg_restore: error: ")
    # Otherwise a shop would start with those that were restored before, and with empty ones.
    for name, url in restored_urls.items():
        with pytest.raises(SchemaError, match="its restore was interrupted"):
            upgrade(name, url)


def test_a_backup_of_a_later_version_is_not_restored(
    backup: Path, tmp_path: Path, refuse: Callable[[Path], str]
) -> None:
    copy = _copy(backup, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["databases"]["gateway"]["revision"] = "9999"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "gateway: the backup is at revision 9999, which is unknown here" in refuse(copy)


def test_a_database_with_tables_is_not_restored_into(
    backup: Path, all_urls: Urls, restored_urls: Urls
) -> None:
    done = _run("restore", {**restored_urls, "gateway": all_urls["gateway"]}, str(backup))
    assert done.returncode == 1
    assert done.stderr.startswith("restore: gateway: the database has tables")
    assert not _exists(restored_urls["user"])


def test_a_restored_database_belongs_to_its_owner_and_the_service_may_not_change_its_ledger(
    backup: Path, restored_urls: Urls
) -> None:
    logins = {name: _login(url) for name, url in restored_urls.items()}
    done = _run("restore", restored_urls, str(backup), logins=logins)
    assert (done.returncode, done.stderr) == (0, "")
    with psycopg.connect(logins["payment"]) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM transactions")
        connection.rollback()
        owners = (
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'sandbox')"
        )
        database = conninfo.conninfo_to_dict(restored_urls["payment"])["dbname"]
        assert connection.execute(owners).fetchall() == [(f"{database}_owner",)]
