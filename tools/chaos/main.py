"""The command line: `./bazelw run //tools/chaos`."""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import randrange

from migrations.schema import SchemaError
from tools.chaos.report import print_result
from tools.chaos.run import Options, Run
from tools.dev.program import ProgramError
from tools.postgres.programs import ProgramsError

PROGRESS_SECONDS = 10.0
DEFAULT = Options(orders=50_000, kills=2_000, database_restarts=100, freezes=20, seed=0)
MAX_SEED = 10**6

_DESCRIPTION = (
    "Places orders in a shop of its own, with two replicas of each program, while processes are"
    " killed and frozen, the database server crashes, and calls are lost, delayed and duplicated."
    " Then checks that no order was lost, duplicated, oversold, charged twice or left unfinished."
)
_EPILOG = (
    "Exits with 1 if a check finds a violation. The same seed plans the same orders, and the same"
    " faults of programs; when calls have faults depends on time too."
)


def main() -> None:
    """Run the command line; exit status 1 for a violation, an error or Ctrl-C, 2 for bad use."""
    arguments = _parse_arguments()
    directory = Path(tempfile.mkdtemp(prefix="bazaar-chaos-"))
    passed = False
    try:
        passed = asyncio.run(_run_until_signal(_make_options(arguments), directory))
    finally:
        if arguments.keep and not passed:
            print(f"The data and the logs are in {directory}")
        else:
            shutil.rmtree(directory)
    sys.exit(not passed)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=_DESCRIPTION, epilog=_EPILOG)
    numbers = {
        "--orders": "how many orders to place (default: 50,000)",
        "--kills": "how many processes to kill (default: 2,000 in 50,000 orders)",
        "--database-restarts": "how often the database server crashes (default: 100 in 50,000)",
        "--freezes": "how many processes to stop for 35 s (default: 20 in 50,000)",
        "--seed": "plans orders and faults (default: a random one)",
    }
    for option, text in numbers.items():
        parser.add_argument(option, type=int, metavar="N", help=text)
    parser.add_argument(
        "--keep", action="store_true", help="keep the data and the logs of a run that failed"
    )
    arguments = parser.parse_args()
    if any(number is not None and number < 0 for number in vars(arguments).values()):
        parser.error("no number may be negative")
    if arguments.orders == 0:
        parser.error("there must be an order")
    return arguments


def _make_options(arguments: argparse.Namespace) -> Options:
    orders = DEFAULT.orders if arguments.orders is None else arguments.orders

    def scale(given: int | None, default: int) -> int:
        return round(default * orders / DEFAULT.orders) if given is None else given

    return Options(
        orders,
        scale(arguments.kills, DEFAULT.kills),
        scale(arguments.database_restarts, DEFAULT.database_restarts),
        scale(arguments.freezes, DEFAULT.freezes),
        randrange(MAX_SEED) if arguments.seed is None else arguments.seed,
    )


async def _run_until_signal(options: Options, directory: Path) -> bool:
    """Run, and stop early when a signal comes; return whether all checks passed."""
    running = asyncio.create_task(_run(options, directory))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait((running,))
    # An error while everything stops must not hide that it was stopped.
    if running.cancelling():
        _say("Interrupted")
    return not running.cancelled() and running.result()


async def _run(options: Options, directory: Path) -> bool:
    _say(f"Seed {options.seed}: {options}")
    with (directory / "programs.log").open("w", encoding="utf-8") as log:
        run = Run(options, directory, lambda text: print(text, file=log, flush=True))
        reporting = asyncio.create_task(_report_progress(run))
        result = None
        try:
            result = await run.run()
        except* (ProgramError, ProgramsError, SchemaError, TimeoutError) as group:
            _say(f"The run could not be finished: {_find_first(group)!r}")
        finally:
            reporting.cancel()
    if result is None:
        return False
    print_result(options, result)
    return result.passed


def _find_first(error: BaseException) -> BaseException:
    """Return the first exception in groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _report_progress(run: Run) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        seconds = time.monotonic() - began
        left = f", {seconds / run.progress - seconds:,.0f} s left" if run.progress else ""
        _say(f"{seconds:,.0f} s: {run.describe_progress()}{left}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
