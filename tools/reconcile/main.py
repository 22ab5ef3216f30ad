"""Compares the databases of the shop with each other and with the books of its providers.

Run it with `./bazelw run //tools/reconcile`.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from chassis import settings
from migrations.settings import MigrationSettings
from services.payment.settings import PaymentSettings
from tools.dev import fakes
from tools.dev.shop import ShopSettings
from tools.reconcile.books import Books, open_books
from tools.reconcile.compare import Result, compare
from tools.reconcile.comparisons import BOOK_COMPARISONS, COMPARISONS

PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0


def main() -> None:
    """Run the command line; exit status 1 for a difference, 2 for bad use or an outage."""
    arguments = _parse_arguments()
    urls = settings.load(MigrationSettings).database_urls()
    books = open_books(_load_payment_settings(arguments.provider))
    try:
        results = reconcile(urls, arguments.patience, books)
    except (psycopg.Error, httpx.HTTPError) as error:
        print(f"reconcile: {error}", file=sys.stderr)
        sys.exit(2)
    _print(results)
    sys.exit(any(result.differences for result in results))


def reconcile(
    urls: Mapping[str, str],
    patience_seconds: float,
    books: Mapping[str, Books] = MappingProxyType({}),
) -> list[Result]:
    """Make all comparisons; repeat those that differ, because the shop may be busy.

    The databases are read one after the other, and so an order that changes meanwhile differs.
    `books` are those of the providers that have them elsewhere.

    Raises:
        psycopg.Error: a database cannot be read.
        httpx.HTTPError: the books of a provider cannot be read.
    """
    deadline = time.monotonic() + patience_seconds
    results = compare(urls, [*COMPARISONS, *map(BOOK_COMPARISONS.__getitem__, books)], books)
    while any(result.differences for result in results) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        repeated = [result.comparison for result in results if result.differences]
        again = iter(compare(urls, repeated, books))
        results = [next(again) if result.differences else result for result in results]
    return results


def _load_payment_settings(provider: str | None) -> PaymentSettings:
    if provider is None:
        return settings.load(PaymentSettings)
    given = fakes.payment_settings(settings.load(ShopSettings), provider)
    return settings.load(PaymentSettings, given)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="reconcile",
        description="Compares orders, payments, the ledger, the provider and stock, to the unit.",
        epilog="Exits with 1 if anything differs, and with 2 if a database cannot be read.",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        metavar="SECONDS",
        help="how long a difference may last in a shop that is busy (default: %(default)g)",
    )
    parser.add_argument(
        "--provider",
        choices=fakes.PROVIDERS,
        help="compare with the fake of this payment provider, on which //:bazaar runs"
        " (default: with the providers in PAYMENTSERVICE_PROVIDERS)",
    )
    return parser.parse_args()


def _print(results: Sequence[Result]) -> None:
    table = Table("", "records", "differences")
    for result in results:
        table.add_row(result.comparison.name, f"{result.compared:,}", f"{result.differences:,}")
    console = Console()
    console.print(table)
    for result in results:
        for example in result.examples:
            console.print(f"{result.comparison.name}: {example}", soft_wrap=True, highlight=False)
        if (others := result.differences - len(result.examples)) > 0:
            console.print(f"{result.comparison.name}: {others:,} others")


if __name__ == "__main__":
    main()
