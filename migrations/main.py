"""The command line of the migrations: `./bazelw run //migrations -- upgrade`.

Which server, and as whom, comes from the settings.
"""

import argparse
import sys

from chassis import settings
from migrations import schema
from migrations.settings import DatabaseSettings


def main() -> None:
    """Run the command line; exit status 1 after an error, 78 for bad settings."""
    arguments = _parse_arguments()
    urls = settings.load(DatabaseSettings).database_urls()
    try:
        _run(arguments, urls)
    except schema.SchemaError as error:
        sys.exit(f"{error}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="migrations", description="Changes the schemas of the databases."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("upgrade", "bring databases, by default all, to their newest revision"),
        ("current", "print the revisions that databases, by default all, are at"),
        ("history", "print the revisions that are written for databases, oldest first"),
    ):
        command = commands.add_parser(name, help=text)
        # No `choices`: argparse checks the empty list of "all" against them.
        command.add_argument("databases", nargs="*", metavar="DATABASE", default=schema.DATABASES)
    down = commands.add_parser("downgrade", help="take one database back, and lose what it adds")
    down.add_argument("database", choices=schema.DATABASES)
    down.add_argument("revision", help=f"a revision of the history, or {schema.BASE!r} for nothing")
    arguments = parser.parse_args()
    unknown = set(vars(arguments).get("databases", [])) - set(schema.DATABASES)
    if unknown:
        parser.error(
            f"no database {', '.join(sorted(unknown))}; there are {', '.join(schema.DATABASES)}"
        )
    return arguments


def _run(arguments: argparse.Namespace, urls: dict[str, str]) -> None:
    if arguments.command == "downgrade":
        database = arguments.database
        schema.downgrade(database, urls[database], arguments.revision)
        _print_current(database, urls[database])
        return
    for database in arguments.databases:
        if arguments.command == "history":
            for script in schema.list_revisions(database):
                print(f"{database:8} {script.revision}  {script.doc}")
            continue
        if arguments.command == "upgrade":
            schema.upgrade(database, urls[database])
        _print_current(database, urls[database])


def _print_current(database: str, url: str) -> None:
    print(f"{database:8} {schema.read_revision(database, url) or schema.BASE}")


if __name__ == "__main__":
    main()
