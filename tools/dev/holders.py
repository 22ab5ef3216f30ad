"""Which processes have a file open or listen on a TCP port, as far as /proc shows it."""

from pathlib import Path
from typing import NamedTuple

_LISTEN = "0A"
_COMMAND_CHARACTERS = 60


class _Socket(NamedTuple):
    """A TCP socket; `link` is the target of the links to it in /proc/PID/fd."""

    link: str
    is_listening: bool


def find_file_holders(path: Path) -> list[int]:
    """Return the ids of the processes that have the file open."""
    return _find_links({str(path.resolve())})


def find_port_holders(port: int) -> list[int]:
    """Return the ids of the processes that listen on the TCP port, whatever the address."""
    return _find_links({socket.link for socket in _find_sockets(port) if socket.is_listening})


def find_socket_holders(port: int) -> list[int]:
    """Return the ids of the processes with a TCP socket of that local port, in whatever state."""
    return _find_links({socket.link for socket in _find_sockets(port)})


def has_listener(port: int) -> bool:
    """Return whether any process listens on the TCP port, also one that cannot be named."""
    return any(socket.is_listening for socket in _find_sockets(port))


def describe(process_id: int) -> str:
    """Return the id of a process with the beginning of its command line."""
    try:
        command = Path(f"/proc/{process_id}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"process {process_id}"
    return f"process {process_id} ({command.replace(chr(0), ' ')[:_COMMAND_CHARACTERS].strip()})"


def _find_sockets(port: int) -> list[_Socket]:
    sockets = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                sockets.append(_Socket(f"socket:[{fields[9]}]", fields[3] == _LISTEN))
    return sockets


def _find_links(links: set[str]) -> list[int]:
    processes = Path("/proc").glob("[0-9]*")
    return sorted(int(process.name) for process in processes if _has_open(process, links))


def _has_open(process: Path, links: set[str]) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # It has ended meanwhile, or belongs to somebody else.
        return False
    return any(_read_link(descriptor) in links for descriptor in descriptors)


def _read_link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # It was closed meanwhile.
        return ""
