"""The command line of the replay: `./bazelw run //tools/replay -- FILE`."""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from chassis import settings
from tools.client.session import LoginError, Session
from tools.replay import trade
from tools.replay.reconciliation import Books, Reconciliation, Totals, read_books, reconcile
from tools.replay.replay import CONCURRENCY, PAYMENT_METHOD, Outcome, Replay
from tools.replay.shop import Shop, ShopError, to_minor


class ReplaySettings(settings.Settings):
    """Where the shop is, and who logs in."""

    apigateway_host: settings.Host
    apigateway_port: settings.Port
    userservice_admin_email: str
    userservice_admin_password: SecretStr

    def url(self) -> str:
        """Return the URL of the shop."""
        return f"http://{settings.address(self.apigateway_host, self.apigateway_port)}"

    def admin(self) -> Session:
        """Return a session of the admin, as whom the trade of all customers is replayed."""
        password = self.userservice_admin_password.get_secret_value()
        return Session(self.userservice_admin_email, password)


class StepBars:
    """A progress bar for each step, on a terminal's stderr."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("Reading", total=None)
        bars.remove_task(self._task)

    def start(self, step: str, total: int) -> None:
        """Begin a bar under the others."""
        self._task = self._bars.add_task(step, total=total)

    def advance(self, items: int = 1) -> None:
        """Advance the newest bar."""
        self._bars.advance(self._task, items)


def main() -> None:
    """Run the command line; exit status 1 after an error or a difference, 2 for bad use."""
    arguments = _parse_arguments()
    config = settings.load(ReplaySettings)
    url = arguments.url or config.url()
    try:
        read = trade.read(_resolve(arguments.file))
    except (OSError, trade.FormatError) as error:
        sys.exit(f"replay: {error}")
    try:
        agreed = asyncio.run(_replay(read, url, config.admin(), arguments.payment_method))
    except* ShopError as group:
        sys.exit(f"replay: the shop refused: {group.exceptions[0]}")
    except* LoginError as group:
        sys.exit(f"replay: {group.exceptions[0]}")
    except* TimeoutError:
        sys.exit("replay: an order did not become final. Its payment may wait for a customer.")
    except* aiohttp.ClientError as group:
        cause = group.exceptions[0]
        sys.exit(f"replay: no shop at {url}: {cause}. Start it with ./bazelw run //:bazaar")
    sys.exit(0 if agreed else 1)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="replay",
        description="Replays a file of trade through the running shop and reconciles the two."
        " Repeating it changes nothing. It logs in as the admin of USERSERVICE_ADMIN_EMAIL and"
        " USERSERVICE_ADMIN_PASSWORD.",
    )
    parser.add_argument("file", type=Path, help="CSV in the format of the UCI Online Retail set")
    parser.add_argument("--url", help="the shop's address (default: APIGATEWAY_HOST and _PORT)")
    parser.add_argument(
        "--payment-method",
        default=PAYMENT_METHOD,
        metavar="METHOD",
        help='what orders are paid with, for example "paypal:checkout"; payments that need the'
        " customer are approved on the page of a fake provider (default: %(default)s)",
    )
    return parser.parse_args()


def _resolve(path: Path) -> Path:
    """Resolve a path in the directory where it was typed: `bazel run` changes the directory."""
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")) / path


async def _replay(read: trade.Trade, url: str, admin: Session, payment_method: str) -> bool:
    begin = time.monotonic()
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bars = Bars(*columns, console=Console(stderr=True))
    async with Shop(url, admin, connections=CONCURRENCY) as shop:
        with bars:
            replay = Replay(read, shop, StepBars(bars), payment_method)
            await replay.run()
        books = await read_books(shop, replay, read)
    result = reconcile(read, replay, books)
    console = Console()
    console.print(_summary(read, replay.outcome, books, time.monotonic() - begin))
    console.print(_way(result))
    for difference in result.differences:
        console.print(f"DIFFERENCE  {difference}", style="bold red", highlight=False)
    agreed = not result.differences and result.unexplained == Totals(0, 0)
    console.print(
        "The shop agrees with the file." if agreed else "The shop does not agree with the file."
    )
    return agreed


def _summary(read: trade.Trade, outcome: Outcome, books: Books, seconds: float) -> Table:
    table = Table("", "count", "GBP", title="Replay", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("lines read", f"{read.rows:,}", "")
    for reason, count in read.unreadable.items():
        table.add_row(f"  unreadable: {reason}", f"{count:,}", "")
    for name, count in read.count_invoices().items():
        table.add_row(name, f"{count:,}", "")
    table.add_row("orders placed", f"{len(read.sales):,}", "")
    states: dict[str, Counter[str]] = {"count": Counter(), "minor": Counter()}
    for order in books.orders.values():
        state = order["state"].removeprefix("ORDER_STATE_").lower()
        states["count"][state] += 1
        states["minor"][state] += to_minor(order.get("total"))
    for state, count in states["count"].items():
        table.add_row(f"  {state}", f"{count:,}", _pounds(states["minor"][state]))
    for reason, count in Counter(outcome.refusals.values()).items():
        table.add_row(f"  refused: {reason}", f"{count:,}", "")
    table.add_row("charged", f"{len(books.charged):,}", _pounds(books.charged.total()))
    table.add_row("refunded", f"{len(read.returns):,}", _pounds(books.refunded.total()))
    table.add_row("invoice dates dropped: orders have the shop's own", f"{len(read.sales):,}", "")
    rate = len(read.sales) / outcome.order_seconds if outcome.order_seconds else 0.0
    table.add_row("orders a second, through the stream", f"{rate:,.0f}", "")
    table.add_row("seconds in all", f"{seconds:,.1f}", "")
    return table


def _way(result: Reconciliation) -> Table:
    table = Table("", "units", "GBP", title="Reconciliation", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [
        ("the file", result.file),
        *((f"  {reason}", amount) for reason, amount in result.explained.items()),
        ("the shop", result.shop),
        ("unexplained", result.unexplained),
    ]
    for name, amount in rows:
        table.add_row(name, f"{amount.units:,}", _pounds(amount.minor))
    return table


def _pounds(minor: int) -> str:
    sign = "-" if minor < 0 else ""
    return f"{sign}{abs(minor) // 100:,}.{abs(minor) % 100:02}"


if __name__ == "__main__":
    main()
