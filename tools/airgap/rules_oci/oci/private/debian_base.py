"""Writes the layer of a base image from Debian's packages: C libraries, certificates and Python.

It has what gcr.io/distroless/cc-debian12 has, and Python beside it, as the toolchain of the
stand-in rules_python is a Python of the machine. There is no command but Python and, if the package
is given, a shell. The same packages make the same bytes.

Called by extensions.bzl with DEBS LAYER PYTHON, where PYTHON is the path that launchers expect.
"""

import gzip
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

UNWANTED = re.compile(
    r"etc/(apt|ca-certificates|default|dpkg)(/|$)|usr/s?bin/(?!(dash|python3\.11|sh)$)"
    r"|usr/lib/[^/]+/gconv(/|$)|usr/lib/python3\.11/(lib2to3|pydoc_data|test)(/|$)"
    r"|usr/share/(?!ca-certificates|common-licenses|doc|zoneinfo)|usr/share/zoneinfo/right(/|$)"
    r"|usr/share/doc/.*/(?!copyright$)"
)
"""Commands, legacy encodings, documentation, and what only package managers read."""
MERGED = {"bin", "lib", "lib64", "sbin"}
"""The directories that are links to those in usr (https://wiki.debian.org/UsrMerge)."""

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\n"
    "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    "etc/group": "root:x:0:\nnonroot:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
"""The files that no package has."""
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"

Entry = tuple[tarfile.TarInfo, bytes]


def place(name: str) -> str:
    """Return where in the image a member of a package is, without a leading or trailing slash."""
    path = name.removeprefix(".").strip("/")
    return f"usr/{path}" if path.partition("/")[0] in MERGED else path


def read_package(package: Path) -> dict[str, Entry]:
    """Return the wanted members of a package, by where they are in the image."""
    unpacked = subprocess.run(
        ["/usr/bin/dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True
    )
    found = {}
    with tarfile.open(fileobj=io.BytesIO(unpacked.stdout)) as archive:
        for member in archive:
            name = place(member.name)
            if name and not UNWANTED.match(name):
                content = archive.extractfile(member) if member.isfile() else None
                found[name] = member, content.read() if content else b""
    return found


def make_file(content: bytes) -> Entry:
    """Return an entry for a file that no package has."""
    header = tarfile.TarInfo()
    header.size, header.mode = len(content), 0o644
    return header, content


def make_link(target: str) -> Entry:
    """Return an entry for a symbolic link."""
    header = tarfile.TarInfo()
    header.type, header.linkname, header.mode = tarfile.SYMTYPE, target, 0o777
    return header, b""


def make_directory(mode: int, owner: int = 0) -> Entry:
    """Return an entry for a directory."""
    header = tarfile.TarInfo()
    header.type, header.mode, header.uid, header.gid = tarfile.DIRTYPE, mode, owner, owner
    return header, b""


def add_own(entries: dict[str, Entry], python: str) -> None:
    """Add what no package has: users, links, the bundle of authorities and directories."""
    authorities = sorted(name for name in entries if name.startswith("usr/share/ca-certificates/"))
    bundle = b"".join(entries.pop(name)[1] for name in authorities if name.endswith(".crt"))
    entries[CERTIFICATES] = make_file(bundle)
    entries.update({name: make_file(content.encode()) for name, content in FILES.items()})
    entries.update({name: make_link(f"usr/{name}") for name in MERGED})
    entries["usr/bin/python3"] = make_link("python3.11")
    entries.setdefault(python.strip("/"), make_link("/usr/bin/python3"))
    entries["home/nonroot"] = make_directory(0o700, 65532)
    entries["tmp"] = make_directory(0o1777)
    for name in list(entries):
        for parent in list(PurePosixPath(name).parents)[:-1]:
            entries.setdefault(str(parent), make_directory(0o755))


def write_layer(entries: dict[str, Entry], layer: Path) -> None:
    """Write a compressed tar of the entries, without times and names of owners."""
    with (
        layer.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, (header, content) in sorted(entries.items()):
            header.name, header.mtime, header.pax_headers = name, 0, {}
            header.uname = header.gname = ""
            if header.islnk():
                header.linkname = place(header.linkname)
            archive.addfile(header, io.BytesIO(content))


def main() -> None:
    """Write the layer that the command line names."""
    debs, layer, python = sys.argv[1:]
    entries: dict[str, Entry] = {}
    for package in sorted(Path(debs).glob("*.deb")):
        entries.update(read_package(package))
    add_own(entries, python)
    write_layer(entries, Path(layer))


if __name__ == "__main__":
    main()
