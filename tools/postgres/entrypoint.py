"""PostgreSQL as the program of an image, for tests. Its data end with the container.

It takes the variables POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_PASSWORD_FILE, POSTGRES_DB and
PGDATA as the official image does, and arguments as the options of `postgres`. It must not run as
root.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tools.postgres.programs import find_programs
from tools.postgres.server import NOT_DURABLE, Server

PORT = 5432
DATA_DIRECTORY = "/tmp/postgresql/data"  # noqa: S108 - The root of the container is read-only.
CLIENTS = "host all all all scram-sha-256\n"
"""A line of pg_hba.conf: clients elsewhere need the password."""


def make_server(environment: Mapping[str, str]) -> Server:
    """Make the data directory and the database, unless there are any; return the server.

    Raises:
        KeyError: neither POSTGRES_PASSWORD nor POSTGRES_PASSWORD_FILE is set.
        OSError: the file cannot be read.
        ServerError: the data directory cannot be made or used.
    """
    data = Path(environment.get("PGDATA", DATA_DIRECTORY))
    user = environment.get("POSTGRES_USER", "postgres")
    password = _read_password(environment)
    # The server takes the place of this process.
    programs = replace(find_programs(data.parent), is_tethered=False)
    server = Server(programs, data, data / "log", PORT, user, password, "*", NOT_DURABLE)
    is_new = not data.exists()
    server.prepare()
    if is_new:
        with (data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
            rules.write(CLIENTS)
        create_database(server, environment.get("POSTGRES_DB", user))
    return server


def _read_password(environment: Mapping[str, str]) -> str:
    if password := environment.get("POSTGRES_PASSWORD"):
        return password
    return Path(environment["POSTGRES_PASSWORD_FILE"]).read_text(encoding="utf-8").rstrip("\n")


def create_database(server: Server, name: str) -> None:
    """Create a database, unless initdb has, before anybody can connect."""
    if name == "postgres":
        return
    quoted = name.replace('"', '""')
    single = ["--single", "-j", "-D", str(server.data_directory), "postgres"]
    subprocess.run(
        server.programs.command("postgres", *single),
        input=f'CREATE DATABASE "{quoted}";\n\n'.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def main() -> None:
    """Become the server."""
    if not (os.environ.get("POSTGRES_PASSWORD") or os.environ.get("POSTGRES_PASSWORD_FILE")):
        sys.exit("POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set.")
    command = [*make_server(os.environ).command(), *sys.argv[1:]]
    os.execv(command[0], command)  # noqa: S606 - There is no shell to start it with.


if __name__ == "__main__":
    main()
