"""The life of the whole shop: up, down, up again, and all that may go wrong on the way."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from migrations import schema
from tools.dev.holders import find_port_holders
from tools.dev.testing import HOST_VARIABLES, ShopProcess, open_environment
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


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _get(shop: ShopProcess, path: str) -> httpx.Response:
    return httpx.get(shop.url + path, timeout=30, trust_env=False)


def _count_products(shop: ShopProcess) -> int:
    return _get(shop, "/v1/products").text.count('"productId"')


def _find_process(environment: dict[str, str], variable: str) -> int:
    """Return the first of the processes that listen on the port in a variable: it made the rest."""
    return min(find_port_holders(int(environment[variable])))


def test_seed_is_there_and_hints_work(shop: ShopProcess) -> None:
    assert "12 of 12 products, 1 of 1 users added" in shop.output
    assert _count_products(shop) == 12
    assert f"curl {shop.url}/v1/products" in shop.output


def test_a_second_runner_on_the_same_data_is_refused(
    shop: ShopProcess, shared_environment: dict[str, str]
) -> None:
    with ShopProcess(shared_environment) as second:
        assert second.wait() == 1
    assert f"is in use by another run, process {shop.process_id}" in second.output
    assert _count_products(shop) == 12, "the first one is not disturbed"


def test_ports_in_use_are_all_told_at_once(
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
def test_what_dies_is_restarted(
    shop: ShopProcess, shared_environment: dict[str, str], name: str, variable: str
) -> None:
    os.kill(_find_process(shared_environment, variable), signal.SIGKILL)
    shop.wait_for(f"{name} was killed by SIGKILL")
    shop.wait_for(f"{name} is ready again")
    assert _get(shop, "/v1/users").json()["users"]


def test_a_database_that_dies_is_restarted_with_its_data(
    shop: ShopProcess, shared_environment: dict[str, str]
) -> None:
    os.kill(_find_process(shared_environment, "POSTGRES_PORT"), signal.SIGKILL)
    shop.wait_for("postgres is ready again")
    _wait_until(lambda: _get(shop, "/readyz").status_code == httpx.codes.OK)
    assert _count_products(shop) == 12


def test_ctrl_c_ends_everything_and_the_data_stays(environment: dict[str, str]) -> None:
    with ShopProcess(environment, "--seed") as first:
        first.wait_until_ready()
        first.send_signal(signal.SIGINT)
        assert first.wait() == 0
        assert first.find_processes() == []
    stopped = re.findall(r"^  stopped +(.*?) +[0-9.]+ s$", first.output, re.MULTILINE)
    assert stopped == ["gateway", "user, product, order, payment", "postgres"]
    with ShopProcess(environment, "--seed") as second:
        second.wait_until_ready()
        assert "0 of 12 products, 0 of 1 users added" in second.output
        assert _count_products(second) == 12
        second.send_signal(signal.SIGTERM)
        assert second.wait() == 0
        assert second.find_processes() == []


def test_no_process_outlives_a_killed_runner_and_the_next_one_starts(
    environment: dict[str, str],
) -> None:
    with ShopProcess(environment, "--seed") as first:
        first.wait_until_ready()
        assert len(first.find_processes()) > 7
        first.send_signal(signal.SIGKILL)
        first.wait()
        with ShopProcess(environment) as second:
            second.wait_until_ready()
            assert _count_products(second) == 12
            os.kill(second.process_id, signal.SIGKILL)
            second.wait()
        _wait_until(lambda: second.find_processes() == [])


def test_ctrl_c_while_it_starts_leaves_nothing(environment: dict[str, str]) -> None:
    with ShopProcess(environment) as shop:
        shop.wait_for("schemas")
        assert shop.stop() == 0
        assert shop.find_processes() == []


def test_ctrl_c_while_it_waits_for_a_port_ends_it(environment: dict[str, str]) -> None:
    local = ("127.0.0.1", int(environment["USERSERVICE_PORT"]))
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), source_address=local),
        ShopProcess(environment) as shop,
    ):
        shop.wait_for("is still that of a client's connection")
        assert shop.stop() == 0
    assert "USERSERVICE_PORT" not in shop.output, "it did not wait any longer"


def test_the_shop_runs_on_ipv6(environment: dict[str, str]) -> None:
    environment |= dict.fromkeys(HOST_VARIABLES, "::1")
    with ShopProcess(environment, "--seed") as shop:
        shop.wait_until_ready()
        assert shop.url.startswith("http://[::1]:")
        assert _count_products(shop) == 12
        assert shop.stop() == 0


def test_a_misspelt_setting_is_refused_before_anything_starts(environment: dict[str, str]) -> None:
    environment["ORDERSERVICE_DATABSE_URL"] = "postgresql://hunter2@elsewhere/orders"
    with ShopProcess(environment) as shop:
        assert shop.wait() == 78
    assert "did you mean ORDERSERVICE_DATABASE_URL?" in shop.output
    assert "hunter2" not in shop.output


def test_a_misspelt_setting_of_one_program_is_said_by_that_program(
    environment: dict[str, str],
) -> None:
    environment["APIGATEWAY_WORKER"] = "2"
    with ShopProcess(environment) as shop:
        assert shop.wait() == 1
        assert shop.find_processes() == []
    assert "gateway ended with exit status 78" in shop.output
    assert "APIGATEWAY_WORKER is unknown: did you mean APIGATEWAY_WORKERS?" in shop.output


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
        environment[variable] = url
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
