"""The life of the whole shop: up, down, up again, and all that may go wrong on the way."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from migrations import schema
from migrations.roles import Roles
from tools.dev.testing import HOST_VARIABLES, ShopProcess, open_environment, wait_until
from tools.postgres.freezing import APPLICATION_NAME
from tools.postgres.testing import Databases
from tools.postgres.throwaway import run_throwaway_server

pytest_plugins = ("tools.postgres.testing",)


@pytest.fixture(scope="module")
def shared_environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment:
        yield environment


@pytest.fixture(scope="module")
def shop(shared_environment: dict[str, str]) -> Iterator[ShopProcess]:
    with ShopProcess(shared_environment, "--seed") as shop:
        shop.wait_until_ready()
        yield shop


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment:
        yield environment


def test_seed_is_there_and_hints_work(shop: ShopProcess) -> None:
    assert "12 of 12 products, 1 of 1 users added" in shop.output
    assert shop.count_products() == 12
    assert f"curl {shop.url}/v1/products" in shop.output


def test_a_second_runner_on_the_same_data_is_refused(
    shop: ShopProcess, shared_environment: dict[str, str]
) -> None:
    with ShopProcess(shared_environment) as second:
        assert second.wait() == 1
    assert f"is in use by another run, process {shop.process_id}" in second.output
    assert shop.count_products() == 12, "the first one is not disturbed"


def test_all_ports_in_use_are_reported_at_once(
    shop: ShopProcess, shared_environment: dict[str, str], tmp_path: Path
) -> None:
    other_data = {**shared_environment, "BUILD_WORKSPACE_DIRECTORY": str(tmp_path)}
    with ShopProcess(other_data) as second:
        assert second.wait() == 1
    for name in ("POSTGRES", "USERSERVICE", "ORDERSERVICE", "APIGATEWAY"):
        assert re.search(
            rf"in use by process \d+ \(.*\): end that, or set {name}_PORT", second.output
        )
    assert not (tmp_path / ".data" / "postgres").exists(), "nothing was started"
    assert shop.find_processes()


@pytest.mark.parametrize(
    ("name", "variable"), [("user", "USERSERVICE_PORT"), ("gateway", "APIGATEWAY_PORT")]
)
def test_what_dies_is_restarted(shop: ShopProcess, name: str, variable: str) -> None:
    os.kill(shop.find_listener(variable), signal.SIGKILL)
    shop.wait_for(f"{name} was killed by SIGKILL")
    shop.wait_for(f"{name} is ready again")
    wait_until(lambda: shop.get("/readyz").status_code == httpx.codes.OK)
    with shop.open_admin() as admin:
        assert admin.get("/v1/users").json()["users"]


def test_a_database_that_dies_is_restarted_with_its_data(shop: ShopProcess) -> None:
    os.kill(shop.find_listener("POSTGRES_PORT"), signal.SIGKILL)
    shop.wait_for("postgres is ready again")
    wait_until(lambda: shop.get("/readyz").status_code == httpx.codes.OK)
    assert shop.count_products() == 12


def test_each_program_connects_as_the_role_of_its_own_database(
    shop: ShopProcess, shared_environment: dict[str, str]
) -> None:
    server = f"127.0.0.1:{shared_environment['POSTGRES_PORT']}"
    query = "SELECT DISTINCT datname, usename FROM pg_stat_activity WHERE application_name = %s"
    with psycopg.connect(f"postgresql://shop:secret@{server}/postgres") as connection:
        found = connection.execute(query, [APPLICATION_NAME]).fetchall()
    assert set(found) == {(f"{name}db", f"{name}db_app") for name in schema.DATABASES}
    password = shared_environment["USERSERVICE_DATABASE_PASSWORD"]
    user_service = f"host=127.0.0.1 port={shared_environment['POSTGRES_PORT']} user=userdb_app"
    for refused in (
        f"dbname=userdb password='not {password}'",
        f"dbname=orderdb password='{password}'",
    ):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"{user_service} {refused}")
    psycopg.connect(f"{user_service} dbname=userdb password='{password}'").close()


def test_the_shop_runs_on_ipv6(environment: dict[str, str]) -> None:
    environment |= dict.fromkeys(HOST_VARIABLES, "::1")
    with ShopProcess(environment, "--seed") as shop:
        shop.wait_until_ready()
        assert shop.url.startswith("http://[::1]:")
        assert shop.count_products() == 12
        assert shop.stop() == 0


def test_a_misspelt_setting_is_refused_before_anything_starts(environment: dict[str, str]) -> None:
    environment["ORDERSERVICE_DATABSE_URL"] = "postgresql://hunter2@elsewhere/orders"
    with ShopProcess(environment) as shop:
        assert shop.wait() == 78
    assert "did you mean ORDERSERVICE_DATABASE_URL?" in shop.output
    assert "hunter2" not in shop.output


def test_bad_settings_are_named_and_nothing_starts(environment: dict[str, str]) -> None:
    environment["ORDERSERVICE_PORT"] = "70000"
    del environment["POSTGRES_USER"]
    with ShopProcess(environment) as shop:
        assert shop.wait() == 78
    assert "ORDERSERVICE_PORT: " in shop.output
    assert "POSTGRES_USER: " in shop.output
    assert "70000" not in shop.output
    assert list(Path(environment["BUILD_WORKSPACE_DIRECTORY"]).iterdir()) == []


def test_urls_point_at_an_existing_server(
    environment: dict[str, str], databases: Databases
) -> None:
    urls = {name: databases.create_empty() for name in schema.DATABASES}
    for name, url in urls.items():
        variable = "DATABASE_URL" if name == "gateway" else f"{name.upper()}SERVICE_DATABASE_URL"
        environment[f"MIGRATIONS_{variable}"] = url
        environment[variable] = url.replace("postgres@", f"{Roles.of(url).app}:secret@")
    with ShopProcess(environment, "--seed") as shop:
        shop.wait_until_ready()
        assert shop.stop() == 0
    assert "postgres" not in shop.output
    with psycopg.connect(urls["product"]) as connection:
        assert connection.execute("SELECT count(*) FROM products").fetchone() == (12,)
    for url in urls.values():
        databases.drop(url)


def test_an_existing_server_is_used_as_told(environment: dict[str, str]) -> None:
    with run_throwaway_server() as server:
        environment |= {"POSTGRES_PORT": str(server.port), "POSTGRES_USER": server.user}
        with ShopProcess(environment) as first:
            assert first.wait() == 1
        assert "add --existing-postgres" in first.output
        with ShopProcess(environment, "--existing-postgres") as second:
            second.wait_until_ready()
            assert second.stop() == 0
        with psycopg.connect(server.url("orderdb")) as connection:
            assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_another_password_is_explained(environment: dict[str, str]) -> None:
    with ShopProcess(environment) as first:
        first.wait_for("schemas")
    with ShopProcess({**environment, "POSTGRES_PASSWORD": "forgotten"}) as second:
        assert second.wait() == 1
    assert "keeps the POSTGRES_USER and POSTGRES_PASSWORD of its first start" in second.output
    assert "forgotten" not in second.output


def test_a_foreign_listener_is_named(environment: dict[str, str]) -> None:
    address = ("127.0.0.1", int(environment["PAYMENTSERVICE_PORT"]))
    with socket.create_server(address), ShopProcess(environment) as shop:
        assert shop.wait() == 1
    assert f"is in use by process {os.getpid()}" in shop.output
