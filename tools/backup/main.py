"""Backs the databases of the shop up: `./bazelw run //tools/backup -- DIRECTORY`."""

import argparse
import datetime as dt
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg

from chassis import settings
from migrations.settings import MigrationSettings
from tools.backup import manifest, programs
from tools.backup.manifest import Dump, Manifest
from tools.backup.snapshots import Snapshot, SnapshotError, open_snapshots
from tools.postgres.programs import Programs, ProgramsError, find_programs

_FAILURES = (OSError, psycopg.Error, SnapshotError, ProgramsError, programs.ProgramError)
_LOCK_WAIT = "--lock-wait-timeout=10000"


def main() -> None:
    """Run the command line; exit with status 1 after an error, 78 for invalid settings."""
    directory = _parse_arguments()
    urls = settings.load(MigrationSettings).database_urls()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            back_up(urls, directory, find_programs(Path(scratch)), _say)
    except _FAILURES as error:
        sys.exit(f"backup: {error}")


def _say(line: str) -> None:
    print(line, flush=True)


def _parse_arguments() -> Path:
    parser = argparse.ArgumentParser(
        prog="backup",
        description="Writes all databases of the shop to a new directory, as of one moment. The"
        " shop may run meanwhile.",
        epilog="The files have all that the databases have, such as the digests of passwords.",
    )
    parser.add_argument("directory", type=Path, help="where the backup goes; it must not exist")
    directory: Path = parser.parse_args().directory
    # `bazel run` changes the directory.
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")) / directory


def back_up(
    urls: Mapping[str, str], directory: Path, tools: Programs, say: Callable[[str], object]
) -> None:
    """Write the databases to a directory, which is there when all of them are written.

    After an error nothing is left.

    Raises:
        OSError: the directory exists, or cannot be written; or another run was interrupted, or is
            in progress.
        psycopg.Error: a database cannot be reached or read.
        SnapshotError: a database has no schema, or its tables were in use.
        ProgramError: pg_dump failed.
    """
    if directory.exists():
        raise FileExistsError(f"{directory} exists: name a new directory")
    # An interrupted run leaves a directory that nobody takes for a backup.
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    try:
        unfinished.mkdir(mode=0o700, parents=True)
    except FileExistsError as error:
        message = f"{unfinished} exists: remove it, unless another backup is in progress"
        raise FileExistsError(message) from error
    try:
        moment = _write(urls, unfinished, tools, say)
        unfinished.rename(directory)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    say(f"written to {directory}, as of {moment:%Y-%m-%d %H:%M:%S} UTC")


def _write(
    urls: Mapping[str, str], directory: Path, tools: Programs, say: Callable[[str], object]
) -> dt.datetime:
    """Write the databases and the manifest to the disk, and return the moment that they are of."""
    with open_snapshots(urls) as snapshots:
        now = dt.datetime.now(dt.UTC)
        dumps = {
            database: _dump(tools, urls[database], snapshot, directory, database, say)
            for database, snapshot in snapshots.items()
        }
    manifest.write(Manifest(time=now, databases=dumps), directory)
    os.sync()  # The directory has its name only when all that is in it is on the disk.
    return now


def _dump(
    tools: Programs,
    url: str,
    snapshot: Snapshot,
    directory: Path,
    database: str,
    say: Callable[[str], object],
) -> Dump:
    begin = time.monotonic()
    path = manifest.find_file(directory, database)
    with path.open("xb") as file:
        path.chmod(0o600)
        options = ("--format=custom", f"--snapshot={snapshot.name}", _LOCK_WAIT)
        programs.run(tools, url, "pg_dump", *options, stdout=file)
    megabytes = path.stat().st_size / 1e6
    say(f"{database:8} {megabytes:10.1f} MB  {time.monotonic() - begin:6.1f} s")
    return Dump(revision=snapshot.revision, sha256=manifest.compute_sha256(path))


if __name__ == "__main__":
    main()
