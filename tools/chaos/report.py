"""The tables at the end of a run."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from tools.chaos.run import Options, Result


def print_result(options: Options, result: Result) -> None:
    """Print what happened, then every check with its violations."""
    console = Console()
    console.print(_make_summary(options, result))
    checks = Table("check: none may be found", "checked", "found", title_justify="left")
    for name, finding in result.findings.items():
        checks.add_row(name, f"{finding.checked:,}", f"{finding.violations:,}")
    console.print(checks)
    for name, finding in result.findings.items():
        for example in finding.examples:
            console.print(f"{name}: {example}", soft_wrap=True, highlight=False)
    verdict = "No violation was found." if result.passed else "The shop broke its promises."
    console.print(verdict)


def _make_summary(options: Options, result: Result) -> Table:
    table = Table("", "count", title=f"Seed {options.seed}", title_justify="left")
    table.add_row("orders begun", f"{options.orders:,}")
    _add(table, "in the shop", result.states)
    _add(table, "kill -9", {name: n for name, n in result.kills.items() if name != "postgres"})
    _add(table, "crashes of the database server", {"postgres": result.kills["postgres"]})
    table.add_row("freezes for 35 s", f"{result.freezes:,}")
    _add(table, "faults of calls", result.call_faults)
    _add(table, "responses", result.responses)
    table.add_row("interruptions of the watcher", f"{result.interruptions:,}")
    table.add_row("seconds of load", f"{result.load_seconds:,.1f}")
    final = "never" if result.final_seconds is None else f"{result.final_seconds:,.1f}"
    table.add_row("seconds from the last fault until all orders were final", final)
    table.add_row("seconds in all", f"{result.seconds:,.1f}")
    return table


def _add(table: Table, name: str, counts: Mapping[str, int]) -> None:
    table.add_row(name, f"{sum(counts.values()):,}")
    for key, count in sorted(counts.items()):
        table.add_row(f"  {key.removeprefix('ORDER_STATE_')}", f"{count:,}")
