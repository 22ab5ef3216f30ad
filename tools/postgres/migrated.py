"""Makes the data directory of a server with a migrated database of each schema, as a tar archive.

It is called with the path of the archive. Tests start servers from it: see testing.py.
"""

import subprocess
import sys
import tarfile

from migrations import schema
from tools.postgres.server import Server
from tools.postgres.templates import MIGRATED, app_login, template_name
from tools.postgres.throwaway import run_throwaway_server


def main() -> None:
    """Migrate the databases, stop the server and write the archive."""
    (archive,) = sys.argv[1:]
    with run_throwaway_server() as server:
        for name in schema.DATABASES:
            url = server.url(template_name(MIGRATED, name))
            schema.upgrade(name, url, app_url=app_login(url))
        _archive(server, archive)


def _archive(server: Server, archive: str) -> None:
    """Write the archive once nobody writes to the directory any more."""
    directory = str(server.data_directory)
    subprocess.run(server.programs.command("pg_ctl", "stop", "-s", "-D", directory), check=True)
    with tarfile.open(archive, "w") as file:
        file.add(directory, ".")


if __name__ == "__main__":
    main()
