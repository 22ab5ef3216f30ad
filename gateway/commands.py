"""The command line of the program: its commands, and the help that explains the environment."""

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from gateway.settings import explain_variables

_INDENT = 4
_UNKNOWN_NAMES = """\
Any other name that begins with APIGATEWAY_, or that is one typo away from one of those above, is
refused as misspelt. Variables of other programs, such as POSTGRES_DB, are left alone."""


class Action(StrEnum):
    """The commands of the program."""

    SERVE = "serve"
    DESCRIBE = "describe"
    OPENAPI = "openapi"
    CODEC = "codec"


class Command(NamedTuple):
    """A command with its argument."""

    action: Action
    message: str = ""
    """The full name of a message type, for `codec`."""


_HELP = {
    Action.SERVE: "serve requests until told to stop; the default",
    Action.DESCRIBE: "print the routes: what each method and path calls, and what it takes",
    Action.OPENAPI: "print the OpenAPI document, as /openapi.json has it",
    Action.CODEC: "print the functions that convert a message type to JSON and back",
}


def parse_command(arguments: Sequence[str]) -> Command:
    """Read the command line; end the program with status 2 if it is wrong, with 0 after help."""
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Serve gRPC services as REST, as a descriptor set says.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", dest="action", metavar="COMMAND")
    parsers = {action: commands.add_parser(action.value, help=_HELP[action]) for action in Action}
    parsers[Action.CODEC].add_argument("message", help="for example library.v1.Book")
    given = parser.parse_args(arguments)
    return Command(Action(given.action or Action.SERVE), getattr(given, "message", ""))


def _epilog() -> str:
    width = shutil.get_terminal_size().columns
    indent = " " * _INDENT
    lines = ["environment, or lines of .env (only serve needs more than the descriptor set):"]
    for names, text in explain_variables():
        lines.append(f"  {names}")
        lines.extend(textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent))
    lines.append("")
    lines.extend(textwrap.wrap(_UNKNOWN_NAMES, width))
    return "\n".join(lines)
