"""Restores the databases of the shop: `./bazelw run //tools/backup:restore -- DIRECTORY`."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from psycopg import conninfo

from chassis import settings
from migrations import schema
from migrations.settings import MigrationSettings
from tools.backup import manifest, programs
from tools.backup.manifest import Manifest, ManifestError
from tools.backup.transactions import catch_up
from tools.postgres.programs import Programs, ProgramsError, find_programs

_CONNECT_SECONDS = 10
_MAINTENANCE_DATABASE = "postgres"
_EXISTS = "SELECT FROM pg_database WHERE datname = %s"
_HAS_TABLES = (
    "SELECT EXISTS (SELECT FROM pg_tables"
    " WHERE schemaname NOT IN ('pg_catalog', 'information_schema'))"
)


class RestoreError(Exception):
    """A backup does not fit; the message says why. Nothing was changed."""


_FAILURES = (
    OSError,
    psycopg.Error,
    schema.SchemaError,
    RestoreError,
    ManifestError,
    ProgramsError,
    programs.ProgramError,
)


def main() -> None:
    """Run the command line; exit with status 1 after an error, 78 for invalid settings."""
    directory = _parse_arguments()
    config = settings.load(MigrationSettings)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            tools = find_programs(Path(scratch))
            restore(config.database_urls(), config.app_urls(), directory, tools, _say)
    except _FAILURES as error:
        sys.exit(f"restore: {error}")


def _say(line: str) -> None:
    print(line, flush=True)


def _parse_arguments() -> Path:
    parser = argparse.ArgumentParser(
        prog="restore",
        description="Restores all databases of the shop, which must be missing or empty, with their"
        " roles, from what //tools/backup has written.",
    )
    parser.add_argument("directory", type=Path, help="the directory of a backup")
    directory: Path = parser.parse_args().directory
    # `bazel run` changes the directory.
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")) / directory


def restore(
    urls: Mapping[str, str],
    app_urls: Mapping[str, str],
    directory: Path,
    tools: Programs,
    say: Callable[[str], object],
) -> None:
    """Restore the databases, and upgrade them to the newest revisions.

    A database is restored in one transaction. If one fails, drop those before it, and repeat all;
    until then, the migrations refuse them.

    Raises:
        ManifestError: the directory is no complete backup. Nothing was changed.
        RestoreError: a database has tables, or the backup does not fit. Nothing was changed.
        SchemaError: a database or its roles could not be made.
        ProgramError: pg_restore failed.
        psycopg.Error: a database cannot be reached or read.
    """
    backup = manifest.read(directory)
    _check(backup, urls)
    for database, url in urls.items():
        schema.create_database(database, url, app_url=app_urls[database])
        schema.set_restoring(database, url, restoring=True)
    for database, url in urls.items():
        begin = time.monotonic()
        _load(tools, url, manifest.find_file(directory, database))
        catch_up(url, say)
        say(f"{database:8} {time.monotonic() - begin:6.1f} s")
    for database, url in urls.items():
        schema.set_restoring(database, url, restoring=False)
    for database, url in urls.items():
        # It grants the app role its privileges, too.
        schema.upgrade(database, url, app_url=app_urls[database])
    say(f"restored as of {backup.time:%Y-%m-%d %H:%M:%S} UTC. Start the shop, and after a minute")
    say("compare what it has with the books of its providers: ./bazelw run //tools/reconcile")


def _check(backup: Manifest, urls: Mapping[str, str]) -> None:
    if missing := urls.keys() - backup.databases.keys():
        raise RestoreError(f"the backup lacks {', '.join(sorted(missing))}")
    for database, url in urls.items():
        revision = backup.databases[database].revision
        if revision not in {script.revision for script in schema.list_revisions(database)}:
            raise RestoreError(
                f"{database}: the backup is at revision {revision}, which is unknown here: restore"
                " it with the version that wrote it, or a later one"
            )
        if _has_tables(url):
            raise RestoreError(f"{database}: the database has tables: drop it, or name another one")


def _has_tables(url: str) -> bool:
    name = str(conninfo.conninfo_to_dict(url)["dbname"])
    maintenance = conninfo.make_conninfo(url, dbname=_MAINTENANCE_DATABASE)
    with psycopg.connect(maintenance, connect_timeout=_CONNECT_SECONDS) as connection:
        if not connection.execute(_EXISTS, [name]).rowcount:
            return False
    with psycopg.connect(url, connect_timeout=_CONNECT_SECONDS) as connection:
        return connection.execute(_HAS_TABLES).fetchone() == (True,)


def _load(tools: Programs, url: str, path: Path) -> None:
    # Who owns what, and who may do what with it, is for the migrations to say.
    options = ("--no-owner", "--no-privileges")
    with path.open("rb") as file:
        programs.run(
            tools,
            url,
            "pg_restore",
            "--single-transaction",
            "--exit-on-error",
            *options,
            stdin=file,
        )


if __name__ == "__main__":
    main()
