"""The command line: `./bazelw run //tools/reconcile`."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

import psycopg
from rich.console import Console
from rich.table import Table

from chassis import settings
from migrations.settings import MigrationSettings
from tools.reconcile.comparisons import COMPARISONS, Result, compare

PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0


def main() -> None:
    """Run the command line; exit status 1 for a difference, 2 for bad use or an outage."""
    arguments = _parse_arguments()
    urls = settings.load(MigrationSettings).database_urls()
    try:
        results = reconcile(urls, arguments.patience)
    except psycopg.Error as error:
        print(f"reconcile: {error}", file=sys.stderr)
        sys.exit(2)
    _print(results)
    sys.exit(any(result.differences for result in results))


def reconcile(urls: Mapping[str, str], patience_seconds: float) -> list[Result]:
    """Make all comparisons; repeat those that differ, because the shop may be busy.

    The databases are read one after the other, and so an order that changes meanwhile differs.

    Raises:
        psycopg.Error: a database cannot be read.
    """
    deadline = time.monotonic() + patience_seconds
    results = [compare(urls, comparison) for comparison in COMPARISONS]
    while any(result.differences for result in results) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        results = [
            compare(urls, result.comparison) if result.differences else result for result in results
        ]
    return results


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
