"""A shop is backed up while it is busy, and goes on elsewhere."""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from bazaar.order.v1 import order_pb2
from chassis.database import Database
from services.order.testing import Shop, Urls, audit, make_due, new_order, read
from tools.postgres.testing import Databases, clear

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

_HERE = Path(__file__).parent
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


@pytest.fixture
def restored_urls(databases: Databases, all_urls: Urls) -> Iterator[Urls]:
    """Yield the URLs of five databases that do not exist yet."""
    made = {name: databases.create_empty() for name in all_urls}
    for url in made.values():
        databases.drop(url)
    yield made
    for url in made.values():
        if _exists(url, databases.maintenance_url):
            databases.drop(url)


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
            if not read(self.urls["order"], "SELECT FROM orders WHERE next_at IS NOT NULL LIMIT 1"):
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


async def _buy(shop: Shop, user_id: str, product_id: str, acknowledged: list[str]) -> None:
    """Place orders one after the other until the task is cancelled."""
    for number in itertools.count():
        request = new_order(user_id, (product_id, 1), key=f"{user_id}-{number}")
        acknowledged.append((await shop.orders.CreateOrder(request)).order_id)


async def _back_up_while_customers_buy(shop: Shop, directory: Path) -> set[str]:
    """Back the shop up under load; return the orders that were placed before it began."""
    product_id = await shop.new_product(units=_UNITS)
    acknowledged: list[str] = []
    users = [await shop.new_user(f"{number}@example.com") for number in range(_CUSTOMERS)]
    customers = [asyncio.create_task(_buy(shop, user, product_id, acknowledged)) for user in users]
    while len(acknowledged) < _FIRST_ORDERS:
        await asyncio.sleep(0)
        for customer in customers:
            assert not customer.done(), customer.exception()
    before = set(acknowledged)
    done = await asyncio.to_thread(_run, "backup", shop.urls, str(directory))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(acknowledged) > len(before), "nobody bought meanwhile"
    for customer in customers:
        assert customer.cancel(), customer.exception()
    await asyncio.gather(*customers, return_exceptions=True)
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
        await shop.recover()
        assert audit(restored_urls) == []
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


def _exists(url: str, maintenance_url: str) -> bool:
    name = conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(maintenance_url) as connection:
        query = "SELECT FROM pg_database WHERE datname = %s"
        return bool(connection.execute(query, [name]).rowcount)


def test_a_backup_is_for_its_owner_only(backup: Path) -> None:
    paths = [backup, *(path for path in backup.iterdir() if path.suffix == ".dump")]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


def test_a_directory_that_exists_is_not_overwritten(all_urls: Urls, tmp_path: Path) -> None:
    done = _run("backup", all_urls, str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert done.stderr == f"backup: {tmp_path} exists: name a new directory\n"


def test_a_failed_backup_is_not_taken_for_one(all_urls: Urls, tmp_path: Path) -> None:
    done = _run("backup", {**all_urls, "order": f"{all_urls['order']}_"}, str(tmp_path / "backup"))
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["backup.unfinished"]


@pytest.fixture
def refuse(restored_urls: Urls, databases: Databases) -> Callable[[Path], str]:
    """Return what restores a backup, sees that nothing was made, and returns the message."""

    def run(directory: Path) -> str:
        done = _run("restore", restored_urls, str(directory))
        assert done.returncode == 1
        for url in restored_urls.values():
            assert not _exists(url, databases.maintenance_url)
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


def test_a_backup_of_a_later_version_is_not_restored(
    backup: Path, tmp_path: Path, refuse: Callable[[Path], str]
) -> None:
    copy = _copy(backup, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["databases"]["gateway"]["revision"] = "9999"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "gateway: the backup is at revision 9999, which is unknown here" in refuse(copy)


def test_a_database_with_tables_is_not_restored_into(
    backup: Path, all_urls: Urls, restored_urls: Urls, databases: Databases
) -> None:
    done = _run("restore", {**restored_urls, "gateway": all_urls["gateway"]}, str(backup))
    assert done.returncode == 1
    assert done.stderr.startswith("restore: gateway: the database has tables")
    assert not _exists(restored_urls["user"], databases.maintenance_url)


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
