"""pg_dump and pg_restore, which never see a password on their command line."""

import os
import subprocess
from typing import IO, Any

from psycopg import conninfo

from tools.postgres.programs import Programs


class ProgramError(Exception):
    """One of the programs failed; the message has the database and what was written to stderr."""


def run(
    programs: Programs,
    url: str,
    *command: str,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
) -> None:
    """Run a program on the database of a URL.

    Raises:
        ProgramError: its exit status is not 0.
    """
    program, *arguments = command
    parameters: dict[str, Any] = dict(conninfo.conninfo_to_dict(url))
    password = parameters.pop("password", None)
    environment = {**os.environ, "PGCONNECT_TIMEOUT": "10"}
    if password:
        environment["PGPASSWORD"] = str(password)
    database = f"--dbname={conninfo.make_conninfo(**parameters)}"
    done = subprocess.run(
        programs.command(program, *arguments, database),
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()
        raise ProgramError(f"{parameters['dbname']}: {message or f'{program} failed'}")
