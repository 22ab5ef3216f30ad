"""The command line of the shop in development: `./bazelw run //:bazaar`."""

import argparse
import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack

from chassis import settings
from migrations.schema import SchemaError
from tools.dev import fakes
from tools.dev.lock import LockError
from tools.dev.program import ProgramError
from tools.dev.runner import Runner
from tools.dev.seed import SeedError
from tools.dev.shop import ShopSettings
from tools.postgres.programs import ProgramsError

_DESCRIPTION = "Runs the whole shop on this machine, until Ctrl-C."
_EPILOG = """\
Settings come from .env, and from the environment before that. The runner starts a PostgreSQL
server, on POSTGRES_HOST and POSTGRES_PORT, for the databases that are not elsewhere. One that is
has two URLs: USERSERVICE_DATABASE_URL and so on for its service (DATABASE_URL for the gateway), and
the same name after MIGRATIONS_ for who administers that server. The runner starts none when all
five are elsewhere, when POSTGRES_HOST is another machine, or with --existing-postgres. Its data is
in .data/postgres, all logs are in .data/logs, and the certificates of the programs, which it renews
when it starts, are in .data/tls; remove .data to begin anew.
"""
_HINTS = """\
Ready in {seconds:.1f} s at {url}, logs in {logs}. Try:

  curl {url}/v1/products
  curl {url}/v1/users:register --json '{{"email": "grace@example.com", \
"password": "correct horse", "displayName": "Grace"}}'
  curl {url}/v1/sessions:login --json '{{"email": "grace@example.com", \
"password": "correct horse"}}'

The login returns the access token for: curl --oauth2-bearer TOKEN {url}/v1/orders
The admin of .env may do everything.

Ctrl-C stops everything.
"""


def main() -> None:
    """Run the shop; exit status 0 after a signal, 1 after an error, 78 for bad settings."""
    arguments = _parse_arguments()
    config = settings.load(ShopSettings)
    try:
        asyncio.run(_run_until_signal(config, arguments))
    except (LockError, ProgramError, ProgramsError, SchemaError, SeedError) as error:
        sys.exit(f"\n{error}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bazaar",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", action="store_true", help="add a small catalogue and a user")
    parser.add_argument(
        "--existing-postgres",
        action="store_true",
        help="start no PostgreSQL server: POSTGRES_HOST and POSTGRES_PORT are one that runs",
    )
    parser.add_argument(
        "--provider",
        choices=fakes.PROVIDERS,
        help="charge through a fake of this payment provider, which moves no money and forgets all"
        " when it stops (default: what PAYMENTSERVICE_PROVIDERS says)",
    )
    return parser.parse_args()


async def _run_until_signal(config: ShopSettings, arguments: argparse.Namespace) -> None:
    """Run the shop until a signal comes; a second signal kills what does not stop."""
    loop = asyncio.get_running_loop()
    shop = asyncio.create_task(_run(config, arguments))

    def interrupt() -> None:
        if not shop.cancelling():
            _say("\nStopping; another Ctrl-C kills what does not stop")
        shop.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    await asyncio.wait((shop,))
    if not shop.cancelled():
        shop.result()


async def _run(config: ShopSettings, arguments: argparse.Namespace) -> None:
    """Run the shop until this is cancelled."""
    began = time.monotonic()
    directory = settings.dotenv_path().parent.resolve() / ".data"
    runner = Runner(config, directory, _say, arguments.provider)
    own_postgres = config.has_local_databases() and not arguments.existing_postgres
    _say("Bazaar")
    async with AsyncExitStack() as stack:
        await runner.start(stack, own_postgres=own_postgres, seeded=arguments.seed)
        url = f"http://{config.gateway_endpoint().address}"
        logs = directory / "logs"
        _say(_HINTS.format(seconds=time.monotonic() - began, url=url, logs=logs))
        await runner.watch()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
