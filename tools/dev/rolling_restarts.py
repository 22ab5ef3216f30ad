"""Rolling restarts under load: `./bazelw run //tools/dev:rolling_restarts`."""

import argparse
import asyncio
import sys

from tools.dev.restarts import restart_in_turn
from tools.dev.shop import SERVICES
from tools.dev.testing import open_environment

_DESCRIPTION = (
    "Restarts the two replicas of each service in turn, while clients use the shop. Exits with 1 if"
    " a request failed, or a replica did not end with status 0."
)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="rolling_restarts", description=_DESCRIPTION)
    parser.add_argument("--restarts", type=int, default=20, help="of each service (default: 20)")
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=SERVICES)
    arguments = parser.parse_args()
    with open_environment() as environment:
        result = asyncio.run(restart_in_turn(environment, arguments.services, arguments.restarts))
    print(result)
    sys.exit(not result.passed)


if __name__ == "__main__":
    main()
