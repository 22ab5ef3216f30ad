"""The command line of the program: its commands, and the help that explains the environment."""

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from enum import StrEnum

from gateway.settings import explain_variables

_INDENT = 4
_UNKNOWN_NAMES = """\
Any other name that begins with APIGATEWAY_, or that is one typo away from one of those above, is
refused as misspelt. Variables of other programs, such as POSTGRES_DB, are left alone."""


class Command(StrEnum):
    """The commands of the program."""

    SERVE = "serve"
    HEALTH = "health"
    READY = "ready"
    DESCRIBE = "describe"
    OPENAPI = "openapi"
    CODEC = "codec"


_HELP = {
    Command.SERVE: "serve requests until SIGTERM or SIGINT; the default",
    Command.HEALTH: "exit with 0 if the gateway serves, else with 1",
    Command.READY: "exit with 0 if what it needs serves as well",
    Command.DESCRIBE: "print the routes: what each method and path calls, and what it takes",
    Command.OPENAPI: "print the OpenAPI document, as /openapi.json has it",
    Command.CODEC: "print the functions that convert a message type to JSON and back",
}


def parse_command(arguments: Sequence[str]) -> tuple[Command, str]:
    """Return the command and, for `codec`, the full name of a message type.

    End the program with status 2 if the command line is wrong, and with 0 after help.
    """
    parser = _Parser(
        prog="gateway",
        description="Serve gRPC services as REST, by the http rules of a descriptor set.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        parser_class=argparse.ArgumentParser,
    )
    parsers = {name: commands.add_parser(name.value, help=text) for name, text in _HELP.items()}
    parsers[Command.CODEC].add_argument("message", help="for example library.v1.Book")
    given = parser.parse_args(arguments)
    return Command(given.command or Command.SERVE), getattr(given, "message", "")


class _Parser(argparse.ArgumentParser):
    """Explains the variables in its help, and reads what it says of them only then."""

    def format_help(self) -> str:
        self.epilog = _epilog()
        return super().format_help()


def _epilog() -> str:
    width = shutil.get_terminal_size().columns
    indent = " " * _INDENT
    lines = ["environment, or lines of .env (those that print need the descriptor set only):"]
    for names, text in explain_variables():
        lines.append(f"  {names}")
        lines.extend(textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent))
    lines.append("")
    lines.extend(textwrap.wrap(_UNKNOWN_NAMES, width))
    return "\n".join(lines)
