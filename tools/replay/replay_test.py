"""The replay of the excerpt, as a program against the whole shop."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tools.dev.testing import ShopProcess, open_environment

REPLAY = Path(__file__).with_name("replay")
EXCERPT = Path(__file__).parent / "testdata" / "online_retail_200.csv"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment, ShopProcess(environment) as shop:
        shop.wait_until_ready()
        yield environment


def run(environment: dict[str, str], path: Path = EXCERPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPLAY, path], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def execute(environment: dict[str, str], database: str, statement: str) -> list[tuple[object, ...]]:
    url = (
        f"postgresql://{environment['POSTGRES_USER']}:{environment['POSTGRES_PASSWORD']}"
        f"@127.0.0.1:{environment['POSTGRES_PORT']}/{database}"
    )
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def ledger(environment: dict[str, str]) -> list[tuple[object, ...]]:
    return [
        *execute(environment, "orderdb", "SELECT count(*), sum(total_minor) FROM orders"),
        *execute(environment, "paymentdb", "SELECT count(*), sum(amount_minor) FROM transactions"),
        *execute(environment, "productdb", "SELECT sum(sold), sum(stocked) FROM stock"),
        *execute(environment, "userdb", "SELECT count(*) FROM users"),
    ]


def test_the_replay_reconciles_and_repeating_it_changes_nothing(
    environment: dict[str, str],
) -> None:
    first = run(environment)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "The shop agrees with the file." in first.stdout
    assert "11,271.06" in first.stdout
    before = ledger(environment)
    again = run(environment)
    assert again.returncode == 0, again.stdout + again.stderr
    assert ledger(environment) == before


@pytest.mark.parametrize(
    ("database", "harm", "repair", "difference"),
    [
        (
            "productdb",
            "UPDATE stock SET available = available - 1, sold = sold + 1 WHERE available > 9",
            "UPDATE stock SET available = available + 1, sold = sold - 1 WHERE available > 8",
            "stock of",
        ),
        (
            "orderdb",
            "UPDATE orders SET total_minor = total_minor + 1 WHERE total_minor > 100000",
            "UPDATE orders SET total_minor = total_minor - 1 WHERE total_minor > 100000",
            "DIFFERENCE  invoice",
        ),
    ],
)
def test_a_shop_that_is_off_by_one_is_found(
    environment: dict[str, str], database: str, harm: str, repair: str, difference: str
) -> None:
    assert run(environment).returncode == 0
    execute(environment, database, harm)
    found = run(environment)
    assert found.returncode == 1
    assert difference in found.stdout
    execute(environment, database, repair)
    assert run(environment).returncode == 0


def test_no_shop_is_a_clear_error(environment: dict[str, str]) -> None:
    done = run({**environment, "APIGATEWAY_PORT": "1"})
    assert done.returncode == 1
    assert "no shop at http://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_file_is_a_clear_error(environment: dict[str, str]) -> None:
    done = run(environment, Path("/nowhere.csv"))
    assert done.returncode == 1
    assert done.stderr.startswith("replay: ")
    assert "Traceback" not in done.stderr
