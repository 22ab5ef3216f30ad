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
    """What the program is to do."""

    SERVE = "serve"
    DESCRIBE = "describe"
    OPENAPI = "openapi"


_HELP = {
    Command.SERVE: "serve requests until told to stop; so does no command",
    Command.DESCRIBE: "print the routes: what each method and path calls, and what it takes",
    Command.OPENAPI: "print the OpenAPI document, as /openapi.json has it",
}


def parse_command(arguments: Sequence[str]) -> Command:
    """Read the command line; end the program with status 2 if it is wrong, with 0 after help."""
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Serve gRPC services as REST, as a descriptor set says.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command, text in _HELP.items():
        commands.add_parser(command.value, help=text)
    return Command(parser.parse_args(arguments).command or Command.SERVE)


def _epilog() -> str:
    width = shutil.get_terminal_size().columns
    indent = " " * _INDENT
    lines = ["environment, or lines of .env (describe and openapi need the descriptor set):"]
    for names, text in explain_variables():
        lines.append(f"  {names}")
        lines.extend(textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent))
    lines.append("")
    lines.extend(textwrap.wrap(_UNKNOWN_NAMES, width))
    return "\n".join(lines)
