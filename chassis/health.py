"""The commands by which an orchestrator asks a running service for its health, with gRPC.

They run beside the service, with its settings and its certificates: an image has no other program.
"""

import argparse
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 2.0
"""How long the service may take to respond."""


SERVER = ""
"""The health of a server as a whole."""
STARTED = "started"
"""The name of the health of a server that was ready once, and so has no wrong settings."""


class Command(StrEnum):
    """The commands of a service."""

    SERVE = "serve"
    HEALTH = "health"
    STARTED = "started"
    READY = "ready"


_HELP = {
    Command.SERVE: "serve until SIGTERM or SIGINT; the default",
    Command.HEALTH: "exit with 0 if the running server serves, else with 1",
    Command.STARTED: "exit with 0 if its database has responded as well since the server started",
    Command.READY: "exit with 0 if its database responds as well",
}


def parse_command(program: str, arguments: Sequence[str]) -> Command:
    """Return the command; end the program with status 2 if the command line is wrong."""
    parser = argparse.ArgumentParser(prog=program)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name, text in _HELP.items():
        commands.add_parser(name.value, help=text)
    return Command(parser.parse_args(arguments).command or Command.SERVE)


async def check(channel: grpc.aio.Channel, service: str) -> None:
    """Return if the server serves a service by its full name, or as SERVER or STARTED say.

    End the program with status 1 if it does not.
    """
    health: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        response = await health.Check(request, timeout=TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
