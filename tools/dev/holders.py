"""Which processes have a file open or listen on a TCP port, as far as /proc tells."""

from pathlib import Path

_LISTEN = "0A"
_COMMAND_CHARACTERS = 60


def find_file_holders(path: Path) -> list[int]:
    """Return the ids of the processes that have the file open."""
    return _find_links({str(path.resolve())})


def find_port_holders(port: int) -> list[int]:
    """Return the ids of the processes that listen on the TCP port, whatever the address."""
    return _find_links({f"socket:[{inode}]" for inode in _find_listeners(port)})


def has_listener(port: int) -> bool:
    """Say whether any process listens on the TCP port, also one that cannot be named."""
    return bool(_find_listeners(port))


def describe(process_id: int) -> str:
    """Return the id of a process with the beginning of its command line."""
    try:
        command = Path(f"/proc/{process_id}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"process {process_id}"
    return f"process {process_id} ({command.replace(chr(0), ' ')[:_COMMAND_CHARACTERS].strip()})"


def _find_listeners(port: int) -> list[str]:
    """Return the inodes of the sockets that listen on the TCP port."""
    inodes = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.append(fields[9])
    return inodes


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
