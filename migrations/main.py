"""The command line of the migrations: `./bazelw run //migrations -- upgrade`.

The server, its administrator and the passwords of the roles come from the settings.
"""

import argparse
import sys

from chassis import settings
from migrations import schema
from migrations.settings import MigrationSettings


def main() -> None:
    """Run the command line; exit with status 1 after an error, 78 for invalid settings."""
    arguments = _parse_arguments()
    config = settings.load(MigrationSettings)
    try:
        _run(arguments, config.database_urls(), config.app_urls())
    except schema.SchemaError as error:
        sys.exit(f"{error}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="migrations",
        description="Migrates the schemas of the databases, and makes their roles.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("upgrade", "upgrade databases, by default all, to their newest revisions"),
        ("current", "print the current revisions of databases, by default all"),
        ("history", "print all revisions of databases, by default all, oldest first"),
    ):
        command = commands.add_parser(name, help=text)
        # No `choices`: argparse checks the empty list of "all" against them.
        command.add_argument("databases", nargs="*", metavar="DATABASE", default=schema.DATABASES)
    down = commands.add_parser(
        "downgrade", help="downgrade a database, and lose the data of later revisions"
    )
    down.add_argument("database", choices=schema.DATABASES)
    down.add_argument(
        "revision", help=f"a revision of the history, or {schema.BASE!r} for an empty database"
    )
    arguments = parser.parse_args()
    unknown = set(vars(arguments).get("databases", [])) - set(schema.DATABASES)
    if unknown:
        parser.error(
            f"no database {', '.join(sorted(unknown))}; there are {', '.join(schema.DATABASES)}"
        )
    return arguments


def _run(arguments: argparse.Namespace, urls: dict[str, str], app_urls: dict[str, str]) -> None:
    if arguments.command == "downgrade":
        database = arguments.database
        schema.downgrade(database, urls[database], arguments.revision, app_url=app_urls[database])
        _print_current(database, urls[database])
        return
    for database in arguments.databases:
        if arguments.command == "history":
            for script in schema.list_revisions(database):
                print(f"{database:8} {script.revision}  {script.doc}")
            continue
        if arguments.command == "upgrade":
            schema.upgrade(database, urls[database], app_url=app_urls[database])
        _print_current(database, urls[database])


def _print_current(database: str, url: str) -> None:
    print(f"{database:8} {schema.read_revision(database, url) or schema.BASE}")


if __name__ == "__main__":
    main()
