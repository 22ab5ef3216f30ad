"""The program: its table, its exit status, and a database that is down."""

import os
import subprocess
from pathlib import Path

import psycopg

from services.order.testing import Shop, Urls, new_order

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

PROGRAM = Path(__file__).parent / "reconcile"


def run(urls: Urls, *arguments: str, **overrides: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "BAZAAR_ENVIRONMENT": "development",
        "PATH": os.environ["PATH"],
        "DATABASE_URL": urls["user"],
        "MIGRATIONS_DATABASE_URL": urls["user"],
        **{f"{name.upper()}SERVICE_DATABASE_URL": url for name, url in urls.items()},
        **{f"MIGRATIONS_{name.upper()}SERVICE_DATABASE_URL": url for name, url in urls.items()},
        **overrides,
    }
    command = [str(PROGRAM), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


async def test_a_shop_that_agrees_has_a_table_of_zeros(shop: Shop, urls: Urls) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 2))
    await shop.orders.CreateOrder(request)
    done = run(urls)
    assert (done.returncode, done.stderr) == (0, "")
    assert "confirmed orders and charges" in done.stdout


async def test_a_difference_that_lasts_is_described(shop: Shop, urls: Urls) -> None:
    product_id = await shop.new_product()
    with psycopg.connect(urls["product"]) as connection:
        connection.execute("UPDATE stock SET sold = 1, available = available - 1")
    done = run(urls, "--patience=0")
    assert done.returncode == 1
    expected = (
        f"reservations, returns and stock: {product_id}: 0 reserved, 0 sold, but 0 reserved, 1 sold"
    )
    assert expected in done.stdout


def test_a_database_that_is_down_is_no_difference(urls: Urls) -> None:
    done = run(urls, MIGRATIONS_PAYMENTSERVICE_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 2
    assert done.stderr.startswith("reconcile: ")


def test_help_names_the_option(urls: Urls) -> None:
    done = run(urls, "--help")
    assert done.returncode == 0
    assert "--patience" in done.stdout
